"""Writes docs/findings.md: for each cause of deviations of an implementation the smallest program that shows it.

    python -m tools.findings RESULTS…

Takes the reports of runs on targets that run the agent by a program (qemu-user:bookworm, qiling, …). The behaviours that
deviate there are recorded, and the scripts run on the implementation: a check whose script fails there belongs to the cause
of its operation, answer and expectation. Of the smallest script of a cause every step is left out without which it still
fails in the same way there and passes on this kernel. It goes to docs/findings/IMPLEMENTATION/ID.c.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probes.cli import record
from probes.errors import CommandError
from probes.installation import checkout
from probes.report.counts import counted
from probes.report.reader import ResultsFile
from probes.script import c
from probes.targets import TARGETS
from probes.targets.emulator import EmulatorTarget
from tools.causes import MOST, Finding, Target, findings
from tools.command import run

if TYPE_CHECKING:
    # Not before pytest has imported the plugin, whose assertions it rewrites.
    from probes.script.run import Recorded

PAGE = "docs/findings.md"
#: Characters of an id's list, and of an answer.
_SHOWN = 160
_OTHER_CAUSE = f"the script passes there, shows another cause first, or one that is none of the {MOST} most frequent"
_HEAD = """\
# Findings

What implementations of the i386 socket calls get wrong, a program for each cause. Each is a C file without a library that
exits 0 on Linux, and on the implementation 1, with a line about the call. The answer that is shown here is that of one
version; others in the list can answer otherwise. To run one:

```sh
gcc -m32 -nostdlib -static -o test docs/findings/qemu-user/socket.pair.unknown-flags.c
qemu-i386-static ./test
```

In memory `a5` is where nothing was written. A cause is an operation with the answer that was expected of it and the one
that it gives; a behaviour can be wrong for several. `python -m tools.findings RESULTS…` writes this page and the programs
from the results of `socketcall target run NAME`; `tests/instruments/test_findings.py` runs them.
"""


def target_of(path: Path) -> Target:
    """Reads results. Raises CommandError: they are of no target that runs a program."""
    file = ResultsFile(path)
    about = file.run["target"]
    target = TARGETS.get(about["name"])
    if not isinstance(target, EmulatorTarget):
        raise CommandError(f"{path}: results of {about['name']}, which runs no agent by a program: leave them out")
    found = Target(about["name"], about["implementation"], command_of(target))
    for check in file.checks():
        key = check.key
        if check.verdict == "deviates" and key.gate == "int80":
            found.deviating.add((key.id, key.case, key.route))
    return found


def command_of(target: EmulatorTarget) -> list[str]:
    """Returns the words before the path of a program that a target runs. Raises CommandError: it is not installed."""
    return [str(target.program(lambda line: None)), *target.words]


def write(families: dict[str, tuple[list[Target], list[Finding]]], recorded: Recorded) -> None:
    """Writes the page, and the programs."""
    directory = checkout() / "docs" / "findings"
    shutil.rmtree(directory, ignore_errors=True)
    parts = [_HEAD]
    for family, (targets, found) in families.items():
        into = directory / family
        into.mkdir(parents=True)
        versions = ", ".join(f"{target.implementation} (`{target.name}`)" for target in targets)
        total = sum(len(target.deviating) for target in targets)
        shown = sum(len(checks) for finding in found for checks in finding.checks.values())
        parts.append(
            f"\n## {family}\n\n{versions}. {counted(total, 'check')} through `int $0x80` deviate; {shown} of them fail as"
            f" scripts too, for {counted(len(found), 'cause')}.\n"
        )
        used: set[str] = set()
        for finding in found:
            name = next(n for number in range(1, 1000) if (n := _name(finding.script.id, number)) not in used)
            used.add(name)
            (into / f"{name}.c").write_text(c.program([finding.script]))
            parts.append(_section(finding, f"findings/{family}/{name}.c", name, len(targets)))
        parts.append(_rest(targets, found, recorded))
    (checkout() / PAGE).write_text("".join(parts))


def _name(id: str, number: int) -> str:
    return id if number == 1 else f"{id}-{number}"


def _section(finding: Finding, path: str, name: str, targets: int) -> str:
    """Returns the part of the page about one finding."""
    script, ids = finding.script, sorted({key[0] for keys in finding.checks.values() for key in keys})
    count = sum(map(len, finding.checks.values()))
    others = [id for id in ids if id != script.id]
    lines = [f"\n### {name}\n", f"\n{script.statement}\n", f"\n- source: {script.source}\n"]
    lines.append(f"- answer: `{script.checks[0].case or 'the call'}`: `{_shortened(finding.line)}`\n")
    lines.append(f"- program: [{path}]({path})\n")
    if len(finding.fails_on) < targets:
        lines.append(f"- on: {', '.join(target.implementation for target in finding.fails_on)}\n")
    also = f"; also {', '.join(others)}" if others else ""
    lines.append(f"- {counted(count, 'check')}{also if len(also) < _SHOWN else also[:_SHOWN] + ' …'}\n")
    return "".join(lines)


def _shortened(line: str) -> str:
    """Returns a line without backticks, whose bytes, if they are many, are the first of them."""
    return re.sub(r"((?: [0-9a-f]{2}){16})(?: [0-9a-f]{2})+", r"\1 …", line.replace("`", "'"))


def _rest(targets: Sequence[Target], found: Sequence[Finding], recorded: Recorded) -> str:
    """Returns the part of the page about deviations that no program shows."""
    shown = {key for finding in found for keys in finding.checks.values() for key in keys}
    left: dict[str, int] = defaultdict(int)
    for target in targets:
        for key in target.deviating - shown:
            left[key[0]] += 1
    if not left:
        return ""
    whys = {missing.id: missing.why for missing in reversed(recorded.missing)}
    parts = {one.id: one.left_out[0].left_out for one in reversed(recorded.scripts) if one.left_out}
    lines = [
        "\n### Without a program\n\nThese deviate too, in checks that a script does not have, or does not show:\n\n"
    ]
    for id in sorted(left):
        why = parts.get(id) or whys.get(id) or _OTHER_CAUSE
        lines.append(f"- {id} ({counted(left[id], 'check')}): {why}\n")
    return "".join(lines)


def main(words: Sequence[str]) -> int:
    """Reads results, records, and writes the page. Raises CommandError."""
    parser = argparse.ArgumentParser(prog="python -m tools.findings")
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS")
    targets = [target_of(path) for path in parser.parse_args(words).results]
    ids = sorted({id for target in targets for id, _, _ in target.deviating})
    if not ids:
        raise CommandError("nothing deviates in these results: there is nothing to find")
    chosen = argparse.Namespace(ids=ids, isolation=None)
    recorded = record.recorded(chosen)
    record.drop_failures(recorded, None)
    families: dict[str, tuple[list[Target], list[Finding]]] = {}
    for family in dict.fromkeys(target.family for target in targets):
        mine = [target for target in targets if target.family == family]
        families[family] = mine, findings(mine, recorded)
    write(families, recorded)
    return 0


if __name__ == "__main__":
    run(main)

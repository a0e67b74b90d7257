"""Replays scripts on this kernel, in a sandbox: genuine Linux must give every answer that they expect."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from probes.errors import CommandError
from probes.sandbox import messages, namespaces, sandbox, trial
from probes.sandbox.channel import Channel
from probes.sandbox.sandbox import CannotSandbox, SandboxSpec
from probes.sandbox.work import work_directory
from probes.script import elf
from probes.script.script import Script

_LINE = re.compile(r"(not ok|ok) (\d+) [^#]*(?:# (.*))?")
#: Seconds for all scripts, and for each.
_DEADLINE, _EACH = 60.0, 2.0
#: Seconds to read what the programs printed, after that.
_GRACE = 10.0
_FILE = "replay"


@dataclass(frozen=True)
class Outcome:
    """Says how a check of a script came out. `why` is the answer that is not as expected, or what else there is to say."""

    ok: bool
    why: str = ""

    @property
    def skipped(self) -> bool:
        """Returns True if the script could not be prepared."""
        return self.ok and bool(self.why)


def failures(scripts: Sequence[Script], isolation: str | None = None) -> dict[int, str]:
    """Returns, by the index of its script, the first answer that is not as expected, or why a script cannot run.

    Raises CommandError: the program cannot run in a sandbox.
    """
    found: dict[int, str] = {}
    for index, (script, checks) in enumerate(zip(scripts, outcomes(scripts, isolation=isolation), strict=True)):
        for check, outcome in zip(script.judged, checks, strict=True):
            if not outcome.ok or outcome.why:
                found.setdefault(index, f"{elf.name_of(script, check)}: {outcome.why}")
    return found


def outcomes(
    scripts: Sequence[Script],
    command: Sequence[str] = (),
    isolation: str | None = None,
    seconds: int = elf.SECONDS,
    at_once: int = 1,
) -> list[list[Outcome]]:
    """Runs scripts, by a command if one is given, and returns the outcome of each check that each script judges.

    `seconds` is what a script may take, `at_once` how many run at a time: those that wait do not hold up the others.
    Raises CommandError: the program cannot run in a sandbox.
    """
    # Neighbours are alike: those that wait are spread over the programs.
    parts = [scripts[first::at_once] for first in range(min(at_once, len(scripts)))]
    programs = [elf.program(part, seconds) for part in parts]
    found: list[list[Outcome]] = [[] for _ in scripts]
    for first, text in enumerate(_outputs(programs, max(map(len, parts), default=0), command, isolation)):
        found[first::at_once] = _read(parts[first], text)
    return found


def _read(scripts: Sequence[Script], text: str) -> Iterator[list[Outcome]]:
    """Yields the outcomes of each script from what their program printed."""
    said: dict[str, str] = {}
    lines: dict[int, Outcome] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            name, _, rest = line[2:].partition(": ")
            said.setdefault(name, rest)
        elif (match := _LINE.fullmatch(line)) is not None:
            name = line.partition(f" {match[2]} ")[2].partition(" # ")[0]
            why = said.get(name) or match[3] or ""
            lines[int(match[2])] = Outcome(match[1] == "ok", why if match[1] != "ok" or match[3] else "")
            said.pop(name, None)
    numbers = count(1)
    for script in scripts:
        yield [
            lines.get(next(numbers), Outcome(False, "the program ended before, or not at all")) for _ in script.judged
        ]


def _outputs(programs: Sequence[bytes], scripts: int, command: Sequence[str], isolation: str | None) -> list[str]:
    """Runs programs of so many scripts at once in a sandbox, and returns what each printed. Raises CommandError."""
    deadline = (_DEADLINE + _EACH * scripts) * sandbox.slowness()
    channel = Channel()

    def body() -> None:
        end = time.monotonic() + deadline
        running = []
        for number, program in enumerate(programs):
            path = Path(f"{_FILE}{number}")
            path.write_bytes(program)
            path.chmod(0o755)
            words = [*command, str(path.absolute())]
            with path.with_suffix(".out").open("wb") as output:
                # Standard input is the user's, who may pipe something into the command.
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True
                )
                running.append((process, output.name))
        for process, _ in running:
            # What an implementation without alarm(2) does not end has printed what came before.
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        for process, _ in running:
            # The program may have left children in its process group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed = [Path(name).read_text(errors="replace") for _, name in running]
        channel.send(messages.Report({"output": printed}))

    ids = 2 if os.geteuid() == 0 and namespaces.has_other_ids() else 1
    try:
        with work_directory() as work:
            spec = SandboxSpec(trace="none", isolation=trial.find(isolation, calls=False).isolation, ids=ids)
            result = sandbox.run(body, spec, channel, work, deadline + _GRACE)
    except CannotSandbox as error:
        raise CommandError(f"no sandbox: {error}") from error
    for message in result.messages:
        if isinstance(message, messages.Report):
            return list(message.data["output"])
    raise CommandError("the scripts ended the sandbox in which they were replayed", 3)

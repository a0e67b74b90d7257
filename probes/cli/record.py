"""Implements `socketcall record`: writes the calls of behaviours as a C program, or as a program that prints KTAP."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from probes.cli import programs, streams
from probes.cli.collection import pytest_arguments, run_pytest
from probes.errors import CommandError
from probes.plugin import options

if TYPE_CHECKING:
    from probes.script.run import Recorded, Recorder
    from probes.script.script import Script

_FORMS = ("c", "elf")
#: Options of `check` that choose what is recorded.
_OPTIONS = ("route", "only", "case", "isolation", "tests")
#: Characters of a reason that a line shows.
_SHOWN = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ids, file and form, and the options of `check` that choose behaviours."""
    parser.epilog = (
        "exit status: 0 the file is written, 2 usage or nothing can be recorded; what is left out is named on stderr"
    )
    parser.add_argument("ids", nargs="+", metavar="ID-GLOB", help="behaviours to record")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="FILE.c: a C program; FILE.elf: a program"
    )
    parser.add_argument("--form", choices=_FORMS, help="which of the two, whatever the name of the file ends with")
    for option in options.OPTIONS:
        if option.name in _OPTIONS:
            option.add_to(parser)


def main(args: argparse.Namespace) -> int:
    """Records, replays and writes. Raises CommandError: wrong arguments, or no behaviour can be recorded."""
    form = args.form or args.output.suffix[1:]
    if form not in _FORMS:
        raise CommandError(
            f"-o {args.output}: the name ends with neither .c nor .elf; choose by --form c or --form elf"
        )
    programs.require_place(args.output)
    made = recorded(args)
    drop_failures(made, args.isolation)
    lines = _left_out(made)
    for line in lines:
        streams.say(line)
    if not made.scripts and not lines and args.case:
        raise CommandError(f"--case: no check of these behaviours has a case that matches {args.case!r}")
    if not made.scripts:
        raise CommandError("nothing is written: none of these behaviours can be recorded")
    programs.write(args.output, _program(form, made.scripts, lines), 0o777 if form == "elf" else 0o666)
    return 0


def recorded(args: argparse.Namespace) -> Recorded:
    """Returns scripts of the tests that the arguments choose. Raises CommandError."""
    plugin = _Plugin()
    chosen = options.words(args, lambda option: option.name in _OPTIONS and option.plugin)
    run_pytest([*pytest_arguments(args), *chosen, "--seed=1", "--collect-only", "-p", "no:terminal"], plugin)
    recorder = plugin.recorder
    if recorder is None:
        raise CommandError("nothing was collected")
    if recorder.errors:
        raise CommandError(f"cannot collect {recorder.errors[0]}")
    return recorder.recorded


class _Plugin:
    """Is a plugin that registers the recorder once pytest has imported the other plugins, whose assertions it rewrites."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        """Registers it."""
        from probes.script.run import Recorder

        self.recorder = Recorder()
        config.pluginmanager.register(self.recorder)


def drop_failures(recorded: Recorded, isolation: str | None) -> None:
    """Leaves out the scripts that this kernel does not answer as they expect."""
    from probes.script import replay
    from probes.script.run import NotRecorded

    failed = replay.failures(recorded.scripts, isolation) if recorded.scripts else {}
    for index, why in failed.items():
        script = recorded.scripts[index]
        recorded.missing.append(NotRecorded(script.id, script.route, f"its replay differs here: {why}"))
    recorded.scripts = [script for index, script in enumerate(recorded.scripts) if index not in failed]


def _left_out(recorded: Recorded) -> list[str]:
    """Returns a line for each behaviour of which a test, or a check, is not recorded, with the reasons."""
    from probes.script.script import NOT_CHOSEN

    tests: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    checks: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for missing in recorded.missing:
        if missing.why == NOT_CHOSEN:
            continue
        tests[missing.id][missing.why] += 1
    for script in recorded.scripts:
        for check in script.left_out:
            checks[script.id][check.left_out] += 1
    partly = {script.id for script in recorded.scripts}
    lines = []
    for id in sorted({*tests, *checks}):
        whys = [f"{why[:_SHOWN]} ({_count(count, 'test')})" for why, count in tests.get(id, {}).items()]
        whys += [f"{why[:_SHOWN]} ({_count(count, 'check')})" for why, count in checks.get(id, {}).items()]
        lines.append(f"{id}: {'recorded in part' if id in partly else 'not recordable'}: {'; '.join(whys)}")
    return lines


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _program(form: str, scripts: list[Script], missing: list[str]) -> bytes:
    from probes.script import c, elf

    return elf.program(scripts) if form == "elf" else c.program(scripts, missing).encode()

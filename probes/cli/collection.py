"""Collects the tests of behaviours with pytest."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from probes import interrupts
from probes.errors import CommandError
from probes.installation import suite, write_no_bytecode
from probes.plugin import options

#: The directory of the tests of the suite itself.
INSTRUMENTS = "instruments"


def pytest_arguments(args: argparse.Namespace) -> list[str]:
    """Returns the arguments with which pytest finds the tests and the plugin. Raises CommandError: no such tests.

    `args` may lack what `socketcall check` alone has: the ids and --tests.
    """
    write_no_bytecode()
    root = suite()
    given = getattr(args, "tests", None)
    tests = Path(given).absolute() if given else root / "tests"
    if not tests.is_dir():
        raise CommandError(f"--tests: {tests} is not a directory; name one that holds DIRECTORY/test_*.py")
    plugins = ["-p", "probes.testing.fixtures", "-p", "probes.plugin.plugin", "-p", "no:cacheprovider"]
    # It imports hypothesis at the end of every session, used or not: as long as all other imports together.
    plugins += ["-p", "no:hypothesispytest"]
    # Behaviours judge by `expect`: rewritten assertions would say nothing more, and pytest would compile every module anew.
    plugins.append("--assert=plain")
    where = ["-c", str(root / "pyproject.toml"), f"--rootdir={tests.parent}", f"--ignore={tests / INSTRUMENTS}"]
    globs = [f"--behaviour={glob}" for glob in getattr(args, "ids", ())]
    return [*map(str, _directories(tests, args)), *plugins, *where, *globs]


def _directories(tests: Path, args: argparse.Namespace) -> list[Path]:
    """Returns the directories that hold the behaviours which the ids name: an id begins with the name of its directory."""
    names = sorted({glob.partition(".")[0] for glob in getattr(args, "ids", ())})
    found = [tests / name for name in names if name.isalnum() and name != INSTRUMENTS and (tests / name).is_dir()]
    # A list of known deviations is held against all ids.
    if not names or len(found) < len(names) or getattr(args, "expect", None):
        return [tests]
    return found


def choosing_arguments(args: argparse.Namespace) -> list[str]:
    """Returns the options that choose tests."""
    return options.words(args, lambda option: option.chooses)


def collected(args: argparse.Namespace, chosen: Sequence[str] = ()) -> list[pytest.Item]:
    """Returns the tests that a check with these arguments would run. Raises CommandError: they cannot be collected."""
    collector = _Collector()
    # Nothing runs: there is no output to capture, no log, no unraisable exception to look for in a collection of garbage.
    left_out = [word for name in ("terminal", "unraisableexception") for word in ("-p", f"no:{name}")]
    run_pytest([*pytest_arguments(args), *chosen, "--collect-only", *left_out], collector)
    if collector.errors:
        raise CommandError(f"cannot collect {collector.errors[0]}")
    return collector.items


def run_pytest(arguments: Sequence[str], plugin: object) -> int:
    """Runs pytest, and returns its exit status.

    Raises CommandError for what pytest calls a usage error, or an internal error; EndedBySignal if a signal ended it.
    """
    watch = _Watch()
    with watch:
        code = pytest.main(list(arguments), plugins=[plugin, watch])
    if watch.ended_by is not None:
        raise watch.ended_by
    # A signal whose exception a destructor or a hook dropped.
    interrupts.raise_received()
    if watch.failed is not None:
        raise watch.failed
    if watch.internal_error:
        why = f"internal error: {watch.internal_error}"
        raise CommandError(f"{why}; report it with the output of the command with {interrupts.TRACEBACK}=1", 3)
    if code == pytest.ExitCode.USAGE_ERROR:
        raise CommandError(watch.usage_error())
    return int(code)


class _Watch:
    """Is a plugin that keeps the error by which pytest ends, which pytest prints in several lines and its own form."""

    def __init__(self) -> None:
        self._stderr = sys.stderr
        self._caught = io.StringIO()
        self.internal_error = ""
        #: An error of this machine that ended the session: no memory, no descriptor.
        self.failed: OSError | MemoryError | None = None
        #: The exception of the signal that ended the session.
        self.ended_by: KeyboardInterrupt | None = None

    def __enter__(self) -> None:
        sys.stderr = self._caught

    def __exit__(self, *_: object) -> None:
        sys.stderr = self._stderr

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self) -> Generator[None, object, object]:
        """Leaves stderr to the session; what pytest writes before and after are its errors."""
        sys.stderr = self._stderr
        try:
            return (yield)
        finally:
            sys.stderr = self._caught

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ends the session without a traceback, unless that is asked for. Raises pytest.exit.Exception."""
        if os.environ.get(interrupts.TRACEBACK):
            return
        if isinstance(excinfo.value, OSError | MemoryError):
            self.failed = excinfo.value
        self.internal_error = " ".join(f"{excinfo.typename}: {excinfo.value}".split())
        sys.stderr = self._caught
        raise pytest.exit.Exception(self.internal_error, returncode=int(pytest.ExitCode.INTERNAL_ERROR))

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keeps the end by a signal; Session.Interrupted, by which pytest ends itself, is a KeyboardInterrupt too."""
        if isinstance(excinfo.value, KeyboardInterrupt) and not isinstance(excinfo.value, pytest.Session.Interrupted):
            self.ended_by = excinfo.value

    def usage_error(self) -> str:
        """Returns the message of pytest's error, without its usage text."""
        text = self._caught.getvalue()
        _, is_parsers, said = text.partition(": error: ")
        if is_parsers:
            return f"pytest: {said.splitlines()[0]}; see `pytest --help` for what follows --"
        return " ".join(text.replace("ERROR: ", "").split()) or "pytest refused its arguments"


class _Collector:
    """Is a plugin that keeps what pytest collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.errors: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keeps the tests."""
        self.items = list(session.items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps the last line of an error."""
        if report.failed:
            self.errors.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")

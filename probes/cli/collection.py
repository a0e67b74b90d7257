"""Collects the tests of behaviours with pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from probes.errors import CommandError
from probes.installation import suite, write_no_bytecode
from probes.plugin import options


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
    where = ["-c", str(root / "pyproject.toml"), f"--rootdir={tests.parent}", f"--ignore={tests / 'instruments'}"]
    globs = [f"--behaviour={glob}" for glob in getattr(args, "ids", ())]
    return [str(tests), *plugins, *where, *globs]


def choosing_arguments(args: argparse.Namespace) -> list[str]:
    """Returns the options that choose tests."""
    return options.words(args, lambda option: option.chooses)


def collected(args: argparse.Namespace, chosen: Sequence[str] = ()) -> list[pytest.Item]:
    """Returns the tests that a check with these arguments would run. Raises CommandError: they cannot be collected."""
    collector = _Collector()
    code = pytest.main([*pytest_arguments(args), *chosen, "--collect-only", "-p", "no:terminal"], plugins=[collector])
    if collector.errors:
        raise CommandError(f"cannot collect {collector.errors[0]}")
    if code == pytest.ExitCode.USAGE_ERROR:
        sys.exit(2)
    return collector.items


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

"""Implements `socketcall check`: judges behaviours on this kernel."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from probes.cli import streams
from probes.errors import CommandError
from probes.plugin import options
from probes.plugin.options import Option
from probes.report.counts import overall

# What needs pytest is imported when the arguments are parsed: --help and a wrong option need no test.
if TYPE_CHECKING:
    import pytest

    from probes.plugin.run_report import RunReport

EXIT = """exit status: 0 all as expected, 1 something deviates, 2 usage or could not start, 3 nothing deviates but
something broke, was lost or did not run"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ids and options; arguments for pytest follow --, as args.rest."""
    parser.epilog = EXIT
    parser.add_argument("ids", nargs="*", metavar="ID-GLOB", help="behaviours to judge (default: all)")
    options.add_to_command(parser)


def main(args: argparse.Namespace) -> int:
    """Judges behaviours, and returns the exit status. Raises CommandError: the run cannot start."""
    from probes.cli.collection import pytest_arguments, run_pytest
    from probes.sandbox import trial

    if args.list:
        return _list(args)
    trial.require_proc()
    passed = options.words(args, _goes_to_plugin)
    if args.fail_fast:
        passed.append("-x")
    if not sys.stdout.isatty():
        passed.append("--no-progress")
    elif os.environ.get("TERM", "dumb") != "dumb" and not args.rest:
        # (Arguments of pytest may give the terminal to a debugger or to the tests.)
        passed.append("--progress-line")
    run = _Run()
    arguments = [*pytest_arguments(args), "-q", "--no-header", "--tb=no", "-rN", *passed, *args.rest]
    with streams.lasting_stdout() as written:
        code = run_pytest(arguments, run)
    return overall(run.status(code), 0 if written() else 3)


def _goes_to_plugin(option: Option) -> bool:
    return option.command and option.plugin


class _Run:
    """Is a plugin that keeps what the exit status depends on."""

    def __init__(self) -> None:
        #: The plugin that has the status and the counts; None if the session did not end.
        self._report: RunReport | None = None
        self._failed_collection = False

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keeps the report of the run."""
        self._report = session.config.pluginmanager.get_plugin("socketcall")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps whether a module could not be collected."""
        self._failed_collection |= report.failed

    def status(self, code: int) -> int:
        """Returns the exit status of `check` for an exit status of pytest. Raises CommandError: nothing was judged."""
        import pytest

        if self._report is not None and self._report.failure:
            raise CommandError(self._report.failure, overall(self._report.status, 3))
        if code == pytest.ExitCode.INTERRUPTED and not self._failed_collection:
            return 130
        if self._report is None or self._failed_collection:
            return 3
        if self._report.unmatched_case:
            raise CommandError(self._report.unmatched_case)
        status = self._report.status
        if status == 3 and not self._report.counts.all["conforms"]:
            streams.say("nothing could be judged; the results name what each test lacked")
        return status


def _list(args: argparse.Namespace) -> int:
    from probes.cli.collection import choosing_arguments, collected

    items = collected(args, choosing_arguments(args))
    # Not before pytest has imported the plugin, whose assertions it rewrites.
    from probes.plugin.run_facts import key_of

    for item in items:
        key = key_of(item)
        print(key)
    return 0

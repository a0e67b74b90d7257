"""A run as it happens, one JSON line after the other, for whoever judges on another machine (probes.targets.remote).

{type: run, …facts}  {type: planned, tests: {test: key}}  then {type: started, test} and {type: test, test, behaviour,
checks, evidence} for each, and {type: end}. No end line: the machine or the way to it is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest

from probes.plugin.run_facts import run_facts
from probes.plugin.run_report import planned


class Stream:
    """A plugin that tells the lines to a descriptor that somebody else opened."""

    def __init__(self, config: pytest.Config, descriptor: int, deadline: Callable[[], float | None]) -> None:
        """`deadline` gives the seconds that a test may take."""
        self._config, self._descriptor, self._deadline = config, descriptor, deadline
        self._file: IO[str] | None = None

    def pytest_sessionstart(self) -> None:
        """Takes the descriptor. Raises UsageError: there is none."""
        try:
            # A copy that programs in sandboxes do not get.
            self._file = os.fdopen(os.dup(self._descriptor), "w", encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(f"--stream {self._descriptor}: {error.strerror}; open it first") from error
        self._say("run", **run_facts(self._config))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """What is to come: not told at the end of collection, which comes for a run that ends there as well."""
        self._say("planned", tests=planned(session), deadline=self._deadline())

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """What begins, so that it is known if nothing more is heard."""
        self._say("started", test=nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What a test brought."""
        if (carried := getattr(report, "socketcall", None)) is not None:
            self._say("test", test=report.nodeid, **carried)

    def pytest_sessionfinish(self) -> None:
        """That nothing more comes."""
        self._say("end")

    def _say(self, type: str, **line: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"type": type, **line}, separators=(",", ":")) + "\n")
            self._file.flush()


class Reader:
    """Takes the lines apart, from bytes as they arrive."""

    def __init__(self) -> None:
        self._rest = b""

    def lines(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The lines that are whole by now. Raises ValueError for one that is none of a stream."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for text in whole:
            try:
                line = json.loads(text)
                line["type"]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{text[:80]!r} is no line of a stream") from error
            yield line

"""Streams a run as it happens, one JSON line each, to the process that started it (probes.targets.remote).

{type: run, …facts}  {type: planned, tests: {test: key}}  then {type: started, test} and {type: test, test, behaviour,
checks, evidence} for each, and {type: end}. Without an end line the machine, or the connection to it, is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest

from probes.plugin.run_facts import planned, run_facts


class Stream:
    """Writes the lines to a descriptor that the process inherited."""

    def __init__(self, config: pytest.Config, descriptor: int, deadline: Callable[[], float | None]) -> None:
        """Takes the descriptor. `deadline` gives the seconds that a test may take."""
        self._config, self._descriptor, self._deadline = config, descriptor, deadline
        self._file: IO[str] | None = None

    def pytest_sessionstart(self) -> None:
        """Opens the descriptor. Raises UsageError: it is not open."""
        try:
            # A copy that programs in sandboxes do not get.
            self._file = os.fdopen(os.dup(self._descriptor), "w", encoding="utf-8")
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else "no descriptor has this number"
            raise pytest.UsageError(f"--stream {self._descriptor}: {why}; open it first") from error
        self._send("run", **run_facts(self._config))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Sends the keys of the tests: not at the end of collection, with which --collect-only ends too."""
        tests = {test: key.as_json() for test, key in planned(session).items()}
        self._send("planned", tests=tests, deadline=self._deadline())

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Sends which test begins: if nothing follows, it is the one that was lost."""
        self._send("started", test=nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sends what a test brought."""
        if (judged := getattr(report, "socketcall", None)) is not None:
            self._send("test", test=report.nodeid, **judged.as_json())

    def pytest_sessionfinish(self) -> None:
        """Sends the end line."""
        self._send("end")

    def _send(self, type: str, **line: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"type": type, **line}, separators=(",", ":")) + "\n")
            self._file.flush()


class Reader:
    """Splits the bytes of a stream into lines as they arrive."""

    def __init__(self) -> None:
        """Starts at the beginning of a line."""
        self._rest = b""

    def lines(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yields the lines that are complete. Raises ValueError for one that is not of a stream."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for text in whole:
            try:
                line = json.loads(text)
                line["type"]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{text[:80]!r} is not a line of a stream") from error
            yield line

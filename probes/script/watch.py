"""Notes what a recorded test expects: by which results, and which bytes of memory, each check is judged."""

from __future__ import annotations

from collections.abc import Sequence

from probes.abi.operations import RETURN_ZERO
from probes.entry.calls import Output
from probes.entry.gate import Result
from probes.report.check import Json
from probes.script.log import Log, RecordedResult
from probes.script.script import NOT_CHOSEN
from probes.script.seen import Seen, SeenInt
from probes.testing import expect
from probes.testing.expect import Expectation
from probes.testing.reference import KernelDifference


class Watch:
    """Notes what the test announces, judges and needs."""

    def __init__(self, log: Log) -> None:
        """Takes the log that the checks go to."""
        self._log = log
        self._index: dict[int, int] = {}

    def announced(self, expectation: Expectation, value: object) -> None:
        """Notes a check."""
        self._index[expectation.number] = len(self._log.checks)
        why = "genuine kernels differ in it" if isinstance(value, KernelDifference) else ""
        if not expectation.wanted:
            why = NOT_CHOSEN
        self._log.checks.append({"case": expectation.case, "by": [], "left_out": why, "judged": False, "at": 0})

    def judged(self, expectation: Expectation, actual: object, results: Sequence[Result]) -> None:
        """Notes by what a check is judged."""
        check = self._log.checks[self._index[expectation.number]]
        check["judged"], check["at"] = True, len(self._log.steps)
        if self._log.stopped and not check["left_out"]:
            check["left_out"] = self._log.stopped
            return
        with self._log.paused():
            by = _assertions(actual, expect.to_json(expectation.value))
        if isinstance(by, str):
            check["left_out"] = check["left_out"] or by
            return
        check["by"] = by
        for result in results:
            if (
                isinstance(result, RecordedResult)
                and result.operation in RETURN_ZERO
                and not isinstance(actual, Result)
            ):
                check["by"].append({"at_most_0": result.step})

    def needed(self, result: Result, returns: int | None) -> None:
        """Notes what the result of a call of set-up must be."""
        if isinstance(result, RecordedResult) and result.step >= 0:
            step = self._log.steps[result.step]
            zero = returns is None and result.operation in RETURN_ZERO
            step["needs"] = 0 if zero else "success" if returns is None else returns


def _assertions(actual: object, expected: Json) -> list[dict[str, Json]] | str:
    """Returns by which results and bytes a value equals what is expected; or why that cannot be said."""
    if isinstance(actual, Output) and type(actual) is not Output:
        # Its class says what of it is judged.
        return _assertions(actual.actual, expected)
    if isinstance(actual, Output):
        if isinstance(expected, int) and not isinstance(actual.value, int | list):
            return _assertions(actual.result, expected)
        return _both({"result": getattr(actual.result, "step", -1), "is": 0}, _assertions(actual.value, expected))
    if isinstance(actual, RecordedResult):
        return [{"result": actual.step, "is": expected}] if type(expected) is int else "expects no number of a result"
    if isinstance(actual, SeenInt):
        if type(expected) is not int:
            return "expects no number of a number"
        if actual.sorted:
            return "is judged in an order that Python makes"
        return [{"read": actual.read, "offset": actual.offset, "is": actual.encoded(expected).hex()}]
    if isinstance(actual, Seen):
        return _of_bytes(actual, expected)
    if isinstance(actual, list | tuple) and isinstance(expected, list) and len(actual) == len(expected):
        found: list[dict[str, Json]] = []
        for one, wanted in zip(actual, expected, strict=True):
            by = _assertions(one, wanted)
            if isinstance(by, str):
                return by
            found += by
        return found or "expects nothing of a call"
    return "is judged by what Python finds out"


def _both(first: dict[str, Json], by: list[dict[str, Json]] | str) -> list[dict[str, Json]] | str:
    return by if isinstance(by, str) else [first, *by]


def _of_bytes(actual: Seen, expected: Json) -> list[dict[str, Json]] | str:
    if not isinstance(expected, dict) or set(expected) != {"bytes"}:
        return "expects no bytes of bytes"
    data = bytes.fromhex(expected["bytes"])
    by = [{"read": actual.read, "offset": actual.offset, "is": data.hex(), "but": sorted(actual.left_out)}]
    if actual.bound is not None:
        length = actual.bound
        by.append({"read": length.read, "offset": length.offset, "is": length.encoded(len(data)).hex()})
        by.append({"read": actual.read, "rest_from": actual.offset + len(data)})
    return by

"""Groups what does not conform by its cause: the operation, what was expected of it and what it answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from probes.abi.frame import Frame
from probes.abi.record import Record, signed
from probes.report.check import Check, Json
from probes.report.counts import counted
from probes.report.failure import apart, value

#: How many lines the causes of a run may take on a terminal, and how many of them are shown with an example.
TERMINAL_LINES, TERMINAL_EXAMPLES = 50, 3
#: Longest expected or actual value in the name of a cause.
_VALUE = 60


@dataclass(frozen=True)
class Cause:
    """What checks that do not conform have in common."""

    operation: str
    verdict: str
    expected: str
    actual: str

    def __str__(self) -> str:
        """Return the cause on one line."""
        if self.verdict == "deviates":
            return f"{self.operation}: expected {self.expected}, actual {self.actual}"
        return f"{self.operation}: {self.verdict}: {self.actual}"


@dataclass
class Causes:
    """Counts checks by cause, and keeps the full text of one example of each.

    Add every check that is not as expected; `example` makes its text and is called for the first check of a cause only.
    """

    counts: Counter[Cause] = field(default_factory=Counter)
    examples: dict[Cause, str] = field(default_factory=dict)
    ids: dict[Cause, Counter[str]] = field(default_factory=dict)

    def add(self, check: Check, records: Sequence[Record], example: Callable[[], str]) -> None:
        """Count a check."""
        cause = cause_of(check, records)
        self.counts[cause] += 1
        self.ids.setdefault(cause, Counter())[check.key.id] += 1
        if cause not in self.examples:
            self.examples[cause] = example()

    def lines(self, limit: int = TERMINAL_LINES, examples: int = TERMINAL_EXAMPLES) -> list[str]:
        """Return the causes, most frequent first, the first ones with an example, in at most `limit` lines."""
        lines: list[str] = []
        causes = self.counts.most_common()
        for number, (cause, count) in enumerate(causes):
            head = f"{counted(count, 'time')} {cause} ({counted(len(self.ids[cause]), 'behaviour')})"
            block = [head, *self.examples[cause].splitlines(), ""] if number < examples else [head]
            left = len(causes) - number
            if len(lines) + len(block) + (left > 1) > limit:
                block = [head]
            if len(lines) + len(block) + (left > 1) > limit:
                rest = sum(count for _, count in causes[number:])
                more = f"{counted(left, 'more cause')} with {counted(rest, 'check')}"
                return [*lines, f"{more}: see report.html and results.jsonl.gz"]
            lines += block
        return lines


def cause_of(check: Check, records: Sequence[Record]) -> Cause:
    """Return the cause of a check that does not conform, by the last call that it rests on."""
    expected, actual, _ = apart(check.expected, check.actual)
    if check.verdict == "deviates":
        return Cause(_operation(records), check.verdict, _short(value(expected)), _short(value(actual)))
    return Cause(_operation(records), check.verdict, "", _short(check.detail))


def records_of(check: Check, evidence: Sequence[Mapping[str, Json]] | Mapping[int, Mapping[str, Json]]) -> list[Record]:
    """Return the calls that a check rests on, from the evidence of its test or, by `seq`, of its run."""
    return [Record.of_json(line) for line in _lines_of(check, evidence) if line["type"] == "call"]


def frames_of(check: Check, evidence: Sequence[Mapping[str, Json]] | Mapping[int, Mapping[str, Json]]) -> list[Frame]:
    """Return the frames that a check rests on, from the evidence of its test or, by `seq`, of its run."""
    return [Frame.of_json(line) for line in _lines_of(check, evidence) if line["type"] == "frame"]


def _lines_of(
    check: Check, evidence: Sequence[Mapping[str, Json]] | Mapping[int, Mapping[str, Json]]
) -> list[Mapping[str, Json]]:
    if isinstance(evidence, Mapping):
        return [evidence[seq] for seq in check.seq if seq in evidence]
    return [evidence[at] for at in check.rests_on]


def _operation(records: Sequence[Record]) -> str:
    if not records:
        return "no call"
    last = records[-1]
    if last.op:
        return last.op
    return f"socketcall({signed(int(last.regs_in['ebx'], 16))})" if last.route == "socketcall" else f"call {last.nr}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _VALUE else line[: _VALUE - 1] + "…"

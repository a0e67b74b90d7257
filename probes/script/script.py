"""A script: the steps of one test, what is expected of them, and which checks each expectation belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from probes.entry.memory import PAGE

#: Why a check is left out that --case does not choose.
NOT_CHOSEN = "--case leaves it out"


@dataclass(frozen=True)
class Word:
    """Is a word of a call: a number, an address of the script's memory, or what an earlier step has put into a slot."""

    value: int
    kind: str = "number"

    @property
    def slot(self) -> int | None:
        """Returns the number of the slot, None if it is no slot."""
        return self.value if self.kind == "slot" else None


@dataclass(frozen=True)
class Expected:
    """Says what a result must be: `value`; "success", which is no error; or, for None, 0 or an error.

    `check` is the index of the check that it belongs to, None for set-up.
    """

    value: Word | str | None
    check: int | None = None


@dataclass
class Call:
    """Is a call by its seven registers, eax to ebp. Its result goes into a slot, if a later step uses it.

    `setup`: it belongs to no behaviour; where it fails the test is not applicable.
    """

    registers: tuple[Word, ...]
    slot: int | None = None
    expected: list[Expected] = field(default_factory=list)
    setup: bool = False


@dataclass
class Put:
    """Writes bytes to memory; `words` are the addresses and slots among them, each as (offset, size in bytes, word)."""

    address: int
    data: bytes
    words: list[tuple[int, int, Word]] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """Puts 1, 2 or 4 bytes of memory into a slot."""

    slot: int
    address: int
    size: int


@dataclass
class Compare:
    """Holds bytes of memory against what a check expects; those at the indexes `but` may be any."""

    check: int
    address: int
    data: bytes
    but: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Ends a check: it conforms, unless something before was not as expected."""

    check: int


Step = Call | Put | Load | Compare | Verdict


@dataclass(frozen=True)
class Check:
    """Is one check: its case, and why the script does not judge it, "" if it does."""

    case: str
    left_out: str = ""


@dataclass
class Script:
    """Holds what was recorded of one test.

    `stopped` says why the script ends before its test, "" if it does not. `files`: it makes files in its directory.
    `ids`: it needs other user ids than its own, or capabilities outside a user namespace.
    `network`: it needs a network of its own, whose sysctls it writes. `protocols` are those of which the test asked if the
    kernel has them, with the answer, on which what it expects rests.
    """

    id: str
    statement: str
    source: str
    route: str
    checks: list[Check]
    steps: list[Step] = field(default_factory=list)
    stopped: str = ""
    files: bool = False
    ids: bool = False
    network: bool = False
    protocols: dict[str, bool] = field(default_factory=dict)
    #: Memory that the test wrote to, as (address, size), whether a step of the script does or not.
    written: list[tuple[int, int]] = field(default_factory=list)

    @property
    def judged(self) -> list[int]:
        """Returns the indexes of the checks that it judges."""
        return [index for index, check in enumerate(self.checks) if not check.left_out]

    @property
    def left_out(self) -> list[Check]:
        """Returns the checks that it leaves out, though they were to be recorded."""
        return [check for check in self.checks if check.left_out not in ("", NOT_CHOSEN)]

    def pages(self) -> list[range]:
        """Returns the pages of its memory, as ranges of addresses."""
        touched: set[int] = set()
        for first, size in (*self.written, *self._touched()):
            touched.update(range(first // PAGE, (first + max(size, 1) - 1) // PAGE + 1))
        found: list[range] = []
        for page in sorted(touched):
            if found and found[-1].stop == page * PAGE:
                found[-1] = range(found[-1].start, (page + 1) * PAGE)
            else:
                found.append(range(page * PAGE, (page + 1) * PAGE))
        return found

    def _touched(self) -> Iterator[tuple[int, int]]:
        for step in self.steps:
            if isinstance(step, Call):
                words = step.registers
                sized = {125: 2, 91: 2}.get(words[0].value if words[0].kind == "number" else -1)
                for word in words:
                    if word.kind == "pointer":
                        yield word.value, words[sized].value if sized else 1
            elif isinstance(step, Put):
                yield step.address, len(step.data)
                for _, _, word in step.words:
                    if word.kind == "pointer":
                        yield word.value, 1
            elif isinstance(step, Compare):
                yield step.address, len(step.data)
            elif isinstance(step, Load):
                yield step.address, step.size

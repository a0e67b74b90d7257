"""Makes a script of two recordings of a test, in which descriptors, process ids and addresses differ.

What is the same in both is a constant. What differs must be an address of the script's memory, the result of an earlier
call, or bytes that an earlier call wrote; else the script ends there, and says so.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from probes.entry.memory import POISON
from probes.report.check import Json
from probes.script.recorder import SHIFT
from probes.script.script import Call, Check, Compare, Expected, Load, Put, Step, Verdict, Word

_MASK = 0xFFFFFFFF
#: As many as replay.s has.
_SLOTS = 0x2000


class Unlike(Exception):
    """Two recordings differ in a way that a script cannot have. The text says in what."""


@dataclass
class _Source:
    """Is where a value that differs was seen: a call, or bytes of a read. `slot` is given when something uses it."""

    step: int
    offset: int = 0
    size: int = 4
    slot: int | None = None


@dataclass
class Build:
    """Makes the steps and checks of a script of two logs (Log.as_json)."""

    one: dict[str, Json]
    two: dict[str, Json]
    steps: list[Step] = field(init=False, default_factory=list)
    checks: list[Check] = field(init=False, default_factory=list)
    stopped: str = field(init=False, default="")
    written: list[tuple[int, int]] = field(init=False, default_factory=list)
    _by_value: dict[tuple[int, int], list[_Source]] = field(init=False, default_factory=dict)
    _reads: list[tuple[int, bytes, bytes]] = field(init=False, default_factory=list)
    _slots: list[_Source] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Makes them."""
        first, second = self.one["steps"], self.two["steps"]
        self.stopped = self.one["stopped"]
        words: list[tuple[Word, ...] | Put | None] = []
        for index, (a, b) in enumerate(zip(first, second, strict=False)):
            try:
                words.append(self._step(index, a, b))
            except Unlike as error:
                self.stopped = str(error)
                break
        if len(words) == len(second) < len(first) and not self.stopped:
            self.stopped = self.two["stopped"] or "two runs make different calls"
        self._judge(len(words))
        self._assemble(words)

    def _step(self, index: int, a: dict[str, Json], b: dict[str, Json]) -> tuple[Word, ...] | Put | None:
        """Returns the words of a call, or a write; None for a read. Raises Unlike."""
        if set(a) != set(b):
            raise Unlike("two runs make different calls")
        if "call" in a:
            words = tuple(self._word(x, y, index) for x, y in zip(a["call"], b["call"], strict=True))
            if a["result"] is None or b["result"] is None:
                raise Unlike("a call does not return")
            pair = a["result"] & _MASK, b["result"] & _MASK
            if pair[0] != pair[1]:
                self._by_value.setdefault(pair, []).append(_Source(index))
            return words
        if "write" in a:
            return self._put(index, a, b)
        x, y = bytes.fromhex(a["data"]), bytes.fromhex(b["data"])
        self._same_place(a["read"], b["read"])
        self._reads.append((index, x, y))
        for at in range(0, min(len(x), len(y)) - 3, 4):
            if x[at : at + 4] != y[at : at + 4]:
                pair = struct.unpack_from("<I", x, at)[0], struct.unpack_from("<I", y, at)[0]
                self._by_value.setdefault(pair, []).append(_Source(index, at))
        return None

    def _word(self, x: int, y: int, before: int) -> Word:
        """Returns the word that is x in one log and y in the other, by the steps before one. Raises Unlike."""
        if x == y:
            return Word(x)
        if y - x == SHIFT:
            return Word(x, "pointer")
        sources = self._by_value.get((x, y), ())
        source = next((one for one in reversed(sources) if one.step < before), None)
        if source is None:
            raise Unlike("an argument that is neither a constant nor a result of the calls before")
        return Word(self._slot(source), "slot")

    def _slot(self, source: _Source) -> int:
        if source.slot is None:
            if len(self._slots) == _SLOTS:
                raise Unlike(f"uses more than {_SLOTS} results of calls")
            source.slot = len(self._slots)
            self._slots.append(source)
        return source.slot

    @staticmethod
    def _same_place(x: int, y: int) -> None:
        if x != y and y - x != SHIFT:
            raise Unlike("memory at an address that differs from run to run")

    def _put(self, index: int, a: dict[str, Json], b: dict[str, Json]) -> Put:
        self._same_place(a["write"], b["write"])
        x, y = bytes.fromhex(a["data"]), bytes.fromhex(b["data"])
        if len(x) != len(y):
            raise Unlike("bytes whose number differs from run to run")
        put, at = Put(a["write"], x), 0
        if "seen" in a and a["seen"][0] >= 0:
            for at in range(0, len(x), 4):
                size = len(x) - at if len(x) - at < 4 else 4
                for offset, width in ((at, size),) if size != 3 else ((at, 2), (at + 2, 1)):
                    source = _Source(a["seen"][0], a["seen"][1] + offset, width)
                    put.words.append((offset, width, Word(self._slot(source), "slot")))
            return put
        while at < len(x):
            if x[at] == y[at]:
                at += 1
                continue
            found = self._word_around(index, x, y, at, (a["write"] + at) % 4)
            if found is not None:
                put.words.append(found)
                at = found[0] + 4
                continue
            at = self._copied(put, x, y, at)
        return put

    def _word_around(self, index: int, x: bytes, y: bytes, at: int, odd: int) -> tuple[int, int, Word] | None:
        """Returns an address or a result among the words around a byte that differs, the aligned one first."""
        for back in dict.fromkeys((odd, 0, 3, 1, 2)):
            start = at - back
            if start >= 0 and start + 4 <= len(x):
                pair = struct.unpack_from("<I", x, start)[0], struct.unpack_from("<I", y, start)[0]
                if pair[1] - pair[0] == SHIFT or pair in self._by_value:
                    return start, 4, self._word(*pair, index)
        return None

    def _copied(self, put: Put, x: bytes, y: bytes, at: int) -> int:
        """Adds bytes that a call before has written, and returns the index after them. Raises Unlike."""
        for size in (4, 2, 1):
            start = at - at % size
            if start + size > len(x) or any(offset + width > start for offset, width, _ in put.words):
                continue
            one, two = x[start : start + size], y[start : start + size]
            for index, first, second in reversed(self._reads):
                found = first.find(one)
                while found >= 0 and second[found : found + size] != two:
                    found = first.find(one, found + 1)
                if found >= 0:
                    source = _Source(index, found, size)
                    put.words.append((start, size, Word(self._slot(source), "slot")))
                    return start + size
        # A descriptor whose other bytes are written by themselves: they are zero.
        sources = self._by_value.get((x[at], y[at]), [])
        if sources:
            put.words.append((at, 1, Word(self._slot(sources[-1]), "slot")))
            return at + 1
        raise Unlike("bytes that are neither constants nor what the calls before wrote")

    def _judge(self, count: int) -> None:
        """Makes the checks; `count` steps are part of the script."""
        self._expected: dict[int, list[Expected]] = {}
        self._compared: dict[int, list[Compare]] = {}
        self._ends: dict[int, list[int]] = {}
        for index, (a, b) in enumerate(zip(self.one["checks"], self.two["checks"], strict=False)):
            why = a["left_out"] or b["left_out"]
            if a["case"] != b["case"]:
                why = why or "is another check from run to run"
            if not why and not (a["judged"] and b["judged"]):
                why = self.stopped or "is never judged"
            if not why:
                why = self._assert(index, a["by"], b["by"], count)
            self.checks.append(Check(a["case"], why))

    def _assert(self, check: int, one: list[dict[str, Json]], two: list[dict[str, Json]], count: int) -> str:
        """Adds what a check expects to the steps that it concerns. Returns why that cannot be, "" if it can."""
        expected: list[tuple[int, Expected]] = []
        compared: list[tuple[int, Compare]] = []
        if len(one) != len(two):
            return "is judged by other bytes from run to run"
        for a, b in zip(one, two, strict=True):
            step: int = next(a[name] for name in ("result", "read", "at_most_0") if name in a)
            if {name: a[name] for name in a if name != "is"} != {name: b.get(name) for name in a if name != "is"}:
                return "is judged by other bytes from run to run"
            if not 0 <= step < count:
                return self.stopped or "rests on a call that is not recorded"
            if "at_most_0" in a:
                expected.append((step, Expected(None, check)))
            elif "result" in a:
                try:
                    expected.append((step, Expected(self._word(a["is"] & _MASK, b["is"] & _MASK, step), check)))
                except Unlike:
                    return "expects what Python finds out"
            elif (found := self._compare(check, step, a, b)) is not None:
                compared.append((step, found))
            else:
                return "expects what Python finds out"
        if not expected and not any(found.data for _, found in compared):
            return "rests on nothing that is recorded"
        for step, one_expected in expected:
            self._expected.setdefault(step, []).append(one_expected)
        for step, one_compared in compared:
            self._compared.setdefault(step, []).append(one_compared)
        self._ends.setdefault(max(step for step, _ in (*expected, *compared)), []).append(check)
        return ""

    def _compare(self, check: int, step: int, a: dict[str, Json], b: dict[str, Json]) -> Compare | None:
        read = self.one["steps"][step]
        if "rest_from" in a:
            size = len(read["data"]) // 2 - a["rest_from"]
            return Compare(check, read["read"] + a["rest_from"], bytes([POISON]) * size)
        if a["is"] != b["is"]:
            return None
        return Compare(check, read["read"] + a["offset"], bytes.fromhex(a["is"]), tuple(a.get("but", ())))

    def _assemble(self, words: list[tuple[Word, ...] | Put | None]) -> None:
        """Makes the steps, up to the last that is judged."""
        slots: dict[int, list[tuple[int, _Source]]] = {}
        for number, source in enumerate(self._slots):
            slots.setdefault(source.step, []).append((number, source))
        last = max(self._ends, default=-1)
        pending = Pending()
        for index, made in enumerate(words[: last + 1]):
            recorded = self.one["steps"][index]
            if isinstance(made, Put):
                pending.add(made)
                self.written.append((made.address, len(made.data)))
                continue
            if isinstance(made, tuple):
                self.steps += pending.taken()
                expected = list(self._expected.get(index, []))
                if "needs" in recorded:
                    needs = recorded["needs"]
                    expected.append(Expected(needs if isinstance(needs, str) else Word(needs & _MASK)))
                slot = next((number for number, _ in slots.get(index, [])), None)
                self.steps.append(Call(made, slot, expected, bool(recorded.get("setup"))))
            else:
                for number, source in slots.get(index, []):
                    self.steps.append(Load(number, recorded["read"] + source.offset, source.size))
                self.steps += [one for one in self._compared.get(index, []) if one.data]
            self.steps += [Verdict(check) for check in self._ends.get(index, [])]


class Pending:
    """Collects the writes before a call, without those that others overwrite, and those that change nothing.

    The memory of a script is poisoned when it begins. Where something was written, calls may have written since.
    """

    def __init__(self) -> None:
        """Begins with memory that nothing was written to."""
        self._puts: list[Put] = []
        self._used: set[int] = set()

    def add(self, put: Put) -> None:
        """Adds a write."""
        end = put.address + len(put.data)
        self._puts = [
            one for one in self._puts if not (put.address <= one.address and one.address + len(one.data) <= end)
        ]
        places = range(put.address, end)
        if put.data.strip(bytes([POISON])) or not self._used.isdisjoint(places):
            self._puts.append(put)
        self._used.update(places)

    def taken(self) -> list[Put]:
        """Returns the writes, and forgets them."""
        found, self._puts = [put for put in self._puts if put.data], []
        return found

"""Writes scripts as one static i386 program that prints KTAP: machine code (replay.s), and tables that it reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from probes.abi.record import shown, signed
from probes.entry.machine.replay_code import REPLAY
from probes.script.expressions import Expressions, arrays_of
from probes.script.script import Call, Compare, Expected, Load, Put, Script, Step, Verdict, Word

#: Seconds that a script may take: then alarm(2) ends its child.
SECONDS = 30
_BASE = 0x8048000
_MASK = 0xFFFFFFFF
#: Where the first segment's header has its size in the file; the one in memory follows.
_FILE_SIZE = 52 + 16
_END, _CALL, _EXPECT, _PUT, _STORE, _LOAD, _COMPARE, _VERDICT = range(8)
_JUDGED, _SUCCEEDS, _NEEDED, _SET_UP, _AT_MOST_0 = range(5)


def program(scripts: Sequence[Script], seconds: int = SECONDS) -> bytes:
    """Returns the program, an ELF file. `seconds` is what a script may take."""
    return _Program(scripts, seconds).made


class _Program:
    """Lays out code, tables, texts and bytes, each at an address."""

    def __init__(self, scripts: Sequence[Script], seconds: int) -> None:
        code = REPLAY[32][0]
        self._data = bytearray(code)
        self._known: dict[bytes, int] = {}
        table = len(self._data)
        self._data += bytes(12)
        rows = b"".join(self._script(script) for script in scripts) + bytes(4)
        count = sum(len(script.judged) for script in scripts)
        struct.pack_into("<3I", self._data, table, count, self._placed(rows), seconds)
        struct.pack_into("<2I", self._data, _FILE_SIZE, len(self._data), len(self._data))
        self.made = bytes(self._data)

    def _placed(self, data: bytes) -> int:
        """Puts bytes behind what there is, at a multiple of four, once, and returns their address."""
        if data not in self._known:
            self._data += bytes(-len(self._data) % 4)
            self._known[data] = _BASE + len(self._data)
            self._data += data
        return self._known[data]

    def _text(self, text: str) -> int:
        return self._placed(text.encode() + b"\0")

    def _script(self, script: Script) -> bytes:
        numbers = {check: number for number, check in enumerate(script.judged)}
        names = [self._text(name_of(script, check)) for check in script.judged]
        pages = b"".join(struct.pack("<2I", pages.start, len(pages)) for pages in script.pages()) + bytes(4)
        expressions, arrays, steps = Expressions(hex), arrays_of(script.steps), bytearray()
        for index, step in enumerate(script.steps):
            steps += self._step(step, numbers, expressions, arrays.get(index))
        steps += struct.pack("<I", _END)
        return struct.pack(
            "<6I", self._placed(bytes(steps)), self._placed(pages), len(numbers),
            self._placed(struct.pack(f"<{len(names)}I", *names)), script.ids | script.network << 1,
            self._placed(_protocols(script)),
        )  # fmt: skip

    def _step(self, step: Step, numbers: dict[int, int], expressions: Expressions, array: Put | None) -> bytes:
        if isinstance(step, Call):
            text = self._text(expressions.call(step, array))
            slots = sum(1 << index for index, word in enumerate(step.registers) if word.kind == "slot")
            values = [word.value & _MASK for word in step.registers]
            slot = _MASK if step.slot is None else step.slot
            made = struct.pack("<11I", _CALL, text, slots, slot, *values)
            expected = [*step.expected, *([Expected("success")] if step.setup else [])]
            return made + b"".join(self._expect(one, numbers, step.setup) for one in expected)
        if isinstance(step, Put):
            data, stores = bytearray(step.data), b""
            for offset, size, word in step.words:
                if word.kind == "slot":
                    stores += struct.pack("<4I", _STORE, step.address + offset, size, word.value)
                    data[offset : offset + size] = bytes(size)
            return struct.pack("<4I", _PUT, step.address, len(data), self._placed(bytes(data))) + stores
        if isinstance(step, Load):
            return struct.pack("<4I", _LOAD, step.slot, step.address, step.size)
        if isinstance(step, Compare):
            mask = bytes(index not in step.but for index in range(len(step.data)))
            at = self._placed(mask) if step.but else 0
            words = numbers[step.check], step.address, len(step.data), self._placed(step.data), at
            return struct.pack("<6I", _COMPARE, *words)
        return struct.pack("<2I", _VERDICT, numbers[step.check]) if isinstance(step, Verdict) else b""

    def _expect(self, expected: Expected, numbers: dict[int, int], setup: bool) -> bytes:
        value = expected.value if isinstance(expected.value, Word) else Word(0)
        text = shown(signed(value.value)) if value.kind != "slot" else f"r{value.value}"
        if expected.value is None:
            kind, text = _AT_MOST_0, "0 or an error"
        elif isinstance(expected.value, str):
            kind, text = _SET_UP if setup else _SUCCEEDS, "success"
        else:
            kind = _NEEDED if expected.check is None else _JUDGED
        check = 0 if expected.check is None else numbers[expected.check]
        return struct.pack(
            "<6I", _EXPECT, kind, check, self._text(text), value.kind == "slot", value.value & _MASK
        )  # fmt: skip


def _protocols(script: Script) -> bytes:
    """Returns the protocols that a kernel must have or lack, as the program reads them."""
    return b"".join(bytes([there]) + name.encode() + b"\0" for name, there in script.protocols.items()) + b"\2"


def name_of(script: Script, check: int) -> str:
    """Returns the name of a check on its line: id, case, route."""
    return " ".join(
        filter(None, (script.id, script.checks[check].case, f"route={script.route}" if script.route else ""))
    )

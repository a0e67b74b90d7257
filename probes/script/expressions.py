"""Writes calls as C expressions: `socketcall(SYS_BIND, r0, M(0xff0), 16)`, `syscall(NR_close, r0)`."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from probes.abi import names
from probes.abi.decode import decode
from probes.abi.operations import BY_CALL, BY_DIRECT, SOCKETCALL, Operation
from probes.abi.record import signed
from probes.abi.syscalls import SYSCALLS
from probes.script.script import Call, Put, Step, Word

#: Numbers up to this are written in decimal.
_SMALL = 4096
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass
class Expressions:
    """Writes the calls of one script. `address` writes an address of its memory; `constants` are the names it used."""

    address: Callable[[int], str]
    constants: dict[str, int] = field(default_factory=dict)
    #: The address after the words of calls by socketcall(): those that lie there are written as its arguments.
    words_end: int | None = None
    #: The names of slots, other than r0, r1, ….
    slots: dict[int, str] = field(default_factory=dict)

    def word(self, word: Word) -> str:
        """Writes a word without a name."""
        if word.kind == "slot":
            return self.slots.get(word.value, f"r{word.value}")
        return self.address(word.value) if word.kind == "pointer" else number(word.value)

    def call(self, call: Call, array: Put | None) -> str:
        """Writes a call; `array` has the words of one by socketcall, if they were written for it."""
        registers = call.registers
        first = registers[0]
        if first.kind != "number":
            return f"syscall({', '.join(map(self.word, registers))})"
        if first.value == SOCKETCALL and registers[1].kind == "number":
            operation = BY_CALL.get(registers[1].value)
            if operation is not None and array is not None and not any(word.value for word in registers[3:]):
                name = self._named(f"SYS_{operation.name.upper()}", operation.call)
                return f"socketcall({', '.join([name, *self._arguments(operation, words_of(array))])})"
            return self._plain(self._named("NR_socketcall", SOCKETCALL), registers[1:])
        operation = BY_DIRECT.get(first.value)
        if operation is None:
            known = SYSCALLS.get(first.value)
            text = self._named(f"NR_{known[0]}", first.value) if known else number(first.value)
            return self._plain(text, registers[1:])
        name = self._named(f"NR_{operation.direct_name}", first.value)
        arguments = self._arguments(operation, registers[1:])
        return f"syscall({', '.join([name, *arguments])})"

    def _plain(self, number: str, words: Sequence[Word]) -> str:
        return f"syscall({', '.join([number, *_trimmed([self.word(word) for word in words])])})"

    def _named(self, name: str, value: int) -> str:
        self.constants[name] = value
        return name

    def _arguments(self, operation: Operation, words: Sequence[Word]) -> list[str]:
        values = [word.value if word.kind == "number" else 0 for word in words]
        named = list(decode(operation, values[: operation.words], {}, {}, None, 32).values())
        found = [
            self._constant(text, word.value) if word.kind == "number" and isinstance(text, str) else self.word(word)
            for text, word in zip(named, words, strict=False)
        ]
        rest = [self.word(word) for word in words[len(found) :]]
        return found + _trimmed(rest)

    def _constant(self, text: str, value: int) -> str:
        """Writes a number by its names, or as a number if they do not make it."""
        total, parts = 0, text.split("|")
        constants: dict[str, int] = {}
        for part in parts:
            try:
                one = names.value(part) if _NAME.fullmatch(part) else int(part, 0)
            except (KeyError, ValueError):
                return number(value)
            total |= one
            if _NAME.fullmatch(part):
                constants[part] = one
        if total != value or not constants:
            return number(value)
        self.constants |= constants
        return " | ".join(parts)


def number(value: int) -> str:
    """Writes a number of 32 bits: a small one in decimal, also a negative one, others in hexadecimal."""
    return str(signed(value)) if -_SMALL <= signed(value) <= _SMALL else f"{value:#x}"


def words_of(put: Put) -> list[Word]:
    """Returns the words that a write writes."""
    words = [Word(value) for value in struct.unpack_from(f"<{len(put.data) // 4}I", put.data)]
    for offset, size, word in put.words:
        if size == 4 and offset % 4 == 0:
            words[offset // 4] = word
    return words


def arrays_of(steps: Sequence[Step]) -> dict[int, Put]:
    """Returns, by the index of each call by socketcall, the write since the call before that has exactly its words."""
    found: dict[int, Put] = {}
    puts: list[Put] = []
    for index, step in enumerate(steps):
        if isinstance(step, Put):
            puts.append(step)
        elif isinstance(step, Call):
            array = _array_of(step, puts)
            if array is not None:
                found[index] = array
            puts = []
    return found


def _array_of(call: Call, puts: Sequence[Put]) -> Put | None:
    number, which, pointer = call.registers[:3]
    operation = BY_CALL.get(which.value) if which.kind == "number" else None
    if number != Word(SOCKETCALL) or operation is None or pointer.kind != "pointer":
        return None
    return next(
        (
            put
            for put in reversed(puts)
            if put.address == pointer.value
            and len(put.data) == 4 * operation.words
            and all(size == 4 and offset % 4 == 0 for offset, size, _ in put.words)
        ),
        None,
    )


def _trimmed(words: Sequence[str]) -> list[str]:
    """Returns arguments without zeros at the end."""
    found = list(words)
    while found and found[-1] == "0":
        found.pop()
    return found

"""Writes one script as a C function: its calls, what they point to, and what each must answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from probes.abi import notation, sockaddr
from probes.abi.operations import named
from probes.abi.record import errno_name, signed
from probes.entry.memory import PAGE, POISON
from probes.script.expressions import Expressions, arrays_of, words_of
from probes.script.script import Call, Compare, Expected, Load, Put, Script, Word

WIDTH = 116
#: Characters of the comment on an address.
_COMMENT = 60
#: Calls that make a descriptor.
_DESCRIPTORS = ("socket", "accept", "accept4", "dup", "dup2", "dup3")
#: Calls whose address argument gets a comment.
_WITH_ADDRESS = ("bind", "connect", "sendto")


class Function:
    """Writes the function of one script."""

    def __init__(self, script: Script, name: str) -> None:
        """Writes it, as `text`. `size` is what it takes of the program's memory."""
        self.script, self.name = script, name
        self._arrays = arrays_of(script.steps)
        self._offsets: list[tuple[range, int]] = []
        self.size = 0
        for pages in script.pages():
            self._offsets.append((pages, self.size))
            self.size += len(pages)
        self.size = max(self.size, PAGE)
        self.expressions = Expressions(self._address, slots=_slot_names(script))
        self.expressions.words_end = self._words_end()
        self.text = "\n".join([comment([*self._head()]), f"static void {self.name}(void)\n{{", *self._lines(), "}\n"])

    def _address(self, address: int) -> str:
        return f"M({self._offset(address):#x})"

    def _offset(self, address: int) -> int:
        for pages, offset in self._offsets:
            # The address after the last byte too.
            if pages.start <= address <= pages.stop:
                return offset + address - pages.start
        raise ValueError(f"{address:#x} is not in the memory of {self.script.id}")

    def _head(self) -> Iterator[str]:
        script = self.script
        yield f"{script.id}{f', by {script.route}' if script.route else ''}"
        yield ""
        yield script.statement
        yield ""
        yield f"Source: {script.source}"
        left_out = Counter(check.left_out for check in script.left_out)
        for why, count in left_out.items():
            cases = [check.case for check in script.checks if check.left_out == why]
            yield f"Left out, {why}: {'; '.join(cases[:3])}{f'; and {count - 3} more' * (count > 3)}"

    def _lines(self) -> Iterator[str]:
        for protocol, there in self.script.protocols.items():
            yield f"\tprotocol({quoted(protocol)}, {there:d});"
        end = self.expressions.words_end
        if end is not None:
            yield f"\twords_end = {self._address(end)};"
        puts: list[Put] = []
        for index, step in enumerate(self.script.steps):
            if isinstance(step, Call):
                array = self._arrays.get(index)
                if array is not None and _end(array) != end:
                    array = None
                for put in puts:
                    if put is not array:
                        yield from self._put(put, _sockaddr(put, step, array))
                yield from self._call(step, self.expressions.call(step, array))
                puts = []
            elif isinstance(step, Put):
                puts.append(step)
            elif isinstance(step, Compare):
                yield from self._compare(step)
            elif isinstance(step, Load):
                name = self.expressions.word(Word(step.slot, "slot"))
                yield f"\tu32 {name} = load({self._address(step.address)}, {step.size});"

    def _words_end(self) -> int | None:
        """Returns the address after the words of most calls by socketcall, None if it makes none."""
        ends = Counter(map(_end, self._arrays.values()))
        return ends.most_common(1)[0][0] if ends else None

    def _call(self, call: Call, text: str) -> Iterator[str]:
        result = "" if call.slot is None else f"u32 {self.expressions.word(Word(call.slot, 'slot'))} = "
        judged = [one for one in call.expected if one.check is not None and one.value is not None]
        if call.setup:
            first, rest = f"prepare({text})", judged
        elif judged:
            first, rest = f"expect({self._value(judged[0])}, {self._case(judged[0])}, {text})", judged[1:]
        else:
            needs = next((one for one in call.expected if one.check is None), None)
            first = f"make({text})"
            if needs is not None:
                success = isinstance(needs.value, str)
                first = f"need({text})" if success else f"needs({self._value(needs)}, {text})"
            rest = []
        yield f"\t{result}{first};"
        for one in rest:
            yield f"\talso({self._value(one)}, {self._case(one)});"
        for one in call.expected:
            if one.value is None:
                yield f"\tno_more_than_0({self._case(one)});"

    def _value(self, expected: Expected) -> str:
        value = expected.value
        assert isinstance(value, Word)
        name = errno_name(signed(value.value)) if value.kind == "number" else ""
        if not name:
            return self.expressions.word(value)
        self.expressions.constants[name] = -signed(value.value)
        return f"-{name}"

    def _case(self, expected: Expected | Compare) -> str:
        assert expected.check is not None
        return quoted(self.script.checks[expected.check].case)

    def _put(self, put: Put, comment: str) -> Iterator[str]:
        at = self._address(put.address)
        if put.words and len(put.data) % 4 == 0 and all(size == 4 and off % 4 == 0 for off, size, _ in put.words):
            yield f"\tput_words({at}, {', '.join(map(self.expressions.word, words_of(put)))});"
            return
        if len(set(put.data)) == 1 and len(put.data) > 1 and not put.words:
            yield f"\tfill({at}, {put.data[0]:#04x}, {len(put.data)});"
            return
        said = f"\t/* {comment} */" if comment else ""
        if put.words and {index for offset, size, _ in put.words for index in range(offset, offset + size)} >= set(
            range(len(put.data))
        ):
            pass  # Every byte is what a call before wrote.
        else:
            yield f"\tput({at},{_bytes(put.data)});{said}"
        for offset, size, word in put.words:
            yield f"\tstore({self._address(put.address + offset)}, {self.expressions.word(word)}, {size});"

    def _compare(self, compare: Compare) -> Iterator[str]:
        if compare.data == bytes([POISON]) * len(compare.data):
            yield f"\tunwritten({self._case(compare)}, {self._address(compare.address)}, {len(compare.data)});"
            return
        start = 0
        for end in (*compare.but, len(compare.data)):
            data = compare.data[start:end]
            if data:
                at = self._address(compare.address + start)
                yield f"\tcompare({self._case(compare)}, {at},{_bytes(data)});"
            start = end + 1


def comment(lines: Sequence[str]) -> str:
    """Returns a C comment, wrapped."""
    body = "\n".join(f" * {line}".rstrip() for text in lines for line in _wrapped(text.replace("*/", "* /")))
    return f"/*\n{body}\n */"


def _wrapped(text: str) -> list[str]:
    lines = [text]
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    while len(lines[-1]) > WIDTH and (cut := lines[-1].rfind(" ", len(indent) + 1, WIDTH)) > 0:
        lines[-1:] = [lines[-1][:cut], indent + lines[-1][cut + 1 :]]
    return lines


def _slot_names(script: Script) -> dict[int, str]:
    """Returns the names of the slots of a script: fd0 for descriptors, r1 for other results, v2 for what was read."""
    found = {}
    for step in script.steps:
        if isinstance(step, Call) and step.slot is not None:
            operation, _ = named(step.registers[0].value, step.registers[1].value)
            found[step.slot] = f"{'fd' if operation in _DESCRIPTORS else 'r'}{step.slot}"
        elif isinstance(step, Load):
            found[step.slot] = f"v{step.slot}"
    return found


def _end(put: Put) -> int:
    return put.address + len(put.data)


def _sockaddr(put: Put, call: Call, array: Put | None) -> str:
    """Returns what an address says that is written for a call, "" for other bytes."""
    operation, route = named(call.registers[0].value, call.registers[1].value)
    if operation not in _WITH_ADDRESS or len(put.data) < 2 or put.words or (array is None and route == "socketcall"):
        return ""
    words = words_of(array) if array else call.registers[1:]
    if not any(word.kind == "pointer" and word.value == put.address for word in words):
        return ""
    text = notation.address(sockaddr.describe(put.data)).replace("*/", "* /").replace("/*", "/ *")
    return text if len(text) <= _COMMENT else f"{text[:_COMMENT]} …"


def quoted(text: str) -> str:
    """Returns a C string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytes(data: bytes) -> str:
    """Returns bytes as the members of an array, sixteen on a line if there are more."""
    members = [f"{byte:#04x}" for byte in data]
    lines = [", ".join(members[at : at + 16]) for at in range(0, len(members), 16)]
    return f" {lines[0]}" if len(lines) == 1 else "\n\t\t" + ",\n\t\t".join(lines)

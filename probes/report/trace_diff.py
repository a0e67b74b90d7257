"""Compares two traces of a program call by call: what strace wrote, or a capture, as text or as JSON lines.

The traces are of two runs, so that what differs from run to run is not compared: thread ids, pointers, times, inodes and
ports that the kernel chose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from probes.abi import strace_notation as notation
from probes.abi.record import Decoded, errno_name

_THREAD = re.compile(r"(?:\[pid +(\d+)\] +|(\d+) +)?(?:\d\d:\d\d:\d\d(?:\.\d+)? |\d+\.\d+ )?(.*)")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed> ?")
_CALL = re.compile(r"(\w+)\(")
_WHERE = re.compile(r"\s+(?:socketcall|direct) (?:int80|vdso|syscall)(?:  .*)?$")
_RESULT = re.compile(r"\s*= (-?\d+|\?|0x[0-9a-f]+)(?:<(?:->|[^>])*>)?(?: (E[A-Z0-9_]+))?")
#: What a descriptor is, behind its number: <TCP:[127.0.0.1:80->127.0.0.1:4567]>.
_DESCRIBED = re.compile(r"<[\w-]+:\[(?:->|[^>])*\]>")
#: What strace says of a number that has no name there.
_UNNAMED = re.compile(r" /\* \w+_\?\?\? \*/")
#: The first port that the kernel chooses by itself (ip(7) ip_local_port_range).
_EPHEMERAL = 32768
#: Names of one call.
_SAME = {"sendfile64": "sendfile", "_newselect": "select", "fcntl64": "fcntl"}
_UNFINISHED = "<unfinished ...>"


@dataclass(frozen=True)
class Call:
    """Is a call of a trace: its thread as the trace names it, its arguments as written, result and errno."""

    thread: str
    name: str
    arguments: tuple[str, ...]
    result: str
    errno: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Returns by what calls of two traces are found to be the same."""
        result = "?" if self.result == "?" or self.errno.startswith("ERESTART") else self.result
        return self.name, result, self.errno

    def __str__(self) -> str:
        """Returns it in the notation of strace."""
        return f"{self.name}({', '.join(self.arguments)}) = {self.result}{' ' if self.errno else ''}{self.errno}"

    def compared(self) -> tuple[str, ...]:
        """Returns the arguments without what differs from run to run."""
        return tuple(map(_without_chance, self.arguments))


def read(lines: Iterable[str]) -> list[Call]:
    """Reads the calls of a trace, in the order of their ends. Raises ValueError: a line is neither text nor JSON of one."""
    return list(_calls(lines))


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            if (call := _of_json(number, line)) is not None:
                yield call
            continue
        found = _THREAD.fullmatch(line.strip())  # (strace -r puts spaces before the seconds.)
        assert found is not None  # it matches every line
        thread, text = found[1] or found[2] or "", _WHERE.sub("", found[3])
        if not text or text.startswith(("---", "+++", "===", "/*", "> ", "strace: ")):
            continue
        if resumed := _RESUMED.match(text):
            text = begun.pop(thread, f"{resumed[1]}(") + text[resumed.end() :]
        elif text.endswith(_UNFINISHED):
            begun[thread] = text.removesuffix(_UNFINISHED)
            continue
        yield _of_text(number, thread, text)
    for thread, text in begun.items():
        yield _of_text(0, thread, f"{text.rstrip(', ')}) = ?")


def _of_json(number: int, line: str) -> Call | None:
    try:
        fields = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError(f"line {number} is no JSON: {line[:60]!r}") from None
    try:
        if fields.get("type") != "call":
            return None
        return of_decoded(fields["tid"], fields["op"], fields["decoded"], fields["ret"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(f"line {number} is no call of a capture: {line[:60].rstrip()!r}") from None


def of_decoded(tid: int, op: str, decoded: Mapping[str, Decoded], ret: int | None) -> Call:
    """Returns a call of a capture."""
    result = "-1" if errno_name(ret) else "?" if ret is None else str(ret)
    return Call(str(tid), _SAME.get(op, op), tuple(notation.arguments(decoded, ret)), result, errno_name(ret))


def _of_text(number: int, thread: str, text: str) -> Call:
    found = _CALL.match(text)
    arguments, rest = _arguments(text[found.end() :]) if found else ((), "")
    result = _RESULT.match(rest)
    if found is None or result is None:
        raise ValueError(f"line {number} is no call as strace writes it: {text[:60]!r}")
    return Call(thread, _SAME.get(found[1], found[1]), arguments, result[1], result[2] or "")


def _arguments(text: str) -> tuple[tuple[str, ...], str]:
    """Splits the arguments up to the parenthesis that closes them, and returns them with what follows."""
    parts, start, depth, quoted, at = [], 0, 0, False, 0
    while at < len(text):
        letter = text[at]
        if quoted:
            at += letter == "\\"
            quoted = letter != '"'
        elif letter == '"':
            quoted = True
        elif letter in "([{":
            depth += 1
        elif letter in ")]}" and depth:
            depth -= 1
        elif letter == ")" or (letter == "," and not depth):
            parts.append(text[start:at].strip())
            start = at + 1
            if letter == ")":
                return tuple(part for part in parts if part), text[at + 1 :]
        at += 1
    return tuple(parts), ""


def _without_chance(argument: str) -> str:
    argument = _UNNAMED.sub("", _DESCRIBED.sub("", argument))
    argument = re.sub(r"tv_sec=\d{9,}, tv_nsec=\d+", "tv_sec=SECONDS, tv_nsec=NANOSECONDS", argument)
    argument = re.sub(r"\b0x[0-9a-f]{5,}\b", "POINTER", argument)
    argument = re.sub(r"htons\((\d+)\)", lambda port: port[0] if int(port[1]) < _EPHEMERAL else "htons(PORT)", argument)
    argument = re.sub(r'(index|interface|scope_id)=(?:if_nametoindex\("[^"]*"\)|[1-9]\d*)', r"\1=INTERFACE", argument)
    return re.sub(r"(?<=nl_pid=)-?[1-9]\d*|(?<=\{pid=)\d+", "PID", argument)


@dataclass(frozen=True)
class Difference:
    """Is what one trace has and the other has not or otherwise: the position of the thread, and a call of each or None."""

    thread: int
    ours: Call | None
    theirs: Call | None

    def lines(self) -> list[str]:
        """Returns it as lines: what is missing, or both calls."""
        if self.ours is None:
            return [f"thread {self.thread}: only there: {self.theirs}"]
        if self.theirs is None:
            return [f"thread {self.thread}: only here: {self.ours}"]
        return [f"thread {self.thread}: here:  {self.ours}", f"thread {self.thread}: there: {self.theirs}"]


def differences(ours: Sequence[Call], theirs: Sequence[Call]) -> list[Difference]:
    """Returns in what two traces differ, thread by thread in the order in which they appear."""
    mine, others = _by_thread(ours), _by_thread(theirs)
    found: list[Difference] = []
    for index in range(max(len(mine), len(others))):
        left = mine[index] if index < len(mine) else []
        right = others[index] if index < len(others) else []
        found += _in_thread(index + 1, left, right)
    return found


def _agree(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Returns True if arguments are the same; where both are messages of netlink, by what both name in them."""
    if len(ours) != len(theirs):
        return False
    return all(one == other or _are_like_messages(one, other) for one, other in zip(ours, theirs, strict=True))


_NETLINK = "nlmsg_len="
_HEADERS = re.compile(r"nlmsg_len=(\d+), nlmsg_type=([A-Z_]+), nlmsg_flags=([A-Z0-9_|x]+)")
_ATTRIBUTES = re.compile(r"nla_len=(\d+), nla_type=((?:NLA_F_\w+\|)*(?!NLA_F_)[A-Z]\w+)")


def _are_like_messages(one: str, other: str) -> bool:
    """Returns True if two arguments are messages of netlink whose headers, and lengths of attributes, are the same.

    Attributes are compared that both name: a newer tracer has more names. A trace that shows them as bytes is not compared.
    """
    if not (_NETLINK in one and _NETLINK in other):
        return _NETLINK in one + other
    if _HEADERS.findall(one) != _HEADERS.findall(other):
        return False
    mine, theirs = _ATTRIBUTES.findall(one), _ATTRIBUTES.findall(other)
    both = {name for _, name in mine} & {name for _, name in theirs}
    return [each for each in mine if each[1] in both] == [each for each in theirs if each[1] in both]


def _by_thread(calls: Sequence[Call]) -> list[list[Call]]:
    threads: dict[str, list[Call]] = {}
    for call in calls:
        threads.setdefault(call.thread, []).append(call)
    return list(threads.values())


def _in_thread(number: int, left: Sequence[Call], right: Sequence[Call]) -> Iterator[Difference]:
    # What is equal at both ends is taken off first: the time that the matcher takes grows with the square of the length.
    before = _equal(left, right)
    behind = _equal(left[before:][::-1], right[before:][::-1])
    last, other_last = len(left) - behind, len(right) - behind
    yield from _same_calls(number, left[:before], right[:before])
    yield from _aligned(number, left[before:last], right[before:other_last])
    yield from _same_calls(number, left[last:], right[other_last:])


def _equal(left: Sequence[Call], right: Sequence[Call]) -> int:
    """Returns at how many calls two sequences begin with the same."""
    different = (index for index, (one, other) in enumerate(zip(left, right, strict=False)) if one.key != other.key)
    return next(different, min(len(left), len(right)))


def _same_calls(number: int, left: Sequence[Call], right: Sequence[Call]) -> Iterator[Difference]:
    for one, other in zip(left, right, strict=True):
        if not _agree(one.compared(), other.compared()):
            yield Difference(number, one, other)


def _aligned(number: int, left: Sequence[Call], right: Sequence[Call]) -> Iterator[Difference]:
    matcher = SequenceMatcher(None, [call.key for call in left], [call.key for call in right], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield from _same_calls(number, left[a:b], right[c:d])
            continue
        for index in range(max(b - a, d - c)):
            one_or_none = left[a + index] if a + index < b else None
            yield Difference(number, one_or_none, right[c + index] if c + index < d else None)

"""Check values that a sandbox sent: their types, and that the parent can print and store them."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from probes.abi.frame import Frame
from probes.abi.note import require_memory
from probes.abi.operations import named
from probes.abi.record import Record
from probes.report.check import Json

#: Numbers beyond this are no register, time or count.
_NUMBER_LIMIT = 1 << 80
#: Depth of lists and objects: an expected value has three.
_DEPTH_LIMIT = 30
#: Characters of a case, which is one line.
_CASE_LIMIT = 2000
#: Bytes of a link's name (include/uapi/linux/if.h IFNAMSIZ), and of a frame with every header of a segment.
_LINK_LIMIT, _FRAME_LIMIT = 16, 1 << 17


def require(value: object) -> None:
    """Check the fields of a dataclass against their annotations, and the fields of those in it. Raises ValueError."""
    kind: Any = type(value)
    fields = value.__dict__
    for name, fits in _checks(kind):
        if not fits(fields[name]):
            raise ValueError(f"{type(value).__name__}.{name} has another type")
    if isinstance(value, Frame):
        require_frame(value)
    elif isinstance(value, Record):
        require_note(value)


def require_case(case: str) -> None:
    """Check the case of a key, which is one line of text. Raises ValueError."""
    if not (case.isprintable() or not case) or len(case) > _CASE_LIMIT:
        raise ValueError("a case is not one line of text")


def require_frame(frame: Frame) -> None:
    """Check what a pcapng file holds of a frame. Raises ValueError."""
    if not 0 <= frame.t_ns < 1 << 63 or len(frame.link) > _LINK_LIMIT or len(frame.raw) > _FRAME_LIMIT:
        raise ValueError("a frame's time, link or length is none")


def require_note(record: Record) -> None:
    """Check a gate's own note of a call: its registers are numbers, and name the operation. Raises ValueError."""
    before = {name: int(value, 16) for name, value in record.regs_in.items()}
    for value in (record.regs_out or {}).values():
        int(value, 16)
    operation = named(before.get("eax", -1), before.get("ebx", -1))
    require_memory(record)
    if record.args_after or (record.op, record.route) != operation:
        raise ValueError("a note of a call is none of a gate")


def cleaned(value: Json) -> Json:
    """Return a value with its lone surrogates as backslash escapes: UTF-8 has none."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(name): cleaned(item) for name, item in value.items()}
    return value


@cache
def _checks(kind: Any) -> list[tuple[str, Callable[[Any], bool]]]:
    """Return the name of each field of a dataclass, with the function that checks its value."""
    return [(name, _check(hint)) for name, hint in get_type_hints(kind).items()]


def _check(hint: Any) -> Callable[[Any], bool]:
    """Return a function that is true of the values that an annotation allows."""
    simple = {
        Any: is_plain,
        int: lambda value: type(value) is int and -_NUMBER_LIMIT < value < _NUMBER_LIMIT,
        float: lambda value: type(value) in (int, float) and _is_number(value),
    }
    if hint in simple:
        return simple[hint]
    origin, inner = get_origin(hint), [_check(one) for one in get_args(hint)]
    if origin in (Union, types.UnionType):
        return lambda value: any(fits(value) for fits in inner)
    if origin in (list, Sequence):
        return lambda value: isinstance(value, list | tuple) and all(map(inner[0], value))
    if origin in (dict, Mapping):
        return lambda value: isinstance(value, dict) and all(map(inner[1], value.values()))
    if dataclasses.is_dataclass(hint):
        # (`require` returns None or raises.)
        return lambda value: isinstance(value, hint) and require(value) is None  # type: ignore[arg-type, func-returns-value]
    return lambda value: isinstance(value, hint)


def is_plain(value: object, depth: int = _DEPTH_LIMIT) -> bool:
    """Return True for a JSON value that can be printed: of some depth, with finite numbers, with bytes in hex."""
    if value is None or isinstance(value, str | bool):
        return True
    if isinstance(value, int | float):
        return _is_number(value)
    if depth == 0:
        return False
    if isinstance(value, list):
        return all(is_plain(item, depth - 1) for item in value)
    if not isinstance(value, dict):
        return False
    if set(value) == {"bytes"}:
        return isinstance(value["bytes"], str) and _is_hex(value["bytes"])
    return all(is_plain(item, depth - 1) for item in value.values())


def _is_number(value: float) -> bool:
    # (Not a number is in no range.)
    return -_NUMBER_LIMIT < value < _NUMBER_LIMIT


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True

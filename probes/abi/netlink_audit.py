"""Defines the messages of NETLINK_AUDIT: the structures of its commands; all other messages are text.

Source: include/uapi/linux/audit.h; kernel/audit.c.
"""

from __future__ import annotations

import struct
from typing import Final

from probes.abi.layouts import U32, Layout, Type
from probes.abi.netlink_layouts import TEXT, Message, bits, named, numbered

_USER, _LOGIN, _FIRST_TEXT = 1005, 1006, 1100
_MASK = numbered(
    "AUDIT_STATUS_", "ENABLED", "FAILURE", "PID", "RATE_LIMIT", "BACKLOG_LIMIT", "BACKLOG_WAIT_TIME", "LOST",
    "BACKLOG_WAIT_TIME_ACTUAL",
)  # fmt: skip
_BITMAP = numbered(
    "AUDIT_FEATURE_BITMAP_", "BACKLOG_LIMIT", "BACKLOG_WAIT_TIME", "EXECUTABLE_PATH", "EXCLUDE_EXTEND",
    "SESSIONID_FILTER", "LOST_RESET", "FILTER_FS",
)  # fmt: skip
_FEATURES = bits("I", numbered("1<<AUDIT_FEATURE_", "ONLY_UNSET_LOGINUID", "LOGINUID_IMMUTABLE"))
_FILTERS = ("USER", "TASK", "ENTRY", "WATCH", "EXIT", "EXCLUDE", "FS", "URING_EXIT")
_PREPEND: Final = 0x10


def _filter(number: int) -> str | int:
    kind = number & ~_PREPEND
    name = f"AUDIT_FILTER_{_FILTERS[kind]}" if kind < len(_FILTERS) else kind
    return f"AUDIT_FILTER_PREPEND|{name}" if number & _PREPEND else name


def _words(raw: bytes) -> list[int]:
    """Return the words of an array, without the zeros at its end."""
    words = list(struct.unpack("<64I", raw))
    while words and not words[-1]:
        words.pop()
    return words


_ARRAY = Type("256s", _words)
STATUS = Layout(mask=bits("I", _MASK), enabled=U32, failure=named("I", "AUDIT_FAIL"), pid=U32, rate_limit=U32,
                backlog_limit=U32, lost=U32, backlog=U32, feature_bitmap=bits("I", _BITMAP), backlog_wait_time=U32,
                backlog_wait_time_actual=U32)  # fmt: skip
FEATURES = Layout(vers=U32, mask=_FEATURES, features=_FEATURES, lock=_FEATURES)
TTY_STATUS = Layout(enabled=U32, log_passwd=U32)
RULE_DATA = Layout(flags=Type("I", _filter), action=named("I", "AUDIT_ACTION"), field_count=U32, mask=_ARRAY,
                   fields=_ARRAY, values=_ARRAY, fieldflags=_ARRAY, buflen=U32)  # fmt: skip

_STATUS, _RULE = Message(STATUS, growing=True), Message(RULE_DATA, TEXT)
_MESSAGES: Final[dict[int, Message]] = {
    1000: _STATUS, 1001: _STATUS, 1010: Message(Layout(uid=U32, pid=U32), TEXT), 1011: _RULE, 1012: _RULE, 1013: _RULE,
    1015: Message(Layout(oldlen=U32, newlen=U32), TEXT), 1016: Message(TTY_STATUS, growing=True),
    1017: Message(TTY_STATUS, growing=True), 1018: Message(FEATURES), 1019: Message(FEATURES),
}  # fmt: skip
_TEXT: Final = Message(Layout(), TEXT)


def is_text(number: int) -> bool:
    """Return True if messages of this type are text: those of programs, and the records of the kernel."""
    return number in (_USER, _LOGIN) or number >= _FIRST_TEXT


def message_of(number: int) -> Message | None:
    """Return what a message of this type consists of, None if it is not known here."""
    return _TEXT if is_text(number) else _MESSAGES.get(number)

"""Quotes bytes as strace does."""

from __future__ import annotations

from functools import lru_cache


def quoted(raw: bytes, cut: bool = False) -> str:
    r"""Quote bytes as C does: `"a\n\0"`, with `...` behind if there are more."""
    return f'"{_escaped(raw)}"' + ("..." if cut else "")


@lru_cache(maxsize=256)
def _escaped(raw: bytes) -> str:
    text = "".join([_ESCAPED[byte] for byte in raw])
    if "\\" not in text:
        return text
    # An octal escape has as few digits as it can have: all three before a digit.
    parts = []
    for index, byte in enumerate(raw):
        digit = raw[index + 1 : index + 2]
        octal = _ESCAPED[byte][1:].isdigit() and b"0" <= digit <= b"7"
        parts.append(f"\\{byte:03o}" if octal else _ESCAPED[byte])
    return "".join(parts)


_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_ESCAPED = [_ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:o}") for byte in range(256)]


def bytes_of(text: str) -> bytes:
    """Return the bytes of a text that `sockaddr.printable` wrote."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1") if "\\" in text else text.encode()

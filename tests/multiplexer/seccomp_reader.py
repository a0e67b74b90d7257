"""Reads struct seccomp_data of a socketcall, by a seccomp filter that returns one byte of it as an error number."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from probes.abi.operations import SOCKETCALL
from probes.entry.gate import Gate, Result
from probes.testing.caller import Caller
from probes.trace import ptrace

#: Offsets in struct seccomp_data (include/uapi/linux/seccomp.h), of 32-bit halves.
FIELDS = {"nr": 0, "arch": 4, "args0": 16, "args0-upper": 20, "args1": 24, "args1-upper": 28}
_BYTE_AT, _MARK_AT, _MARK = 32, 40, 0x600DF00D
_LOAD, _EQUAL, _RIGHT, _AND, _OR, _RETURN, _RETURN_A = 0x20, 0x15, 0x74, 0x54, 0x44, 0x06, 0x16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class Reader:
    """Installs the filter, which stays.

    It acts only on calls with a mark in esi, and returns the byte whose number is in edx: socketcall ignores both.
    """

    def __init__(self, gate: Gate, caller: Caller) -> None:
        self._gate = gate
        program = []
        for offset, value in ((4, ptrace.ARCH_I386), (_MARK_AT, _MARK)):
            program += [_op(_LOAD, offset), _op(_EQUAL, value, 1, 0), _op(_RETURN, _ALLOW)]
        program.append(_op(_LOAD, _BYTE_AT))
        for number, offset in enumerate(FIELDS.values()):
            for byte in range(4):
                program += [
                    _op(_EQUAL, 4 * number + byte, 0, 5),
                    _op(_LOAD, offset), _op(_RIGHT, 8 * byte), _op(_AND, 0xFF), _op(_OR, _ERRNO), _op(_RETURN_A, 0),
                ]  # fmt: skip
        caller.set_filter([*program, _op(_RETURN, _ALLOW)])

    def read(self, field: str, ebx: int, ecx: int) -> tuple[int, Sequence[Result]]:
        """Returns a field as the filter sees it for a socketcall with these registers, and the results it is read from."""
        first = 4 * list(FIELDS).index(field)
        results = [self._gate.enter(SOCKETCALL, ebx, ecx, first + byte, _MARK) for byte in range(4)]
        return sum(-result << 8 * byte for byte, result in enumerate(results)), results


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """Packs one instruction of a filter (struct sock_filter)."""
    return struct.pack("<HBBI", code, yes, no, value)

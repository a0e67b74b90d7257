"""Reads the kernel's audit of system calls, by NETLINK_AUDIT (include/uapi/linux/audit.h, auditctl(8))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from probes.testing import Broke, not_applicable

_PROTOCOL, _READ_LOG = 9, 1
_ERROR, _GET, _ADD_RULE, _DEL_RULE = 2, 1000, 1011, 1012
SYSCALL, SOCKETCALL = 1300, 1304
_END_OF_EVENT = 1320
_REQUEST_AND_ACK = 5
_HEAD = struct.Struct("<IHHII")
#: struct audit_rule_data: a list, an action, how many fields, a mask of 2048 numbers, 64 fields, values and operators.
_RULE = struct.Struct("<3I64I64I64I64II")
_ON_EXIT, _ALWAYS, _PID, _SECOND_ARGUMENT, _EQUAL = 4, 2, 0, 201, 0x40000000
#: One event: its records by type, each {name: text}.
Event = dict[int, dict[str, str]]


class AuditLog:
    """Follows the audit records of a process's system calls with one number and one second argument.

    The second argument distinguishes them from the socketcalls that a 32-bit C library makes to read the log.
    """

    def __init__(self, pid: int, number: int, second: int) -> None:
        mask, padding = [0] * 64, [0] * 62
        mask[number // 32] = 1 << number % 32
        fields, values, operators = (_PID, _SECOND_ARGUMENT), (pid, second), (_EQUAL, _EQUAL)
        self._rule = _RULE.pack(
            _ON_EXIT, _ALWAYS, 2, *mask, *fields, *padding, *values, *padding, *operators, *padding, 0
        )
        self._wanted = {"pid": str(pid), "syscall": str(number), "a1": f"{second:x}"}
        self._control, self._log = _open(), _open()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Audits the calls of the body.

        Not applicable unless audit is on already: to turn it on would affect the whole machine until it is restarted.
        """
        with self._control, self._log:
            try:
                self._log.bind((0, _READ_LOG))
                self._request(_GET)
                enabled = struct.unpack_from("<4xI", self._control.recv(4096), _HEAD.size)[0]
            except (PermissionError, ConnectionRefusedError) as error:
                not_applicable(f"CAP_AUDIT_CONTROL and CAP_AUDIT_READ in the first namespaces: {error.strerror}")
            if enabled != 1:
                not_applicable(
                    "audit that is on and takes rules: audit=1 on the kernel's command line, or auditctl -e 1"
                )
            self._request(_ADD_RULE, self._rule)
            try:
                yield
            finally:
                self._request(_DEL_RULE, self._rule)

    def event(self) -> Event:
        """Returns the next event of such a call, {} if none comes within ten seconds."""
        events: dict[str, Event] = {}
        self._log.settimeout(10)
        while True:
            try:
                data = self._log.recv(16384)
            except TimeoutError:
                return {}
            type_ = _HEAD.unpack_from(data)[1]
            stamp, _, text = data[_HEAD.size :].rstrip(b"\0").decode(errors="replace").partition(": ")
            fields = dict(pair.split("=", 1) for pair in text.split() if "=" in pair)
            event = events.setdefault(stamp, {})
            event[type_] = fields
            if type_ == _END_OF_EVENT and self._wanted.items() <= event.get(SYSCALL, {}).items():
                return event

    def _request(self, type_: int, data: bytes = b"") -> None:
        self._control.send(_HEAD.pack(_HEAD.size + len(data), type_, _REQUEST_AND_ACK, 1, 0) + data)
        reply = self._control.recv(4096)
        error = -struct.unpack_from("<i", reply, _HEAD.size)[0]
        if _HEAD.unpack_from(reply)[1] != _ERROR:
            raise Broke("audit did not acknowledge a request")
        if error:
            raise OSError(error, os.strerror(error))


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _PROTOCOL)
    except OSError as error:
        not_applicable(f"audit in the kernel (CONFIG_AUDIT): {error.strerror}")

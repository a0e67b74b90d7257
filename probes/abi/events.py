"""Defines the evidence lines for delivered signals, thread exits and remarks."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Signal:
    """Holds a signal about to be delivered to a tracee (signal-delivery-stop): its number, and the instruction pointer.

    `t_ns` is CLOCK_MONOTONIC in nanoseconds.
    """

    t_ns: int
    pid: int
    tid: int
    number: int
    ip: int
    #: Members of its siginfo in the notation of strace; none if they were not asked for.
    info: tuple[str, ...] = ()

    def as_json(self) -> dict[str, str | int | dict[str, str | int]]:
        """Return the line of the evidence, with the members of the siginfo if they were read."""
        line: dict[str, str | int | dict[str, str | int]] = {
            "type": "signal", "t_ns": self.t_ns, "pid": self.pid, "tid": self.tid, "signal": self.number,
            "ip": hex(self.ip),
        }  # fmt: skip
        if self.info:
            members = (member.partition("=") for member in self.info)
            line["siginfo"] = {
                name: int(value) if value.lstrip("-").isdecimal() else value for name, _, value in members
            }
        return line


@dataclass(frozen=True)
class Exit:
    """Holds the end of a thread: when it was waited for (CLOCK_MONOTONIC, nanoseconds), and its wait status."""

    t_ns: int
    pid: int
    tid: int
    status: int

    def as_json(self) -> dict[str, str | int | None]:
        """Return the line of the evidence: `status` is the exit status, or `signal` the signal that killed it."""
        killed = os.WIFSIGNALED(self.status)
        return {
            "type": "exit", "t_ns": self.t_ns, "pid": self.pid, "tid": self.tid,
            "status": None if killed else os.WEXITSTATUS(self.status),
            "signal": os.WTERMSIG(self.status) if killed else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Note:
    """Holds a remark on a process: what a capture does not see of it."""

    t_ns: int
    pid: int
    tid: int
    text: str

    def as_json(self) -> dict[str, str | int]:
        """Return the line of the capture."""
        return {"type": "note", **self.__dict__}

"""Sweeps whose calls make a socket for each value, and close it again: of ports, protocols and type words."""

from __future__ import annotations

from probes.entry.calls import Calls
from probes.entry.sweep import Sweep
from probes.testing.socket_kinds import SocketKind

#: The sysctl of the first port that needs no privilege, and its default (include/net/ip.h PROT_SOCK).
START = "net.ipv4.ip_unprivileged_port_start"
DEFAULT_START = 1024


def port_sweep(calls: Calls, kind: SocketKind) -> Sweep:
    """Returns a sweep over ports: for each, a new socket is bound to it and closed."""
    address = calls.memory.guarded(kind.address(0))
    sweep = Sweep(calls)
    sweep.varied_port(address, 2)
    fd = sweep.call("socket", *kind.triple)
    sweep.call("bind", fd, address, address.size, judged=True)
    sweep.syscall("close", fd)
    return sweep


def protocol_sweep(calls: Calls, family: int, type: int) -> Sweep:
    """Returns a sweep of socket() over protocols; each socket is closed again."""
    sweep = Sweep(calls)
    fd = sweep.call("socket", family, type, sweep.value, judged=True)
    sweep.syscall("close", fd)
    return sweep


def type_word_sweep(calls: Calls, family: int) -> Sweep:
    """Returns a sweep of socket() over type words with protocol 0; each socket is closed again."""
    sweep = Sweep(calls)
    fd = sweep.call("socket", family, sweep.value, 0, judged=True)
    sweep.syscall("close", fd)
    return sweep

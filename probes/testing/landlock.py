"""Landlock's network rules (landlock(7)): the process that makes the calls lets the kernel refuse TCP ports to it."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from probes.entry.calls import Calls
from probes.testing.expect import need, not_applicable
from probes.testing.socket_kinds import TCP, TCP6

#: arch/x86/entry/syscalls/syscall_32.tbl. No behaviour is about these calls.
_CLOSE, _PRCTL, _CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 6, 172, 444, 445, 446
_PR_SET_NO_NEW_PRIVS, _CREATE_RULESET_VERSION, _RULE_NET_PORT = 38, 1, 2
#: LANDLOCK_ACCESS_NET_BIND_TCP, LANDLOCK_ACCESS_NET_CONNECT_TCP; the first version of Landlock that has them.
BIND, CONNECT = 1, 2
_SINCE = 4
#: What tests of the rules use: a port that is refused, one that is allowed, and hosts without a route.
PORT, ALLOWED = 5000, 6000
FOREIGN = {TCP: "192.0.2.1", TCP6: "2001:db8::1"}


def refuse_ports(calls: Calls, allowed: Mapping[int, int]) -> None:
    """Refuses bind and connect of TCP to the caller, but for some ports with what is allowed there, by untraced calls.

    Not applicable where the kernel has no network rules. Raises SetUpRefused.
    """
    gate, memory = calls.gate.quieted(), calls.memory
    version = gate.enter(_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    if version < 0:
        not_applicable(f"Landlock: {os.strerror(-version)}")
    if version < _SINCE:
        not_applicable(f"Landlock's network rules: its version is {int(version)}, not {_SINCE}")
    rules = memory.put(struct.pack("<QQ", 0, BIND | CONNECT))
    ruleset = need(gate.enter(_CREATE_RULESET, rules.address, rules.size, 0), "landlock_create_ruleset")
    for port, access in allowed.items():
        rule = memory.put(struct.pack("<QQ", access, port))
        need(gate.enter(_ADD_RULE, ruleset, _RULE_NET_PORT, rule.address, 0), "landlock_add_rule")
    need(gate.enter(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    need(gate.enter(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    need(gate.enter(_CLOSE, ruleset), "close")

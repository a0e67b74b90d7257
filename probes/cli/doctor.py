"""What this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.entry.gate import WORD, gate_names
from probes.errors import CommandError
from probes.installation import PACKAGES, packages


@dataclass(frozen=True)
class Finding:
    """One line: whether it is there, what, and what to do if not. `needed`: check cannot start without it."""

    there: bool
    what: str
    remedy: str = ""
    needed: bool = False


def show(can_start: Callable[[str], None]) -> int:
    """Prints the findings. Returns 0, or 2 if check could not start here."""
    status = 0
    for finding in findings(can_start):
        mark = "yes" if finding.there else "NO " if finding.needed else "no "
        print(f"{mark}  {finding.what}" + ("" if finding.there or not finding.remedy else f" — {finding.remedy}"))
        if finding.needed and not finding.there:
            status = 2
    return status


def findings(can_start: Callable[[str], None]) -> Iterator[Finding]:
    """Everything that is looked at, in order of need."""
    host = platform.uname()
    yield Finding(
        sys.version_info >= (3, 11), f"Python 3.11 or later, {WORD}-bit: {platform.python_version()}", "", True
    )
    yield Finding(True, f"kernel {host.release} {host.machine}, gates {' '.join(gate_names())}")
    try:
        can_start("full")
        yield Finding(True, "check can run: int $0x80, namespaces, ptrace, seccomp", needed=True)
    except CommandError as trouble:
        yield Finding(False, "check can run", str(trouble), True)
    root = os.geteuid() == 0
    yield Finding(root, "root: rows with a second user id, or capabilities outside a user namespace", "run as root")
    yield from _modules()
    yield from _protocols()
    for package in packages():
        remedy = f"apt-get install {package.name} ({PACKAGES})"
        yield Finding(package.is_there(), f"{package.name} ({package.purpose})", remedy)


def _modules() -> Iterator[Finding]:
    for name in ("pytest", "ptrace", "scapy", "psutil", "pyroute2"):
        there = importlib.util.find_spec(name) is not None
        needed = name in ("pytest", "ptrace")
        yield Finding(there, f"Python module {name}", "pip install -e . in the checkout", needed)


def _protocols() -> Iterator[Finding]:
    listed = Path("/proc/net/protocols")
    names = {line.split()[0] for line in listed.read_text().splitlines()[1:]} if listed.exists() else set()
    for name in (
        "TCP",
        "UDP",
        "RAW",
        "PING",
        "TCPv6",
        "UDPv6",
        "RAWv6",
        "UDP-Lite",
        "UNIX",
        "PACKET",
        "NETLINK",
        "SCTP",
    ):
        yield Finding(name in names, f"protocol {name}", "behaviours of it are judged by its absence")

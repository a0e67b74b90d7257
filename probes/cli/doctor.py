"""Implements `socketcall doctor`: reports what this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.cli.requirements import require_start
from probes.entry.gate import WORD, gate_names
from probes.errors import CommandError
from probes.installation import PACKAGES, packages


@dataclass(frozen=True)
class Finding:
    """Is one line of the output: something that is present or not, and the remedy.

    `needed` says that `check` cannot start without it.
    """

    present: bool
    what: str
    remedy: str = ""
    needed: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no arguments."""


def main(_: argparse.Namespace) -> int:
    """Prints the findings. Returns 0, or 2 if `check` cannot start here."""
    status = 0
    for finding in _findings():
        mark = "yes" if finding.present else "NO " if finding.needed else "no "
        print(f"{mark}  {finding.what}" + ("" if finding.present or not finding.remedy else f" — {finding.remedy}"))
        if finding.needed and not finding.present:
            status = 2
    return status


def _findings() -> Iterator[Finding]:
    """Yields the findings, most needed first."""
    host = platform.uname()
    yield Finding(
        sys.version_info >= (3, 11), f"Python 3.11 or later, {WORD}-bit: {platform.python_version()}", "", True
    )
    yield Finding(True, f"kernel {host.release} {host.machine}, gates {' '.join(gate_names())}")
    try:
        require_start("full")
        yield Finding(True, "check can run: int $0x80, namespaces, ptrace, seccomp", needed=True)
    except CommandError as error:
        yield Finding(False, "check can run", str(error), True)
    root = os.geteuid() == 0
    yield Finding(
        root, "root: behaviours with a second user id, or with capabilities outside a user namespace", "run as root"
    )
    yield from _modules()
    yield from _protocols()
    for package in packages():
        remedy = f"apt-get install {package.name} ({PACKAGES})"
        yield Finding(package.is_there(), f"{package.name} ({package.purpose})", remedy)


def _modules() -> Iterator[Finding]:
    for name in ("pytest", "ptrace", "scapy", "psutil", "pyroute2"):
        present = importlib.util.find_spec(name) is not None
        needed = name in ("pytest", "ptrace")
        yield Finding(present, f"Python module {name}", "pip install -e . in the checkout", needed)


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
        yield Finding(
            name in names, f"protocol {name}", "its behaviours are judged by the errors of an absent protocol"
        )

"""Implements `socketcall doctor`: reports what this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.entry import native_agent
from probes.entry.gate import WORD, gate_names
from probes.errors import CommandError
from probes.installation import PACKAGES, packages
from probes.sandbox import trial
from probes.sandbox.trial import Found


@dataclass(frozen=True)
class Finding:
    """Is one line of the output: something that is present or not, and the remedy.

    `needed` says that `check` cannot start without it. `parts` of the suite need it, by the name `name`.
    """

    present: bool
    what: str
    remedy: str = ""
    needed: bool = False
    parts: Sequence[str] = ()
    name: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no arguments."""


def main(_: argparse.Namespace) -> int:
    """Prints the findings and a line that sums up. Returns 0, or 2 if `check` cannot start here."""
    status = 0
    try:
        found: Found | CommandError = trial.find(None)
    except CommandError as error:
        found = error
    findings = list(_findings(found))
    for finding in findings:
        mark = "yes" if finding.present else "NO " if finding.needed else "no "
        print(f"{mark}  {finding.what}" + ("" if finding.present or not finding.remedy else f" — {finding.remedy}"))
        if finding.needed and not finding.present:
            status = 2
    print(summary(found, findings))
    return status


def summary(found: Found | CommandError, findings: Sequence[Finding]) -> str:
    """Returns the line that says what of the suite this machine can do: `check: isolation full, traced; i386: ready; …`."""
    missing = [finding.what for finding in findings if finding.needed and not finding.present]
    cannot = str(found) if isinstance(found, CommandError) else ", ".join(missing)
    ways = [f"check: cannot start: {cannot}" if missing else f"check: {found}"]
    parts = {part: list[str]() for finding in findings for part in finding.parts}
    for finding in findings:
        for part in () if finding.present else finding.parts:
            parts[part].append(finding.name)
    ready = [part for part, lacks in parts.items() if not lacks]
    ways += [f"{part}: lacks {', '.join(lacks)}" for part, lacks in parts.items() if lacks]
    return "; ".join([*ways, *([f"{', '.join(ready)}: ready"] if ready else [])])


def _findings(found: Found | CommandError) -> Iterator[Finding]:
    """Yields the findings, most needed first. `found` are the sandboxes that work, or why none does."""
    host = platform.uname()
    yield Finding(
        sys.version_info >= (3, 11), f"Python 3.11 or later, {WORD}-bit: {platform.python_version()}", "", True
    )
    yield Finding(True, f"kernel {host.release} {host.machine}, gates {' '.join(gate_names())}")
    if isinstance(found, Found):
        yield Finding(True, f"check can run: int $0x80, {found}", needed=True)
    else:
        yield Finding(False, "check can run", str(found), True)
    if WORD == 64:
        yield _agent()
    root = os.geteuid() == 0
    yield Finding(
        root, "root: behaviours with a second user id, or with capabilities outside a user namespace", "run as root"
    )
    yield from _modules()
    yield from _protocols()
    for package in packages():
        remedy = f"apt-get install {package.name} ({PACKAGES})"
        parts = tuple(package.purpose.partition(":")[0].split(", "))
        yield Finding(package.is_there(), f"{package.name} ({package.purpose})", remedy, parts=parts, name=package.name)


def _agent() -> Finding:
    """Returns whether `check` has a 32-bit caller beside this Python."""
    what = "32-bit agent beside this 64-bit Python"
    try:
        names = " ".join(gate.name for gate in native_agent.gates())
    except native_agent.CannotRun as error:
        return Finding(False, what, f"{error}; check judges 64-bit calls alone")
    return Finding(True, f"{what}: gates {names}")


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

"""Runs the suite with other Pythons than this machine's: those of newer Debians, each in a root of its own, here.

The roots are entered as the i386 root is, but they are of this machine's architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probes.installation import checkout
from probes.targets import debian, i386, store
from probes.targets.emulator import ARCHITECTURE
from probes.targets.store import Progress, Recipe
from probes.targets.target import CheckArguments, Target

#: Suites of Debian that have another Python, with its version.
_PYTHONS = {"trixie": "3.13", "sid": "3.14"}
_INSTALL = ("-m", "pip", "install", "--no-cache-dir", "--only-binary", ":all:")
_PACKAGES = ("python3", "python3-venv", "python3-pip", "iproute2", "libcap2-bin", "binutils")


def _build(suite: str, into: Path, progress: Progress) -> None:
    progress(f"python-{suite}: installing Debian's packages, about a minute")
    archive = debian.bootstrap(into, _PACKAGES, ARCHITECTURE, (suite,))
    debian.unpack(archive, into)
    archive.unlink()
    progress(f"python-{suite}: installing the suite's Python packages")
    enter = debian.enter(into, ())
    store.run([*enter, "python3", "-m", "venv", i386.SUITE], debian.FETCH_DEADLINE)
    store.run([*enter, f"{i386.SUITE}/bin/python3", *_INSTALL, *i386.REQUIREMENTS], debian.FETCH_DEADLINE)


def _root(suite: str, version: str) -> Recipe:
    def build(into: Path, progress: Progress) -> None:
        _build(suite, into, progress)

    return Recipe(
        name=f"python-{suite}",
        what=f"Debian {suite} with Python {version} and what the suite needs",
        build=build,
        inputs=(suite, ARCHITECTURE, *_PACKAGES, i386.SUITE, *i386.REQUIREMENTS),
        megabytes=1200,
    )


ROOTS: Sequence[Recipe] = [_root(suite, version) for suite, version in _PYTHONS.items()]
"""The roots, in the order of their Pythons."""


class _Python(Target):
    """Names a root as a target."""

    def run(self, args: CheckArguments, progress: Progress) -> int:
        return i386.run(args.words, checkout(), progress, args.command, self, ())


TARGETS: Sequence[Target] = [_Python(f"python:{root.name.partition('-')[2]}", root.what, root) for root in ROOTS]
"""The targets of this module."""

"""Finds the suite, in a checkout or in an installed copy, its Debian packages, and what a launcher says of the target.

An installed copy has tests/, their configuration, references and vagrant/ under probes/_suite; see pyproject.toml.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from probes.errors import CommandError

PACKAGES = "packages.txt"
#: The variable in which a launcher names the target.
TARGET = "SOCKETCALL_TARGET"
#: The variable in which a launcher gives the beginning of a command line that checks on the target.
AGAIN = "SOCKETCALL_AGAIN"
#: The variable in which a launcher says what answers the calls.
IMPLEMENTATION = "SOCKETCALL_IMPLEMENTATION"


def target() -> str:
    """Returns the name of the target of this run."""
    return os.environ.get(TARGET, "local")


def again_words() -> tuple[str, ...]:
    """Returns the beginning of a command line that checks on this target: `socketcall check`, or `socketcall target run`."""
    return tuple(shlex.split(os.environ.get(AGAIN, "socketcall check")))


def implementation() -> str:
    """Returns what answers the calls, as the launcher gave it: linux, or qemu-user 7.2."""
    return os.environ.get(IMPLEMENTATION, "linux")


def suite() -> Path:
    """Returns the directory with tests/ and pyproject.toml: the checkout, or probes/_suite of an installed copy.

    Raises CommandError if there is neither.
    """
    package = Path(__file__).resolve().parent
    for directory in (package / "_suite", package.parent):
        if (directory / "tests").is_dir() and (directory / "pyproject.toml").is_file():
            return directory
    raise CommandError(f"no tests/ in {package / '_suite'} or beside {package}: install again with `pip install .`")


def is_installed() -> bool:
    """Returns True for an installed copy, which has no checkout around it."""
    return suite().name == "_suite"


def checkout() -> Path:
    """Returns the directory of the checkout. Raises CommandError for an installed copy."""
    if is_installed():
        raise CommandError("the command needs a checkout, this is an installed copy: `pip install -e .` in a checkout")
    return suite()


def write_no_bytecode() -> None:
    """Keeps Python, and the processes it starts, from writing __pycache__ into an installed copy."""
    if is_installed():
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@dataclass(frozen=True)
class Package:
    """Describes a Debian package: its name, commands and files that show it is installed, and its purpose."""

    name: str
    shows: tuple[str, ...]
    purpose: str

    def is_there(self) -> bool:
        """Returns True if all its commands and files exist."""
        return all(Path(one).exists() if "/" in one else which(one) is not None for one in self.shows)


def packages() -> list[Package]:
    """Returns the packages that packages.txt lists."""
    lines = (suite() / PACKAGES).read_text().splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line.strip() and line[0] != "#"]
    return [Package(name, tuple(shows.split()), purpose) for name, shows, purpose in rows]


def which(command: str) -> str | None:
    """Returns the path of a command, None if there is none. sbin is searched too, which many users' PATH lacks."""
    return shutil.which(command, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")

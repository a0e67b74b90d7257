"""Finds the checkout that the suite runs from, its Debian packages, and what a launcher says of the target."""

from __future__ import annotations

import os
import shlex
import shutil
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


def checkout() -> Path:
    """Returns the directory with probes/ and tests/. Raises CommandError: this is an installed copy without tests."""
    directory = Path(__file__).resolve().parent.parent
    if not (directory / "tests").is_dir() or not (directory / "pyproject.toml").is_file():
        raise CommandError(f"no tests/ beside {directory / 'probes'}: install from a checkout with `pip install -e .`")
    return directory


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
    lines = (checkout() / PACKAGES).read_text().splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line.strip() and line[0] != "#"]
    return [Package(name, tuple(shows.split()), purpose) for name, shows, purpose in rows]


def which(command: str) -> str | None:
    """Returns the path of a command, None if there is none. sbin is searched too, which many users' PATH lacks."""
    return shutil.which(command, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")

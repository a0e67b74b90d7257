"""Where the suite lies: it runs from a checkout."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from probes.errors import CommandError

PACKAGES = "packages.txt"
#: The variable by which a launcher says which target it runs on.
TARGET = "SOCKETCALL_TARGET"
#: The variable by which a launcher gives the words of the command that checks on this target.
AGAIN = "SOCKETCALL_AGAIN"


def target() -> str:
    """The target that we run on, as whoever started us named it."""
    return os.environ.get(TARGET, "local")


def again_words() -> tuple[str, ...]:
    """Returns the words of the command that checks on this target, as its launcher gave them."""
    return tuple(os.environ.get(AGAIN, "socketcall check").split())


def checkout() -> Path:
    """The folder with probes/ and tests/. Raises CommandError if this is an installed copy without tests."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / "tests").is_dir() or not (folder / "pyproject.toml").is_file():
        raise CommandError(f"no tests/ beside {folder / 'probes'}: install from a checkout with `pip install -e .`")
    return folder


@dataclass(frozen=True)
class Package:
    """A Debian package: its name, commands and files that show it is there, and what it is for."""

    name: str
    shows: tuple[str, ...]
    purpose: str

    def is_there(self) -> bool:
        """Whether it is installed, as far as its commands and files tell."""
        return all(Path(one).exists() if "/" in one else which(one) is not None for one in self.shows)


def packages() -> list[Package]:
    """The lines of packages.txt."""
    lines = (checkout() / PACKAGES).read_text().splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line.strip() and line[0] != "#"]
    return [Package(name, tuple(shows.split()), purpose) for name, shows, purpose in rows]


def which(command: str) -> str | None:
    """The path of a command, wherever an administrator has it: ordinary users' PATH often leaves sbin out."""
    return shutil.which(command, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")

"""Where the suite lies: it runs from a checkout."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from probes.trouble import Trouble

PACKAGES = "packages.txt"


def checkout() -> Path:
    """The folder with probes/ and tests/. Raises Trouble if this is an installed copy without tests."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / "tests").is_dir() or not (folder / "pyproject.toml").is_file():
        raise Trouble(f"no tests/ beside {folder / 'probes'}: install from a checkout with `pip install -e .`")
    return folder


@dataclass(frozen=True)
class Package:
    """A Debian package: its name, a command or a file that shows it is there, and what it is for."""

    name: str
    shows: str
    purpose: str

    def is_there(self) -> bool:
        """Whether it is installed, as far as its command or file tells."""
        return Path(self.shows).exists() if "/" in self.shows else shutil.which(self.shows) is not None


def packages() -> list[Package]:
    """The lines of packages.txt."""
    lines = (checkout() / PACKAGES).read_text().splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line.strip() and line[0] != "#"]
    return [Package(*row) for row in rows]

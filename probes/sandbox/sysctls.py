"""Puts back the sysctls of the network that a test without a network namespace of its own has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NET = Path("/proc/sys/net")


class Sysctls:
    """Holds the values of the sysctls of this network, as they were when it was made."""

    def __init__(self) -> None:
        """Read them."""
        self._values = dict(_values())

    def restore(self) -> None:
        """Write the former value of each that has another one; those that cannot be written stay."""
        for path, value in _values():
            if (former := self._values.get(path, value)) != value:
                with suppress(OSError):
                    path.write_bytes(former)


def _values() -> Iterator[tuple[Path, bytes]]:
    for path in _NET.rglob("*"):
        with suppress(OSError):  # a directory, or one that is only written
            if path.stat().st_mode & 0o200:
                yield path, path.read_bytes()

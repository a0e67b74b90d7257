"""How much memory is left on this machine, and in the control groups of this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def available(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Return the bytes that can be used without swapping, None where they are not known: a kernel may lack both files."""
    found: list[int] = []
    with suppress(OSError):
        free = re.search(r"^MemAvailable: *([0-9]+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
        found += [int(free[1]) << 10] if free else []
    with suppress(OSError):
        cgroup = re.search(r"^0::/(.*)$", (proc / "self" / "cgroup").read_text(), re.MULTILINE)
        found += left_in_cgroup(cgroups / cgroup[1]) if cgroup else []
    return min(found, default=None)


def left_in_cgroup(place: Path) -> Iterator[int]:
    """Yield what is left of the limits of a cgroup and those above it (cgroup-v2.rst, Memory Interface Files).

    The kernel drops the contents of files that were not used lately when the limit is reached.
    """
    for directory in (place, *place.parents):
        try:
            limit, used = ((directory / f"memory.{name}").read_text() for name in ("max", "current"))
            dropped = re.search(r"^inactive_file ([0-9]+)", (directory / "memory.stat").read_text(), re.MULTILINE)
        except OSError:
            continue  # The root has no limit.
        if limit.strip() != "max":
            yield max(0, int(limit) - int(used) + int(dropped[1] if dropped else 0))

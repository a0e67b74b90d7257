"""Determines in how many processes a run's tests run: by its options, the CPUs and the memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from probes.plugin.options import AUTO

#: Bytes that a worker takes with the sandbox of a test; 89 MiB were the most that a whole run showed.
_MEMORY = 100 << 20
_CGROUPS = Path("/sys/fs/cgroup")


def how_many(config: pytest.Config) -> int:
    """Returns how many processes are to run tests. Raises UsageError: more than memory allows."""
    wanted: int | str | None = config.getoption("workers")
    option = config.option
    # A debugger and -s have the terminal, --stream writes what one process does.
    alone = option.usepdb or option.trace or option.capture == "no" or option.stream is not None or option.collectonly
    if wanted is None or alone:
        return 1
    free = available()
    fit = max(1, free // _MEMORY)
    if wanted == AUTO:
        return min(len(os.sched_getaffinity(0)), fit)
    if int(wanted) > fit:
        raise pytest.UsageError(
            f"-n {wanted}: {free >> 20} MB of memory are available, and a worker takes up to {_MEMORY >> 20}; "
            f"pass -n {fit} or less, or leave it out"
        )
    return int(wanted)


def available() -> int:
    """Returns the bytes of memory that can be used without swapping, on this machine and in this process's cgroups."""
    found = re.search(r"^MemAvailable: *([0-9]+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    cgroup = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    limits: Iterable[int] = left_in_cgroup(_CGROUPS / cgroup[1]) if cgroup else ()
    return min([int(found[1]) << 10 if found else _MEMORY, *limits])


def left_in_cgroup(place: Path) -> Iterator[int]:
    """Yields what is left of the limits of a cgroup and those above it (cgroup-v2.rst, Memory Interface Files).

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

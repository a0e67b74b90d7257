"""Determines in how many processes a run's tests run: by its options, the CPUs and the memory."""

from __future__ import annotations

import os

import pytest

from probes.plugin.options import AUTO
from probes.sandbox.free_memory import available

#: Bytes that a worker takes with the sandbox of a test; 89 MiB were the most that a whole run showed.
_MEMORY = 100 << 20


def how_many(config: pytest.Config) -> int:
    """Returns how many processes are to run tests. Raises UsageError: more than memory allows."""
    wanted: int | str | None = config.getoption("workers")
    option = config.option
    # A debugger and -s have the terminal, --stream writes what one process does.
    alone = option.usepdb or option.trace or option.capture == "no" or option.stream is not None or option.collectonly
    if wanted is None or alone:
        return 1
    if option.via_tty is not None:
        if wanted not in (AUTO, 1):
            raise pytest.UsageError(f"-n {wanted}: there is one line for the whole run; leave out -n")
        return 1
    free, cpus = available(), len(os.sched_getaffinity(0))
    if free is None:
        return cpus if wanted == AUTO else int(wanted)
    fit = max(1, free // _MEMORY)
    if wanted == AUTO:
        return min(cpus, fit)
    if int(wanted) > fit:
        raise pytest.UsageError(
            f"-n {wanted}: {free >> 20} MB of memory are available, and a worker takes up to {_MEMORY >> 20}; "
            f"pass -n {fit} or less, or leave it out"
        )
    return int(wanted)

"""Finds the processes that `socketcall capture -p` names: by number or name, and those that they started."""

from __future__ import annotations

import os

from probes.errors import CommandError
from probes.trace.spawn import CANNOT_TRACE, CannotCapture


def named_processes(words: list[str], tree: bool) -> dict[int, bool]:
    """Returns the process ids that -p names: numbers, several by commas, or names; with `tree` their descendants too.

    True stands with those that were given as numbers: others may end before they are traced. Raises CommandError,
    CannotCapture.
    """
    found: dict[int, bool] = {}
    for item in (item for word in words for item in word.split(",")):
        if item.isdecimal() and int(item):
            found[int(item)] = True
        elif not item or item.isdecimal():
            raise CommandError(f"capture: -p: {item!r} is not a process id; `ps -e` lists them")
        else:
            found |= {pid: found.get(pid, False) for pid in _by_name(item)}
    children = [child for pid in found for child in _descendants(pid)] if tree else []
    return found | {child: found.get(child, False) for child in children}


def _descendants(pid: int) -> list[int]:
    import psutil

    try:
        return [each.pid for each in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _by_name(name: str) -> list[int]:
    import psutil

    own = {os.getpid(), os.getppid()}
    pids = [each.pid for each in psutil.process_iter(["name"]) if each.info["name"] == name and each.pid not in own]
    if not pids:
        raise CannotCapture(CANNOT_TRACE, f"cannot trace {name}: no process has that name; `ps -e` lists them")
    return pids

"""The directory of a report: written beside its place, moved into it at the end, never mixed with a user's files."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

from probes.errors import CommandError

#: The first file in a directory of ours: {"schema": …, "pid": …, "started": …}.
MARKER = ".socketcall"
#: Version of the files that this suite writes and reads; docs/schema.json describes it.
SCHEMA = 3


class ReportDirectory:
    """A directory that is written as NAME.part and then moved into its place; what was there becomes NAME.old.

    Raises CommandError if NAME, NAME.old or NAME.part is something else than an empty directory or a report: a file, a
    device, a symbolic link, a directory of the user's, a report that another process is writing; or if it cannot be
    written.
    """

    def __init__(self, place: Path, option: str = "--report") -> None:
        """Makes NAME.part for the directory `place`, which a user gives by an option."""
        self._place, self._option = place, option
        self._old = place.with_name(place.name + ".old")
        self.part = place.with_name(place.name + ".part")
        for path in (self._place, self._old, self.part):
            _require_ours(path, option)
        if (writer := _writer_of(self.part)) is not None:
            raise CommandError(f"{self.part} is being written by process {writer}: give another {option}")
        try:
            _remove(self.part)
            self.part.parent.mkdir(parents=True, exist_ok=True)
            self.part.mkdir()
            marker = {"schema": SCHEMA, "pid": os.getpid(), "started": _started(os.getpid())}
            (self.part / MARKER).write_text(json.dumps(marker) + "\n")
        except OSError as error:
            raise CommandError(f"cannot write to {place}: {error.strerror}; give another {option}") from error

    def keep(self) -> Path:
        """Move it into place, keep what was there as NAME.old, and return the place. Raises OSError."""
        for path in (self._place, self._old):
            _require_ours(path, self._option)
        if os.path.lexists(self._place):
            _remove(self._old)
            self._place.rename(self._old)
        self.part.rename(self._place)
        return self._place

    def discard(self) -> None:
        """Remove what was written."""
        _remove(self.part)


def _require_ours(path: Path, option: str) -> None:
    """Raises CommandError unless nothing is at a path, or an empty directory, or a report."""
    try:
        mode = path.lstat().st_mode
        ours = stat.S_ISDIR(mode) and (not any(path.iterdir()) or _marker(path) is not None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CommandError(f"cannot write to {path}: {error.strerror}; give another {option}") from error
    if stat.S_ISLNK(mode):
        raise CommandError(f"{path} is a symbolic link, which a report does not follow: give another {option}")
    if not ours:
        what = "holds files that are no report" if stat.S_ISDIR(mode) else "is not a directory"
        raise CommandError(f"{path} {what}, and stays as it is: give another {option}, or remove it")


def _marker(directory: Path) -> dict[str, object] | None:
    """Returns the marker of a directory of ours, None where there is none."""
    try:
        fd = os.open(directory / MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            found = json.loads(file.read(4096))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"schema", "pid", "started"} <= set(found) else None


def _writer_of(part: Path) -> int | None:
    """Returns the process that is writing a .part, None if it is gone."""
    marker = _marker(part) or {}
    pid = marker.get("pid")
    return pid if isinstance(pid, int) and _started(pid) == marker["started"] != "" else None


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5) /proc/PID/stat, field 22); "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _remove(path: Path) -> None:
    if os.path.lexists(path):
        shutil.rmtree(path)

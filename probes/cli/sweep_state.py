"""The state of a sweep in a file: a line for what is swept, and one for each chunk that was, so that it can be resumed.

Lines are only appended: a process that is killed leaves at most one line without its end.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probes.errors import CommandError
from probes.report.check import Json
from probes.report.sweep import Outcome

#: Bytes of a state file: the longest sweep writes less than a tenth.
_LONGEST = 1 << 26
_ADVICE = "name another file with --state, or remove it"


class State:
    """Reads and appends to a state file. Raises CommandError: the file is none of this sweep, or cannot be written."""

    def __init__(self, path: Path, facts: Mapping[str, Json]) -> None:
        """Opens it, or makes it. `facts` describe the sweep: those in the file must be the same."""
        self._path = path
        #: What was swept: members start to stop - 1, the seconds that it took, and what was found.
        self.chunks: list[tuple[int, int, float, Outcome]] = []
        try:
            self._fd = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise CommandError(f"cannot use the state file {path}: {why}; name another file with --state") from error
        try:
            self._begin({"type": "sweep", **facts})
        except BaseException:
            os.close(self._fd)
            raise

    def _begin(self, facts: Mapping[str, Json]) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise CommandError(f"cannot use the state file {self._path}: it is no regular file; {_ADVICE}")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(f"{self._path} is in use by another sweep; wait for its end, or {_ADVICE}") from error
        data = os.pread(self._fd, _LONGEST + 1, 0)
        if not data:
            self._append(facts)
            return
        whole = data.rfind(b"\n") + 1
        if not whole or len(data) > _LONGEST:
            raise CommandError(f"{self._path} holds no state of a sweep, and stays as it is; {_ADVICE}")
        first, *rest = data[:whole].splitlines()
        self._require_same(first, facts)
        for number, line in enumerate(rest, 2):
            try:
                self.chunks.append(_chunk(json.loads(line), facts["members"]))
            except (ValueError, RecursionError) as error:
                raise CommandError(f"{self._path} is damaged in line {number}; {_ADVICE}") from error
        if whole < len(data):
            os.ftruncate(self._fd, whole)

    def _require_same(self, line: bytes, facts: Mapping[str, Json]) -> None:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("type") != "sweep":
            raise CommandError(f"{self._path} holds no state of a sweep, and stays as it is; {_ADVICE}")
        for name, value in facts.items():
            if (other := found.get(name)) != value:
                raise CommandError(
                    f"{self._path} is the state of a sweep with another {name}, {str(other)[:80]} instead of {value}; "
                    f"{_ADVICE}"
                )

    def add(self, start: int, stop: int, seconds: float, outcome: Outcome) -> None:
        """Appends a chunk. Raises CommandError: the file cannot be written."""
        self._append({"start": start, "stop": stop, "seconds": round(seconds, 3), **outcome.as_json()})

    def _append(self, line: Mapping[str, Json]) -> None:
        try:
            data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            if os.write(self._fd, data) != len(data):
                raise CommandError(f"cannot write {self._path}: the disk is full; free space and resume", 3)
        except OSError as error:
            raise CommandError(f"cannot write {self._path}: {error.strerror}; free space and resume", 3) from error

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)


def _chunk(line: Any, members: int) -> tuple[int, int, float, Outcome]:
    """Reads the line of a chunk. Raises ValueError."""
    if not isinstance(line, dict):
        raise ValueError("a chunk is an object")
    start, stop, seconds = line.get("start"), line.get("stop"), line.get("seconds")
    if type(start) is not int or type(stop) is not int or not 0 <= start < stop <= members:
        raise ValueError("a chunk has members of the sweep")
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        raise ValueError("a chunk has seconds")
    return start, stop, float(seconds), Outcome.of_json(line)

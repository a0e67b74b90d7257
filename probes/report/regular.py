"""Opens files that a user names. A FIFO would block, a device such as /dev/zero has no end: both are refused."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from probes.errors import CommandError


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading. Raises OSError, and CommandError: it is something else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:
        raise CommandError(f"cannot read {path!s}: {error}") from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        what = "a directory" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise CommandError(f"cannot read {path}: it is {what}; name a regular file")
    return os.fdopen(fd, "rb")


def lines_of(path: Path, longest: int = 1 << 24) -> list[str]:
    """Return the lines of a text file. Raises CommandError: it cannot be read, is too long or not UTF-8."""
    try:
        with open_regular(path) as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > longest:
        raise CommandError(f"cannot read {path}: it has more than {longest >> 20} MB; name a list of ids")
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise CommandError(f"cannot read {path}: it is not UTF-8") from error

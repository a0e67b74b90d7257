"""Name the directory that a body works in."""

from __future__ import annotations

import functools
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Directories of every system (hier(7)) that are empty on most.
_USUALLY_EMPTY = ("/mnt", "/media", "/srv", "/opt")


@contextmanager
def work_directory() -> Iterator[Path]:
    """Yield a path for `sandbox.run`, which makes a directory there only if it needs one; and remove that."""
    path = unmade()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def unmade() -> Path:
    """Return a path in the temporary directory at which nothing is."""
    return Path(tempfile.gettempdir(), f"socketcall-{secrets.token_hex(8)}")


def made(isolation: str, path: Path) -> Path:
    """Return the directory in which a sandbox works: an existing one under its tmpfs, or `path`, made if it is missing.

    A sandbox that mounts its tmpfs where only it sees that needs no directory of its own: a runner that is killed
    leaves none.
    """
    if isolation == "full" and (there := _empty_directory()) is not None:
        return there
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@functools.cache
def _empty_directory() -> Path | None:
    """Return a directory in which a mount hides nothing, None if there is none."""
    for path in map(Path, _USUALLY_EMPTY):
        try:
            if not path.is_symlink() and not any(path.iterdir()):
                return path
        except OSError:
            continue
    return None

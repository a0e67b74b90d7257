"""Builds artefacts (roots, boxes, programs) and keeps them in the cache.

An artefact is a directory in the cache whose name ends in the hash of its recipe. It is built in another directory,
under a lock, and renamed when it is complete. What a killed build left is removed by the next build.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from probes.errors import CommandError
from probes.installation import packages, which

Progress = Callable[[str], None]
"""Takes a line about a step that takes long, for the person who waits for it."""

Advice = tuple[tuple[str, str], ...]
"""Pairs of a pattern and what to do about a command that failed: the first pattern found in its output decides."""

ADVICE = (
    (r"No space left", "free some space"),
    (r"newuidmap|newgidmap|subuid|subgid", "build it once as root with SOCKETCALL_CACHE set to a directory "
     "you can read, or install uidmap and give this user a line in /etc/subuid and /etc/subgid"),
    (r"resolv|connect|Connection|Failed to fetch|timed out|No matching distribution",
     "check the network, and what apt and pip are set to use on this machine"),
)  # fmt: skip

LOCK_DEADLINE = 3600.0
"""Seconds to wait while another process builds the same artefact."""


class CannotBuild(CommandError):
    """An artefact cannot be built, or a target that needs it cannot be entered. One line: what, why, what to do."""


class CommandFailed(Exception):
    """A command of a build failed. The text is the reason in one line, `output` all that the command wrote."""

    def __init__(self, reason: str, output: str = "") -> None:
        """Keeps the output."""
        super().__init__(reason)
        self.output = output


@dataclass(frozen=True)
class Recipe:
    """Describes how an artefact is built. All that determines its content is part of its key."""

    name: str
    what: str
    build: Callable[[Path, Progress], None]
    inputs: tuple[str, ...] = ()
    needs: tuple[Recipe, ...] = ()
    megabytes: int = 1

    @property
    def key(self) -> str:
        """Returns the hash of the inputs, of the code that uses them, and of the recipes it needs."""
        parts = [self.name, inspect.getsource(self.build), *self.inputs, *(need.key for need in self.needs)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def cache() -> Path:
    """Returns the directory that holds every artefact. Raises CannotBuild: it is not known."""
    chosen = os.environ.get("SOCKETCALL_CACHE")
    try:
        return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "socketcall"
    except RuntimeError as error:
        raise CannotBuild("this user has no home directory: set SOCKETCALL_CACHE to a directory") from error


def have(recipe: Recipe) -> Path | None:
    """Returns the path of an artefact, None if it is not built."""
    ready = path_of(recipe)
    return ready if ready.is_dir() else None


def make(recipe: Recipe, progress: Progress) -> Path:
    """Returns the path of an artefact, and builds it first if it is missing. Raises CannotBuild."""
    if ready := have(recipe):
        return ready
    for need in recipe.needs:
        make(need, progress)
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with _lock(recipe, progress):
            return have(recipe) or _build(recipe, progress)
    except CommandFailed as failure:
        raise build_error(recipe.name, failure, cache() / f"{recipe.name}.log") from failure
    except OSError as error:
        raise unwritable_error(recipe.name, error) from error


def outdated(recipes: Collection[Recipe]) -> list[Path]:
    """Returns what the cache has of artefacts with these names whose recipes have changed since."""
    current = {path_of(recipe).name for recipe in recipes}
    names = "|".join(re.escape(recipe.name) for recipe in recipes)
    artefact = re.compile(rf"((?:{names})-[0-9a-f]{{12}})(\.lock|\.part-\d+)?")
    found = cache().iterdir() if cache().is_dir() else ()
    return sorted(path for path in found if (match := artefact.fullmatch(path.name)) and match[1] not in current)


def build_error(name: str, failure: CommandFailed, log: Path, advice: Advice = ADVICE) -> CannotBuild:
    """Makes the error for a command that failed, and keeps its output in a log."""
    with suppress(OSError):  # a full disk may be the very failure
        log.write_text(failure.output)
    return CannotBuild(f"{name}: {failure}; {_advice(failure.output, advice)} (its whole output: {log})")


def unwritable_error(name: str, error: OSError) -> CannotBuild:
    """Makes the error for a cache that cannot be written."""
    advice = f"free some space in {cache()}, or" if error.errno == errno.ENOSPC else "make it writable, or"
    where = error.filename or cache()
    return CannotBuild(f"{name}: {where}: {error.strerror}; {advice} set SOCKETCALL_CACHE to another directory")


def require_space(name: str, directory: Path, megabytes: int) -> None:
    """Raises CannotBuild if the file system of a directory has less free space."""
    free = shutil.disk_usage(directory).free // 1_000_000
    if free < megabytes:
        raise CannotBuild(
            f"{name}: needs {megabytes} MB in {directory}, {free} MB are free; "
            "free some space or set SOCKETCALL_CACHE to another directory"
        )


def path_of(recipe: Recipe) -> Path:
    """Returns the path that an artefact has when it is built."""
    return cache() / f"{recipe.name}-{recipe.key}"


@contextmanager
def _lock(recipe: Recipe, progress: Progress) -> Iterator[None]:
    """Excludes other builders of this artefact. The kernel releases the lock of a builder that dies."""
    path = path_of(recipe).with_name(f"{path_of(recipe).name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = time.monotonic() + LOCK_DEADLINE
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise CannotBuild(
                        f"{recipe.name}: another process has been building it for {LOCK_DEADLINE:.0f} s; "
                        f"end the one that holds {path} (fuser names it) and try again"
                    ) from None
            if not waiting:
                progress(f"{recipe.name}: waiting for another process that builds it")
                waiting = True
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _build(recipe: Recipe, progress: Progress) -> Path:
    """Builds in a directory of its own, then renames that. The caller holds the lock."""
    ready = path_of(recipe)
    for left in ready.parent.glob(f"{ready.name}.part-*"):  # a killed builder's, whose last child may still be exiting
        shutil.rmtree(left, ignore_errors=True)
    require_space(recipe.name, ready.parent, recipe.megabytes)
    progress(f"{recipe.name}: building it, once ({recipe.what})")
    part = ready.with_name(f"{ready.name}.part-{os.getpid()}")
    try:
        part.mkdir()
        recipe.build(part, progress)
        part.rename(ready)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ready


# Commands of builds


def tool(name: str) -> str:
    """Returns the path of a program. Raises CannotBuild, which names its package, if it is missing."""
    if found := which(name):
        return found
    package = next((package.name for package in packages() if name in package.shows), name)
    raise CannotBuild(f"{name} is missing on this machine; install Debian's package {package}")


def contained() -> list[str]:
    """Returns the beginning of a command line that runs in mount and pid namespaces of its own.

    Its mounts are invisible outside, and all its children end when it or this process ends.
    """
    # unshare ignores SIGTERM.
    return [tool("setpriv"), "--pdeathsig", "KILL", tool("unshare"), "--mount", "--pid", "--fork", "--kill-child",
            "--mount-proc"]  # fmt: skip


def run(command: list[str], deadline: float, env: Mapping[str, str] | None = None, called: str = "") -> str:
    """Runs a command of a build and returns its output.

    The command is ended at its deadline, when this process is interrupted, and when this process ends. Raises
    CommandFailed; `called` is the name of the command in its text.
    """
    called = called or command[0]
    argv = [tool("setpriv"), "--pdeathsig", "TERM", tool(command[0]), *command[1:]]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C", **(env or {})},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        output = _stop(process)
        raise CommandFailed(f"{called} did not end within {deadline:.0f} s", output + "\ntimed out") from None
    except BaseException:
        _stop(process)
        raise
    if process.returncode != 0:
        raise CommandFailed(f"{called} failed: {_reason(output)}", output)
    return output


def _stop(process: subprocess.Popen[str]) -> str:
    """Ends a command and its children; SIGTERM first, because mmdebstrap removes directories of other user ids then."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            return process.communicate(timeout=30)[0]
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    return ""


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"E:|ERROR|error", line)]
    return (errors or lines or ["no output"])[-1][:300]


def _advice(output: str, advices: Advice) -> str:
    return next((advice for pattern, advice in advices if re.search(pattern, output)), "read its output")

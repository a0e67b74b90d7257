"""The only builder of roots, boxes, kernels and programs.

An artefact is a folder in the cache whose name ends in the hash of its recipe. It is built aside and renamed, under a
lock, so one that has its name is whole: a build that was killed leaves only what the next one sweeps away.
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

Say = Callable[[str], None]

Advice = tuple[tuple[str, str], ...]
"""What to do about a command that failed, by what it said: the first pattern that is found."""

ADVICE = (
    (r"No space left", "free some space"),
    (r"newuidmap|newgidmap|subuid|subgid", "build it once as root with SOCKETCALL_CACHE set to a folder "
     "you can read, or install uidmap and give this user a line in /etc/subuid and /etc/subgid"),
    (r"resolv|connect|Connection|Failed to fetch|timed out|No matching distribution",
     "check the network, and what apt and pip are set to use on this machine"),
)  # fmt: skip

LOCK_DEADLINE = 3600.0
"""How long to wait for somebody else's build of the same artefact, in seconds."""


class CannotBuild(CommandError):
    """An artefact, or a target that stands on it, cannot be had. The message is one line: what, why, what to do."""


class CommandFailed(Exception):
    """A command of a build failed. The text is the reason in one line; output is all it said."""

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output


@dataclass(frozen=True)
class Recipe:
    """How one artefact is made. Everything that determines its content belongs to its key."""

    name: str
    what: str
    build: Callable[[Path, Say], None]
    inputs: tuple[str, ...] = ()
    needs: tuple[Recipe, ...] = ()
    megabytes: int = 1

    @property
    def key(self) -> str:
        """The hash of the inputs, of the code that uses them, and of the recipes this one stands on."""
        parts = [self.name, inspect.getsource(self.build), *self.inputs, *(need.key for need in self.needs)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def cache() -> Path:
    """The folder that holds every artefact."""
    chosen = os.environ.get("SOCKETCALL_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "socketcall"


def have(recipe: Recipe) -> Path | None:
    """The artefact, if it is built."""
    ready = place(recipe)
    return ready if ready.is_dir() else None


def make(recipe: Recipe, say: Say) -> Path:
    """The artefact, built now if it is missing; CannotBuild if it cannot be."""
    if ready := have(recipe):
        return ready
    for need in recipe.needs:
        make(need, say)
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with _lock(recipe, say):
            return have(recipe) or _build(recipe, say)
    except CommandFailed as failure:
        raise trouble(recipe.name, failure, cache() / f"{recipe.name}.log") from failure
    except OSError as error:
        raise unwritable(recipe.name, error) from error


def outdated(recipes: Collection[Recipe]) -> list[Path]:
    """What lies in the cache of artefacts by these names, made by recipes that have changed since."""
    current = {place(recipe).name for recipe in recipes}
    names = "|".join(re.escape(recipe.name) for recipe in recipes)
    artefact = re.compile(rf"((?:{names})-[0-9a-f]{{12}})(\.lock|\.part-\d+)?")
    found = cache().iterdir() if cache().is_dir() else ()
    return sorted(path for path in found if (match := artefact.fullmatch(path.name)) and match[1] not in current)


def trouble(name: str, failure: CommandFailed, log: Path, advice: Advice = ADVICE) -> CannotBuild:
    """What to say about a command that failed; all that it said is kept in log."""
    with suppress(OSError):  # the disk may be full, and that is what there is to say
        log.write_text(failure.output)
    return CannotBuild(f"{name}: {failure}; {_advice(failure.output, advice)} (its whole output: {log})")


def unwritable(name: str, error: OSError) -> CannotBuild:
    """What to say about a cache that cannot be written."""
    advice = f"free some space in {cache()}, or" if error.errno == errno.ENOSPC else "make it writable, or"
    where = error.filename or cache()
    return CannotBuild(f"{name}: {where}: {error.strerror}; {advice} set SOCKETCALL_CACHE to another folder")


def room(name: str, folder: Path, megabytes: int) -> None:
    """Raises CannotBuild if a folder's disk has less room."""
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < megabytes:
        raise CannotBuild(
            f"{name}: needs {megabytes} MB in {folder}, {free} MB are free; "
            "free some space or set SOCKETCALL_CACHE to another folder"
        )


def place(recipe: Recipe) -> Path:
    """Where an artefact lies when it is built."""
    return cache() / f"{recipe.name}-{recipe.key}"


@contextmanager
def _lock(recipe: Recipe, say: Say) -> Iterator[None]:
    """Exclude other builders of this artefact. The kernel drops the lock of a builder that dies."""
    path = place(recipe).with_name(f"{place(recipe).name}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = time.monotonic() + LOCK_DEADLINE
        told = False
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
            if not told:
                say(f"{recipe.name}: waiting for another process that builds it")
                told = True
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _build(recipe: Recipe, say: Say) -> Path:
    """Build aside, then rename: called with the lock held."""
    ready = place(recipe)
    for left in ready.parent.glob(f"{ready.name}.part-*"):  # a killed builder's; its last child may still be dying
        shutil.rmtree(left, ignore_errors=True)
    room(recipe.name, ready.parent, recipe.megabytes)
    say(f"{recipe.name}: building it, once ({recipe.what})")
    aside = ready.with_name(f"{ready.name}.part-{os.getpid()}")
    try:
        aside.mkdir()
        recipe.build(aside, say)
        aside.rename(ready)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return ready


# What builds call


def tool(name: str) -> str:
    """The path of a program the machine must have. Raises CannotBuild, which names its package."""
    if found := which(name):
        return found
    package = next((package.name for package in packages() if name in package.shows), name)
    raise CannotBuild(f"{name} is missing on this machine; install Debian's package {package}")


def contained() -> list[str]:
    """The start of a command line that runs in mount and pid namespaces of its own. What it mounts is seen by nobody
    else, and when it or this process ends, so do all its children."""
    # unshare does not listen to TERM.
    return [tool("setpriv"), "--pdeathsig", "KILL", tool("unshare"), "--mount", "--pid", "--fork", "--kill-child",
            "--mount-proc"]  # fmt: skip


def run(command: list[str], deadline: float, env: Mapping[str, str] | None = None, called: str = "") -> str:
    """What a command of a build prints. It ends with its deadline, with an interruption, and with this process."""
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
        raise CommandFailed(f"{called} failed: {_telling(output)}", output)
    return output


def _stop(process: subprocess.Popen[str]) -> str:
    """End the command and its children: asked first, because mmdebstrap has folders of other ids to take away."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            return process.communicate(timeout=30)[0]
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    return ""


def _telling(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"E:|ERROR|error", line)]
    return (errors or lines or ["no output"])[-1][:300]


def _advice(output: str, advices: Advice) -> str:
    return next((advice for pattern, advice in advices if re.search(pattern, output)), "read what it says")

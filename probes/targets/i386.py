"""Runs the suite on the target i386: 32-bit Python in a Debian 12 i386 root, on this machine's kernel.

bubblewrap enters the root, because user namespaces cannot be made in a chroot. setarch sets the i686 personality,
because libraries derive the system calls that exist from uname.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from probes.installation import checkout as own_checkout
from probes.interrupts import ENDING
from probes.targets import debian, store
from probes.targets.store import CannotBuild, Progress, Recipe, cache, tool
from probes.targets.target import CheckArguments, Target, run_check

# The root

SUITE = "/opt/suite"
"""The Python environment with the suite's dependencies, inside the root."""

PACKAGES = ("python3", "python3-venv", "python3-pip", "python3-psutil", "strace", "iproute2", "libcap2-bin")
REQUIREMENTS = (
    "pytest>=9", "pytest-xdist", "hypothesis", "scapy", "psutil", "python-ptrace", "pyroute2",
    "rich", "jinja2", "jsonschema",
)  # fmt: skip


def _build_root(into: Path, progress: Progress) -> None:
    # A tar that we unpack belongs to the user who builds. A directory that mmdebstrap made would belong to a
    # subordinate id, and its user could neither change nor delete it.
    progress("i386-root: installing Debian's packages, about a minute")
    archive = debian.bootstrap(into, PACKAGES)
    debian.unpack(archive, into)
    archive.unlink()
    progress("i386-root: installing the suite's Python packages")
    enter = debian.enter(into)
    store.run([*enter, "python3", "-m", "venv", SUITE], debian.FETCH_DEADLINE)
    install = [f"{SUITE}/bin/python3", "-m", "pip", "install", "--no-cache-dir", "--only-binary", ":all:"]
    store.run([*enter, *install, *REQUIREMENTS], debian.FETCH_DEADLINE)


ROOT = Recipe(
    name="i386-root",
    what="Debian 12 i386 with Python and what the suite needs",
    build=_build_root,
    inputs=(*debian.SUITES, *PACKAGES, SUITE, *REQUIREMENTS),
    megabytes=1200,
)

# Entering it

PASSED_ON = re.compile(r"TERM|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CI|TZ|(SOCKETCALL|PYTEST|HYPOTHESIS)_\w+")
"""The variables that a run gets; the others concern programs of this machine."""


def argv(
    root: Path,
    checkout: Path,
    command: list[str],
    writable: list[Path],
    target: Target | None = None,
    personality: Sequence[str] = ("setarch", "i686"),
) -> list[str]:
    """Returns the command line that runs a command in the root of a target, by default this module's. Raises CannotBuild.

    The checkout and the writable directories have their own paths inside. The root is read-only: a tmpfs gets its parts
    as mounts, so that a directory of this machine can appear at any path without a change of the artefact. /proc is
    this machine's, because bubblewrap run by root mounts a new one with read-only parts, and then no namespace inside
    may mount another.
    """
    target = TARGET if target is None else target
    directories = sorted({checkout, *writable})
    for directory in directories:
        if _hides_the_root(root, directory):
            raise CannotBuild(f"{target.name}: {directory} is also a directory of its root; choose another")
    here = Path.cwd()
    inside = any(here.is_relative_to(directory) for directory in directories)
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    environment |= {**target.environment(), "PYTHONPATH": str(checkout), "SOCKETCALL_CACHE": str(cache())}
    # bubblewrap would make missing parents with a mode that only its own user may enter.
    parents = [["--dir", str(up)] for path in (cache(), *directories) for up in reversed(path.parents[:-1])]
    binds = [["--bind", str(directory), str(directory)] for directory in directories]
    ending = _ending()
    return [
        # bubblewrap lives as long as the run inside, which handles the signals; what it executes would ignore them too.
        tool("env"), f"--ignore-signal={ending}", tool("bwrap"), "--die-with-parent",
        *_parts(root, Path("/"), [*directories, cache()]),
        "--dev", "/dev", "--bind", "/proc", "/proc", "--bind", "/sys", "/sys",
        "--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run",
        *chain(*parents), "--ro-bind-try", str(cache()), str(cache()), *chain(*binds),
        "--chdir", str(here if inside else checkout),
        *_environment(environment),
        *personality, "env", f"--default-signal={ending}", *command,
    ]  # fmt: skip


def run(
    check_args: Sequence[str],
    checkout: Path,
    progress: Progress,
    subcommand: str = "check",
    target: Target | None = None,
    personality: Sequence[str] = ("setarch", "i686"),
) -> int:
    """Runs `socketcall check` in the root of a target, builds that first if it is missing, and returns the exit status.

    `subcommand` is the command that takes the arguments, if it is another one; the target is by default this module's.
    """
    target = TARGET if target is None else target
    assert target.recipe is not None
    root = store.make(target.recipe, progress)
    checkout = checkout.resolve()
    writable = list(_directories_named(check_args, checkout))
    _try(argv(root, checkout, ["true"], writable, target, personality), target.name)
    python = [f"{SUITE}/bin/python3", "-P"]  # -P: probes/ of the checkout, not of the current directory
    words = [*python, "-m", "probes.cli", subcommand, *check_args]
    return run_check(argv(root, checkout, words, writable, target, personality), _judging)


def _ending() -> str:
    """Returns the names of the signals that end a command, without those that this process inherited ignored."""
    return ",".join(number.name for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN)


def _judging(bubblewrap: int) -> int | None:
    """Returns the Python process under bubblewrap, None before Python is executed."""
    with suppress(OSError):
        for child in Path(f"/proc/{bubblewrap}/task/{bubblewrap}/children").read_text(encoding="ascii").split():
            if Path(f"/proc/{child}/exe").readlink().name.startswith("python"):
                return int(child)
    return None


def _try(command: list[str], target: str) -> None:
    """Raises CannotBuild if a command cannot run in the root: bubblewrap and a failed run both exit with 1."""
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.TimeoutExpired:
        why = "no answer within 60 s"
    except subprocess.CalledProcessError as failure:
        why = (str(failure.stderr).strip().splitlines() or [f"status {failure.returncode}"])[-1]
    else:
        return
    advice = "check what the message names"
    if re.search("namespace|uid map|not permitted|Permission denied", why):
        advice = "allow user namespaces on this machine, or run it as root"
    elif "Exec format" in why:
        advice = "it needs a kernel that runs i386 programs (CONFIG_IA32_EMULATION)"
    raise CannotBuild(f"{target}: the root cannot be entered: {why}; {advice}")


def _directories_named(check_args: Sequence[str], checkout: Path) -> Iterator[Path]:
    """Yields the directories outside the checkout that the run reads or writes, by its arguments."""
    yield Path.cwd()
    for argument in check_args:
        value = argument.partition("=")[2] or argument
        path = Path(value).absolute()
        if "/" not in value or path.is_relative_to(checkout):
            continue
        # A report is renamed into place, which works only within one mount.
        yield next(parent for parent in path.parents if parent.is_dir())


def _hides_the_root(root: Path, directory: Path) -> bool:
    """Returns True if a directory, mounted over the root's of the same path, would hide files that the root needs."""
    own = root / directory.relative_to("/")
    return directory not in (Path("/tmp"), Path("/root")) and own.is_dir() and any(own.iterdir())


def _parts(root: Path, directory: Path, wanted: list[Path]) -> Iterator[str]:
    """Yields options of bubblewrap that mount one directory of the root, without the wanted paths below it."""
    for own in sorted((root / directory.relative_to("/")).iterdir()):
        path = directory / own.name
        if own.is_symlink():
            yield from ("--symlink", str(own.readlink()), str(path))
        elif path not in map(Path, ("/dev", "/proc", "/sys", "/tmp", "/run")) and path not in wanted:
            if any(other.is_relative_to(path) for other in wanted):
                yield from ("--dir", str(path))
                yield from _parts(root, path, wanted)
            else:
                yield from ("--ro-bind", str(own), str(path))


def _environment(variables: dict[str, str]) -> list[str]:
    return ["--clearenv", *debian.CLEAN, *chain(*(["--setenv", name, value] for name, value in variables.items()))]


class _I386(Target):
    """Names the i386 root as a target."""

    def run(self, args: CheckArguments, progress: Progress) -> int:
        return run(args.words, own_checkout(), progress, args.command)


TARGET = _I386("i386", ROOT.what, ROOT)
"""The target of this module."""

"""The target i386: 32-bit Python in a Debian 12 i386 root on this machine's kernel.

bubblewrap enters the root, because user namespaces cannot be made in a chroot, and setarch gives the i686 personality,
because libraries ask uname which system calls there are.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from probes.installation import TARGET
from probes.targets import debian, store
from probes.targets.store import CannotBuild, Recipe, Say, cache, tool

# The root

SUITE = "/opt/suite"
"""The Python environment inside the root that holds what the suite needs."""

PACKAGES = ("python3", "python3-venv", "python3-pip", "python3-psutil", "strace", "iproute2", "libcap2-bin")
REQUIREMENTS = (
    "pytest>=9", "pytest-xdist", "hypothesis", "scapy", "psutil", "python-ptrace", "pyroute2",
    "rich", "jinja2", "jsonschema",
)  # fmt: skip


def _build_root(into: Path, say: Say) -> None:
    # A tar, unpacked by us, belongs to whoever builds; a folder made by mmdebstrap would belong to a
    # subordinate id that its user can neither change nor delete.
    say("i386-root: installing Debian's packages, about a minute")
    archive = debian.bootstrap(into, PACKAGES)
    debian.unpack(archive, into)
    archive.unlink()
    say("i386-root: installing the suite's Python packages")
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
"""The variables a run takes along; the others belong to this machine's own programs."""


def argv(root: Path, checkout: Path, command: list[str], writable: list[Path]) -> list[str]:
    """The command line that runs command in the root, with the checkout and the writable folders at their own paths.

    The root itself is read-only: it is put together from its parts on a tmpfs, so that a folder of this machine can
    appear anywhere in it without leaving a trace in the artefact. /proc is this machine's own, because a fresh one
    made by bubblewrap has read-only parts when root runs it, and then no namespace below can mount another.
    """
    folders = sorted({checkout, *writable})
    for folder in folders:
        if _hides_the_root(root, folder):
            raise CannotBuild(f"i386: {folder} is also a folder of the i386 root; choose a folder elsewhere")
    here = Path.cwd()
    inside = any(here.is_relative_to(folder) for folder in folders)
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    environment |= {TARGET: "i386", "PYTHONPATH": str(checkout), "SOCKETCALL_CACHE": str(cache())}
    # bubblewrap makes missing parents itself, but closed to every user other than its own.
    parents = [["--dir", str(up)] for path in (cache(), *folders) for up in reversed(path.parents[:-1])]
    binds = [["--bind", str(folder), str(folder)] for folder in folders]
    return [
        tool("bwrap"), "--die-with-parent",
        *_parts(root, Path("/"), [*folders, cache()]),
        "--dev", "/dev", "--bind", "/proc", "/proc", "--bind", "/sys", "/sys",
        "--perms", "1777", "--tmpfs", "/tmp", "--tmpfs", "/run",
        *chain(*parents), "--ro-bind-try", str(cache()), str(cache()), *chain(*binds),
        "--chdir", str(here if inside else checkout),
        *_environment(environment),
        # Whoever starts this ignores the interrupt that is meant for the run inside.
        "setarch", "i686", "env", "--default-signal=INT", *command,
    ]  # fmt: skip


def run(check_args: list[str], checkout: Path, say: Say) -> int:
    """Run `socketcall check` in the root, which is built if it is missing, and return its exit status."""
    root = store.make(ROOT, say)
    checkout = checkout.resolve()
    writable = list(_folders_named(check_args, checkout))
    _try(argv(root, checkout, ["true"], writable))
    python = [f"{SUITE}/bin/python3", "-P"]  # -P: this checkout's probes, whatever the current folder holds
    command = argv(root, checkout, [*python, "-m", "probes.cli.main", "check", *check_args], writable)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run inside, which ends in good order
    try:
        status = subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def _try(command: list[str]) -> None:
    """Tell a root that cannot be entered from a run that fails: bubblewrap says 1 for both."""
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.TimeoutExpired:
        why = "nothing happens for 60 s"
    except subprocess.CalledProcessError as failure:
        why = (str(failure.stderr).strip().splitlines() or [f"status {failure.returncode}"])[-1]
    else:
        return
    advice = "see what it names"
    if re.search("namespace|uid map|not permitted|Permission denied", why):
        advice = "allow user namespaces on this machine, or run it as root"
    elif "Exec format" in why:
        advice = "it needs a kernel that runs i386 programs (CONFIG_IA32_EMULATION)"
    raise CannotBuild(f"i386: the root cannot be entered: {why}; {advice}")


def _folders_named(check_args: list[str], checkout: Path) -> Iterator[Path]:
    """The folders outside the checkout that the arguments name or mean: the run reads and writes there."""
    yield Path.cwd()
    for argument in check_args:
        value = argument.partition("=")[2] or argument
        path = Path(value).absolute()
        if "/" not in value or path.is_relative_to(checkout):
            continue
        # A report is moved into place, which works only if the folder it is in is one mount.
        yield next(parent for parent in path.parents if parent.is_dir())


def _hides_the_root(root: Path, folder: Path) -> bool:
    """Whether folder, put over the root's own of that name, would take away what the root needs."""
    own = root / folder.relative_to("/")
    return folder not in (Path("/tmp"), Path("/root")) and own.is_dir() and any(own.iterdir())


def _parts(root: Path, folder: Path, wanted: list[Path]) -> Iterator[str]:
    """bubblewrap's options that show one folder of the root, leaving room for the wanted paths below it."""
    for own in sorted((root / folder.relative_to("/")).iterdir()):
        path = folder / own.name
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

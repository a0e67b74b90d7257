"""Targets that run the agent by a program of this machine: emulators of user programs, and what changes system calls.

qemu-user is Debian's, of three suites, each in the cache, and Qiling PyPI's; valgrind and PRoot are the installed ones.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probes.errors import CommandError
from probes.installation import IMPLEMENTATION
from probes.targets import debian, store
from probes.targets.store import Progress, Recipe
from probes.targets.target import CheckArguments, Target, run_check

#: Debian's packages of static qemu-user by suite: since trixie those of qemu-user are static themselves.
QEMU = {"bookworm": "qemu-user-static", "trixie": "qemu-user", "sid": "qemu-user"}
_QILING = ("qiling==1.4.6", "unicorn==2.1.4")
#: Debian's name for the architecture of this machine's programs.
ARCHITECTURE = "amd64" if os.uname().machine == "x86_64" else "i386"
#: Where the packages have the program, and where a recipe has it.
_PLACES = ("usr/bin/qemu-i386-static", "usr/bin/qemu-i386")
_PROGRAMS = ("qemu-i386", "qiling-i386")
#: Seconds that a program has to say its version.
_VERSION_DEADLINE = 20.0
_INSTALL_DEADLINE = 900.0


@dataclass(frozen=True)
class EmulatorTarget(Target):
    """Judges what a program makes of the agent's calls, by `check --via`.

    `program` finds it, with the words before the agent's path. The name of the implementation gets its version.
    `transparent`: it passes calls on as they are, so this kernel is the reference unless another one is given.
    """

    words: tuple[str, ...] = ()
    transparent: bool = False

    def run(self, args: CheckArguments, progress: Progress) -> int:
        """Checks by way of the program, and returns the exit status. Raises CommandError: it is missing, or does not run."""
        if args.command != "check":
            raise CommandError(f"target run {self.name}: only `check` runs there")
        if args.parsed.via is not None or args.parsed.implementation is not None:
            raise CommandError(f"target run {self.name}: --via and --implementation are the target's; leave them out")
        program = self.program(progress)
        name = f"{self.implementation} {version_of(program)}"
        via = f"{shlex.join([str(program), *self.words])} {{agent}}"
        command = [sys.executable, "-m", "probes.cli", "check", *args.words, "--via", via, "--implementation", name]
        if self.transparent and args.parsed.reference is None:
            command += ["--reference", "local"]
        return run_check(command, lambda pid: pid, os.environ | self.environment() | {IMPLEMENTATION: name})

    def program(self, progress: Progress) -> Path:
        """Returns the path of the program, which is built or fetched if it has a recipe. Raises CommandError."""
        if self.recipe is None:
            return Path(store.tool(self.implementation))
        directory = store.make(self.recipe, progress)
        return next(path for name in _PROGRAMS if (path := directory / name).exists())


def version_of(program: Path) -> str:
    """Returns the version that a program prints. Raises CommandError: it prints none."""
    try:
        output = store.run([str(program), "--version"], _VERSION_DEADLINE)
    except store.CommandFailed as error:
        raise CommandError(f"{program} --version failed: {error}; install it again") from error
    found = re.search(r"\d+(\.\d+)+", output)
    if found is None:
        raise CommandError(f"{program} --version prints no version, but {output[:60]!r}; install it again")
    return found[0]


def _unpacking(suite: str) -> Callable[[Path, Progress], None]:
    def build(into: Path, progress: Progress) -> None:
        progress(f"fetching {QEMU[suite]} of {suite}")
        package = into / ".package"
        package.mkdir()
        debian.packages(package, ARCHITECTURE, QEMU[suite], (suite,))
        found = [program for place in _PLACES if (program := package / place).exists()]
        if not found:
            raise store.CannotBuild(f"qemu-user-{suite}: {QEMU[suite]} has no {_PLACES[1]}; its packaging has changed")
        # The other forty programs of the package, 400 MB, are for other processors.
        found[0].rename(into / "qemu-i386")
        shutil.rmtree(package)

    return build


#: Runs a program in Qiling, with an empty root. The agent's input and output are those of the process.
_STARTER = """#!{python}
import os, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
if sys.argv[1:] == ["--version"]:
    from importlib.metadata import version
    print(version("qiling"))
    sys.exit()
from qiling import Qiling
from qiling.const import QL_VERBOSE
with tempfile.TemporaryDirectory() as root:
    emulator = Qiling([sys.argv[1]], root, verbose=QL_VERBOSE.OFF)
    emulator.run()
os._exit(emulator.os.exit_code or 0)
"""


def _install_qiling(into: Path, progress: Progress) -> None:
    progress(f"installing {' '.join(_QILING)}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(into / "lib"), *_QILING]
    store.run(pip, _INSTALL_DEADLINE, called="pip install")
    starter = into / "qiling-i386"
    starter.write_text(_STARTER.format(python=sys.executable))
    starter.chmod(0o755)


QILING = Recipe(
    name="qiling",
    what="Qiling of PyPI, with its dependencies",
    build=_install_qiling,
    inputs=(*_QILING, _STARTER, sys.executable),
    megabytes=400,
)

_QEMU_RECIPES = {
    suite: Recipe(
        name=f"qemu-user-{suite}",
        what=f"qemu-i386 of Debian {suite}, a static program",
        build=_unpacking(suite),
        inputs=(suite, QEMU[suite], ARCHITECTURE),
        megabytes=600,
    )
    for suite in QEMU
}

RECIPES = (*_QEMU_RECIPES.values(), QILING)
"""The artefacts of this module."""

TARGETS = {
    target.name: target
    for target in (
        *(
            EmulatorTarget(f"qemu-user:{suite}", f"qemu-user of Debian {suite}, on this kernel", recipe, "qemu-user")
            for suite, recipe in _QEMU_RECIPES.items()
        ),
        EmulatorTarget("qiling", "Qiling, whose sockets are Python's, on this kernel", QILING, "qiling"),
        EmulatorTarget(
            "valgrind", "valgrind without a tool, on this kernel", None, "valgrind", ("-q", "--tool=none"), True
        ),
        EmulatorTarget("valgrind:memcheck", "valgrind's memcheck, on this kernel", None, "valgrind", ("-q",), True),
        EmulatorTarget("proot", "PRoot, on this kernel", None, "proot", transparent=True),
    )
}
"""The targets of this module by name."""

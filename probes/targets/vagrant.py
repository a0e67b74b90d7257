"""Runs the suite on the target vagrant:KERNEL: a VM of the suite's box, started by Vagrant through a private libvirt.

    $SOCKETCALL_CACHE/vagrant/KERNEL/   made-of: box and Vagrantfile, written last     ssh_config   console.log
                                        home/ dot/: Vagrant's        etc/ lib/ cache/: libvirt's, with disk and snapshot

The first run boots the VM and saves a snapshot, from which later runs resume. What a killed run left is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from probes.errors import CommandError
from probes.installation import checkout
from probes.targets import box, store
from probes.targets.i386 import SUITE
from probes.targets.machine import Machine
from probes.targets.private_libvirt import PrivateLibvirt
from probes.targets.store import CannotBuild, CommandFailed, Progress, cache
from probes.targets.target import CheckArguments, Target

TOOLS = (
    "vagrant", "libvirtd", "virtlogd", "virsh", "dnsmasq", "iptables", "qemu-img", "rsync", "ssh", "ip", "nsenter",
    "unshare",
)  # fmt: skip
UP_DEADLINE = 900.0
STEP_DEADLINE = 120.0
SNAPSHOT = "ready"
#: Megabytes that a VM needs beside its box: the box unpacked, a copy of its disk, the snapshot with the memory.
MEGABYTES = 3000
CPUS = 2
CHECKOUT = "/vagrant"
PYTHON = f"{SUITE}/bin/python3"
#: Megabytes by which the disk of a VM may grow after it resumed from its snapshot.
ROOM = 500
ADVICE = (
    (r"No space left", "free some space"),
    (r"provider 'libvirt' could not be found", "install Debian's package vagrant-libvirt"),
    (
        r"box failed to unpackage|not a valid box",
        "the box is damaged: delete its directory in the cache, and run again",
    ),
    (r"did not end within|timed out|IP address", "read its console, and check that this machine is not busy"),
)
#: Seconds without an answer after which ssh ends.
SSH_TIMEOUT = 60
#: With STP a bridge forwards nothing for its first four seconds; with one guest there is no loop to detect.
_STP_OFF = """for bridge in $(ip -brief link show type bridge | cut -d' ' -f1); do
ip link set $bridge type bridge stp_state 0; done"""
_PANIC = "Kernel panic"
#: Lines of the console that a message about a failure shows.
_CONSOLE_LINES = 5


class VagrantTarget(Target):
    """Names the VM with one of box.KERNELS as a target."""

    @property
    def kernel(self) -> str:
        """Returns the name of its kernel."""
        return self.name.removeprefix("vagrant:")

    def run(self, args: CheckArguments, progress: Progress) -> int:
        """Checks in the VM, makes that first if it is missing, and returns the exit status. Raises CommandError."""
        # It needs pytest, which `target list` and the processes of a private libvirt do not.
        from probes.targets import remote

        if args.command != "check":
            raise CommandError(f"{self.name} runs check only; start the VM by hand, and give {args.command} there")
        expectations = remote.expectations_of(args.parsed)
        with guest(self.kernel, progress) as running:
            return remote.RemoteRun(running.machine(), args.parsed, expectations).run()


TARGETS = {
    kernel: VagrantTarget(f"vagrant:{kernel}", recipe.what, recipe)
    for kernel, recipe in ((kernel, box.box(kernel)) for kernel in box.KERNELS)
}
"""The targets of this module, by kernel."""


@contextmanager
def guest(kernel: str, progress: Progress) -> Iterator[Guest]:
    """Runs a VM with this checkout in it for the `with` block. Raises CannotBuild."""
    name = f"vagrant:{kernel}"
    if os.geteuid() != 0:
        raise CannotBuild(
            f"{name}: its network and daemons need root; run as root, or `vagrant up` in vagrant/ by hand"
        )
    for needed in (*TOOLS, qemu(kernel)):
        store.tool(needed)
    place = store.make(box.box(kernel), progress)
    with ExitStack() as stack:
        try:
            running = stack.enter_context(_started(kernel, place, progress))
        except OSError as error:
            raise store.unwritable_error(name, error) from error
        yield running
        # It would end with its namespaces; ended by libvirt first, qemu closes its disk.
        with suppress(CannotBuild):
            running.end()


@contextmanager
def _started(kernel: str, place: Path, progress: Progress) -> Iterator[Guest]:
    name, state = f"vagrant:{kernel}", _state(kernel)
    state.mkdir(parents=True, exist_ok=True)
    with _lock(name, state), ExitStack() as stack:
        running = None
        if _made_of(state) == _parts(kernel):
            store.require_space(name, state, ROOM)
            running = Guest(kernel, state, place, stack.enter_context(PrivateLibvirt(state)))
            try:
                running.resume()
            except CannotBuild as error:
                progress(f"{error}: making the VM again")
                stack.close()
                running = None
        if running is None:
            _wipe(state)
            store.require_space(name, state, MEGABYTES)
            progress(f"{name}: booting, and saving a snapshot for later runs, two minutes")
            running = Guest(kernel, state, place, stack.enter_context(PrivateLibvirt(state)))
            running.boot()
            (state / "made-of").write_text(_parts(kernel))
        yield running


def forget(kernel: str) -> None:
    """Removes the VM, so that the next run starts from the box. Raises CannotBuild: the VM is in use."""
    if (state := _state(kernel)).exists():
        with _lock(f"vagrant:{kernel}", state):
            _wipe(state)


def outdated() -> list[Path]:
    """Returns the directories of VMs that were made of a box or a Vagrantfile that has changed since."""
    states = (cache() / "vagrant").glob("*/made-of")
    current = {_parts(kernel) for kernel in box.KERNELS}
    return sorted(made.parent for made in states if made.read_text() not in current)


def _state(kernel: str) -> Path:
    return cache() / "vagrant" / kernel


def qemu(kernel: str) -> str:
    """Returns the name of the emulator for a kernel."""
    return "qemu-system-x86_64" if box.KERNELS[kernel].architecture == "amd64" else "qemu-system-i386"


@contextmanager
def _lock(name: str, state: Path) -> Iterator[None]:
    """Excludes other runs of a VM. Raises CannotBuild: one is running."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotBuild(
                f"{name}: another run uses this VM; wait for it, or end the process that holds {lock.name} "
                "(fuser names it)"
            ) from None
        yield


def _made_of(state: Path) -> str | None:
    """Returns what the VM there was made of; None if there is none, or only the files of a killed run."""
    path = state / "made-of"
    return path.read_text() if path.exists() else None


def _parts(kernel: str) -> str:
    vagrantfile = (checkout() / "vagrant/Vagrantfile").read_bytes()
    return f"{store.path_of(box.box(kernel)).name} {hashlib.sha256(vagrantfile).hexdigest()[:12]}"


def _wipe(state: Path) -> None:
    (state / "made-of").unlink(missing_ok=True)
    for left in state.iterdir():
        if left.is_dir():
            shutil.rmtree(left)


def _ssh_options() -> Iterator[str]:
    """Yields options of ssh. It retries to connect, because a guest that just resumed may not answer at once."""
    options = {"ServerAliveInterval": SSH_TIMEOUT // 6, "ServerAliveCountMax": 6, "ConnectTimeout": 20}
    for name, value in {**options, "ConnectionAttempts": SSH_TIMEOUT, "LogLevel": "INFO"}.items():
        yield from ("-o", f"{name}={value}")


class Guest:
    """Controls a VM of a private libvirt."""

    def __init__(self, kernel: str, state: Path, place: Path, libvirt: PrivateLibvirt) -> None:
        """Takes the state directory of the VM, its box, and the libvirt that runs it."""
        self.name = f"vagrant:{kernel}"
        self._kernel, self._state, self._box, self.libvirt = kernel, state, place, libvirt
        self._console = state / "console.log"

    @property
    def _ssh(self) -> tuple[str, ...]:
        return ("ssh", "-F", str(self._state / "ssh_config"), *_ssh_options(), f"socketcall-{self._kernel}")

    def resume(self) -> None:
        """Resumes from the snapshot, with this checkout. Raises CannotBuild."""
        self._run(self.libvirt.command("sh", "-c", _STP_OFF), STEP_DEADLINE, "ip link")
        self.vagrant("snapshot", "restore", SNAPSHOT, "--no-provision")
        self._push()

    def boot(self) -> None:
        """Boots the box with this checkout, and saves the snapshot. Raises CannotBuild."""
        self.vagrant("up", "--provider", "libvirt", deadline=UP_DEADLINE)
        (self._state / "ssh_config").write_text(self.vagrant("ssh-config"))
        self._push()
        # Reads once what every run reads: the snapshot has the bytecode on disk and the files in the page cache.
        list_all = f"cd {CHECKOUT} && PYTHONPATH={CHECKOUT} {PYTHON} -P -m probes.cli check --list >/dev/null"
        self._run(self.command(list_all), UP_DEADLINE, "check --list")
        self.vagrant("snapshot", "save", SNAPSHOT)

    def end(self) -> None:
        """Ends the emulator. Raises CannotBuild. `vagrant halt` would wait a minute for a guest that does not answer."""
        destroy = self.libvirt.command("virsh", "-c", "qemu:///system", "destroy", f"socketcall-{self._kernel}")
        self._run(destroy, STEP_DEADLINE, "virsh destroy")

    def _push(self) -> None:
        """Copies the checkout to the guest, and sets its clock, which stands at the time of the snapshot."""
        self._run(self.command(f"date -s @{time.time():.3f} && mkdir -p {CHECKOUT}"), STEP_DEADLINE, "ssh")
        *ssh, host = self._ssh
        copy = ["rsync", "-a", "--delete", "--filter=:- .gitignore", "--exclude=.git", "--rsync-path=sudo rsync"]
        copy += ["--chown=vagrant:vagrant"]
        copy += ["-e", shlex.join(ssh), f"{checkout()}/", f"{host}:{CHECKOUT}/"]
        self._run(self.libvirt.command(*copy), STEP_DEADLINE, "rsync")

    def vagrant(self, *words: str, deadline: float = STEP_DEADLINE) -> str:
        """Runs a vagrant command and returns its output. Raises CannotBuild."""
        return self._run(self.libvirt.command("vagrant", *words), deadline, f"vagrant {words[0]}")

    def command(self, script: str) -> list[str]:
        """Returns a command line that runs a shell script as root of the guest, where uname says i686."""
        return self.libvirt.command(*self._ssh, f"sudo setarch i686 sh -c {shlex.quote(script)}")

    def machine(self) -> Machine:
        """Returns the VM as a machine to check on."""
        target = TARGETS[self._kernel]
        return Machine(target, self.command, CHECKOUT, PYTHON, CPUS, self._failure, self._console_lines)

    def _failure(self) -> str | None:
        if any(_PANIC in line for line in self._lines()):
            return "the guest's kernel panicked"
        return "libvirtd or virtlogd ended" if self.libvirt.ended() else None

    def _console_lines(self) -> list[str]:
        return self._lines()[-_CONSOLE_LINES:]

    def _lines(self) -> list[str]:
        text = self._console.read_text(errors="replace") if self._console.exists() else ""
        return [line.strip() for line in text.splitlines() if line.strip()]

    def _run(self, command: list[str], deadline: float, called: str) -> str:
        variables = {
            "VAGRANT_CWD": str(checkout() / "vagrant"),
            "VAGRANT_HOME": str(self._state / "home"),
            "VAGRANT_DOTFILE_PATH": str(self._state / "dot"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "SOCKETCALL_BOX": str(self._box),
            "SOCKETCALL_KERNEL": self._kernel,
            "SOCKETCALL_CONSOLE": str(self._console),
        }
        try:
            return store.run(command, deadline, variables, called)
        except CommandFailed as failure:
            error = store.build_error(self.name, failure, self._state / "failure.log", ADVICE)
            parts = [str(error), *(f"console: {line}" for line in self._console_lines())]
            raise CannotBuild("; ".join(parts)) from failure

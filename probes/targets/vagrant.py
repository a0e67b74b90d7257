"""The target vagrant:KERNEL: a VM of the suite's box, brought up by Vagrant over libvirt in a world of its own.

    $SOCKETCALL_CACHE/vagrant/KERNEL/   made-of: box and Vagrantfile, written last     ssh_config   console.log
                                        home/ dot/: Vagrant's        etc/ lib/ cache/: libvirt's, with disk and snapshot

The first run boots, warms up and saves a snapshot; later ones begin there. What a killed run left is made anew.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from probes.installation import checkout
from probes.targets import box, remote, store
from probes.targets.i386 import SUITE
from probes.targets.private_libvirt import PrivateLibvirt
from probes.targets.store import CannotBuild, CommandFailed, Say, cache

TOOLS = (
    "vagrant", "libvirtd", "virtlogd", "virsh", "dnsmasq", "iptables", "qemu-img", "rsync", "ssh", "ip", "nsenter",
    "unshare",
)  # fmt: skip
UP_DEADLINE = 900.0
STEP_DEADLINE = 120.0
SNAPSHOT = "ready"
#: What a VM keeps beside its box, in MB: the box unpacked, a copy of its disk, the snapshot with the memory.
MEGABYTES = 3000
CPUS = 2
CHECKOUT = "/vagrant"
PYTHON = f"{SUITE}/bin/python3"
#: What a VM needs to go on from its snapshot, in MB: what its disk may grow by.
ROOM = 500
ADVICE = (
    (r"No space left", "free some space"),
    (r"provider 'libvirt' could not be found", "install Debian's package vagrant-libvirt"),
    (r"box failed to unpackage|not a valid box", "the box is damaged: delete its folder in the cache, and run again"),
    (r"did not end within|timed out|IP address", "see what its console says, and whether this machine is busy"),
)
#: Seconds without an answer after which ssh gives a guest up.
PATIENCE = 60
#: A bridge that looks for loops lets nothing pass for its first four seconds; one guest makes none.
_NO_LOOPS = """for bridge in $(ip -brief link show type bridge | cut -d' ' -f1); do
ip link set $bridge type bridge stp_state 0; done"""
_PANIC = "Kernel panic"
_LAST_WORDS = 5


def run(kernel: str, args: argparse.Namespace, say: Say) -> int:
    """Runs `check` in the VM, which is made if it is missing, and returns its exit status. Raises CommandError."""
    policy = remote.admitted(args)
    with guest(kernel, say) as here:
        return remote.Judge(here.machine(), args, policy).run()


@contextmanager
def guest(kernel: str, say: Say) -> Iterator[Guest]:
    """A VM that runs, with this checkout in it. Raises CannotBuild."""
    name = f"vagrant:{kernel}"
    if os.geteuid() != 0:
        raise CannotBuild(
            f"{name}: its network and daemons need root; be root, or `vagrant up` in vagrant/ by yourself"
        )
    for needed in (*TOOLS, qemu(kernel)):
        store.tool(needed)
    place = store.make(box.box(kernel), say)
    with ExitStack() as stack:
        try:
            here = stack.enter_context(_begun(kernel, place, say))
        except OSError as error:
            raise store.unwritable(name, error) from error
        yield here
        # It ends with its world anyway; asked first, qemu leaves its disk in order.
        with suppress(CannotBuild):
            here.end()


@contextmanager
def _begun(kernel: str, place: Path, say: Say) -> Iterator[Guest]:
    name, state = f"vagrant:{kernel}", _state(kernel)
    state.mkdir(parents=True, exist_ok=True)
    with _alone(name, state), ExitStack() as stack:
        here = None
        if _made_of(state) == _parts(kernel):
            store.room(name, state, ROOM)
            here = Guest(kernel, state, place, stack.enter_context(PrivateLibvirt(state)))
            try:
                here.resume()
            except CannotBuild as trouble:
                say(f"{trouble}: making the VM anew")
                stack.close()
                here = None
        if here is None:
            _wipe(state)
            store.room(name, state, MEGABYTES)
            say(f"{name}: booting, and saving a snapshot for later runs, two minutes")
            here = Guest(kernel, state, place, stack.enter_context(PrivateLibvirt(state)))
            here.boot()
            (state / "made-of").write_text(_parts(kernel))
        yield here


def forget(kernel: str) -> None:
    """Has the next run start from the box. Raises CannotBuild: the VM is in use."""
    if (state := _state(kernel)).exists():
        with _alone(f"vagrant:{kernel}", state):
            _wipe(state)


def outdated() -> list[Path]:
    """The states of VMs that were made of a box or a Vagrantfile that has changed since."""
    states = (cache() / "vagrant").glob("*/made-of")
    current = {_parts(kernel) for kernel in box.KERNELS}
    return sorted(made.parent for made in states if made.read_text() not in current)


def _state(kernel: str) -> Path:
    return cache() / "vagrant" / kernel


def qemu(kernel: str) -> str:
    """The emulator for a kernel."""
    return "qemu-system-x86_64" if box.KERNELS[kernel].architecture == "amd64" else "qemu-system-i386"


@contextmanager
def _alone(name: str, state: Path) -> Iterator[None]:
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
    """What the VM whose snapshot waits there was made of; None if there is none, or what a killed run left."""
    path = state / "made-of"
    return path.read_text() if path.exists() else None


def _parts(kernel: str) -> str:
    vagrantfile = (checkout() / "vagrant/Vagrantfile").read_bytes()
    return f"{store.place(box.box(kernel)).name} {hashlib.sha256(vagrantfile).hexdigest()[:12]}"


def _wipe(state: Path) -> None:
    (state / "made-of").unlink(missing_ok=True)
    for left in state.iterdir():
        if left.is_dir():
            shutil.rmtree(left)


def _patience() -> Iterator[str]:
    """ssh's options. A guest that has just come back may not answer at once: connecting is tried again."""
    options = {"ServerAliveInterval": PATIENCE // 6, "ServerAliveCountMax": 6, "ConnectTimeout": 20}
    for name, value in {**options, "ConnectionAttempts": PATIENCE, "LogLevel": "INFO"}.items():
        yield from ("-o", f"{name}={value}")


class Guest:
    """A VM in its world."""

    def __init__(self, kernel: str, state: Path, place: Path, world: PrivateLibvirt) -> None:
        self.name = f"vagrant:{kernel}"
        self._kernel, self._state, self._box, self.world = kernel, state, place, world
        self._console = state / "console.log"
        self._ssh = ("ssh", "-F", str(state / "ssh_config"), *_patience(), f"socketcall-{kernel}")

    def resume(self) -> None:
        """Goes on from the snapshot, with this checkout. Raises CannotBuild."""
        self._run(self.world.command("sh", "-c", _NO_LOOPS), STEP_DEADLINE, "ip link")
        self.vagrant("snapshot", "restore", SNAPSHOT, "--no-provision")
        self._push()

    def boot(self) -> None:
        """Boots the box with this checkout, and saves the snapshot. Raises CannotBuild."""
        self.vagrant("up", "--provider", "libvirt", deadline=UP_DEADLINE)
        (self._state / "ssh_config").write_text(self.vagrant("ssh-config"))
        self._push()
        # What every run reads is read once: the bytecode is written, and the guest has the files in memory.
        list_all = f"cd {CHECKOUT} && PYTHONPATH={CHECKOUT} {PYTHON} -P -m probes.cli.main check --list >/dev/null"
        self._run(self.command(list_all), UP_DEADLINE, "check --list")
        self.vagrant("snapshot", "save", SNAPSHOT)

    def end(self) -> None:
        """Ends the emulator. Raises CannotBuild. `vagrant halt` would look for a guest that may be gone, for a minute."""
        destroy = self.world.command("virsh", "-c", "qemu:///system", "destroy", f"socketcall-{self._kernel}")
        self._run(destroy, STEP_DEADLINE, "virsh destroy")

    def _push(self) -> None:
        """The checkout as it is now, and the time: a snapshot has that of its saving."""
        self._run(self.command(f"date -s @{time.time():.3f} && mkdir -p {CHECKOUT}"), STEP_DEADLINE, "ssh")
        *ssh, host = self._ssh
        copy = ["rsync", "-a", "--delete", "--filter=:- .gitignore", "--exclude=.git", "--rsync-path=sudo rsync"]
        copy += ["--chown=vagrant:vagrant"]
        copy += ["-e", shlex.join(ssh), f"{checkout()}/", f"{host}:{CHECKOUT}/"]
        self._run(self.world.command(*copy), STEP_DEADLINE, "rsync")

    def vagrant(self, *words: str, deadline: float = STEP_DEADLINE) -> str:
        """What a vagrant command prints. Raises CannotBuild."""
        return self._run(self.world.command("vagrant", *words), deadline, f"vagrant {words[0]}")

    def command(self, script: str) -> list[str]:
        """A command line that runs a shell script as the guest's root, with the machine name of an i386."""
        return self.world.command(*self._ssh, f"sudo setarch i686 sh -c {shlex.quote(script)}")

    def machine(self) -> remote.Machine:
        """The VM as somewhere to judge on."""
        return remote.Machine(self.name, self.command, CHECKOUT, PYTHON, CPUS, self._gone, self._last_words)

    def _gone(self) -> str | None:
        if any(_PANIC in line for line in self._lines()):
            return "the guest's kernel panicked"
        return "libvirtd or virtlogd ended" if self.world.ended() else None

    def _last_words(self) -> list[str]:
        return self._lines()[-_LAST_WORDS:]

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
            trouble = store.trouble(self.name, failure, self._state / "failure.log", ADVICE)
            words = "; ".join([str(trouble), *(f"console: {line}" for line in self._last_words())])
            raise CannotBuild(words) from failure

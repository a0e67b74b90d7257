"""Finds what another machine offers an agent, and sets it up for a test: namespaces, an empty directory, /proc, loopback."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from probes.abi.syscalls import SYSCALLS
from probes.entry.agent_driver import Driver
from probes.entry.agent_frames import AgentError
from probes.entry.files import AgentFiles, initial_files
from probes.sandbox.namespaces import LOOPBACK_UP, SIOCSIFFLAGS

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC, _CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x40000000
_NAMESPACES = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWNET
_MS_PRIVATE_REC = 0x44000
_AF_INET, _SOCK_DGRAM = 2, 2
_MAP_FIXED_PRIVATE_ANONYMOUS, _PROT_READ_WRITE = 0x32, 3
#: Bytes of a field of struct new_utsname.
_NAME = 65
#: Call numbers of the i386 table.
_NUMBERS = {name: number for number, (name, _, _) in SYSCALLS.items()}
#: Where the words of set-up lie while it is made.
_PAGE, _SIZE = 0x60000000, 4096
#: Directories on which a file system of the test's own is mounted: the first one that is there.
_WORK = ("/tmp", "/mnt", "/dev/shm")


@dataclass(frozen=True)
class World:
    """Describes what a machine offers. `isolated`: a test gets network, mount, IPC and UTS namespaces of its own.

    `work` is the directory on which it mounts an empty tmpfs, "" if it cannot; `proc`: /proc is mounted; `socket` is the
    descriptor that the first socket gets; `kernel` is what uname(2) says: release, version and machine; `initial` what
    files held in its initial network namespace.
    """

    isolated: bool = False
    work: str = ""
    proc: bool = False
    socket: int = 3
    kernel: tuple[str, str, str] = ("", "", "")
    initial: Mapping[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        """Returns the words for a person."""
        what = "namespaces of its own for each test" if self.isolated else "no namespaces, so tests share its network"
        return what + ("" if self.proc else "; no /proc")


class _SetUp:
    """Makes untraced calls that take strings and structures."""

    def __init__(self, agent: Driver) -> None:
        self._agent = agent
        flags = _MAP_FIXED_PRIVATE_ANONYMOUS
        agent.post_call("mmap for set-up", _PAGE, _NUMBERS["mmap2"], _PAGE, _SIZE, _PROT_READ_WRITE, flags, -1, 0)
        self._at = _PAGE

    def put(self, data: str | bytes) -> int:
        data = data.encode() + b"\0" if isinstance(data, str) else data
        address, self._at = self._at, self._at + len(data)
        self._agent.write(address, data)
        return address

    def post(self, name: str, *words: int, returns: int = 0) -> None:
        self._agent.post_call(f"{name}, for set-up", returns, _NUMBERS[name], *words)

    def call(self, name: str, *words: int) -> int:
        return self._agent.call(_NUMBERS[name], *words)

    def mount(self, filesystem: str, directory: str) -> tuple[int, ...]:
        return self.put(filesystem), self.put(directory), self.put(filesystem), 0, 0

    def done(self) -> None:
        self.post("munmap", _PAGE, _SIZE)


def found(agent: Driver) -> World:
    """Returns what the machine of an agent offers; brings its loopback link up. Raises AgentError."""
    initial = initial_files(AgentFiles(agent))
    made = _SetUp(agent)
    isolated = made.call("unshare", _NAMESPACES) == 0
    if isolated:
        made.call("mount", 0, made.put("/"), 0, _MS_PRIVATE_REC, 0)
    work = next((path for path in _WORK if isolated and made.call("mount", *made.mount("tmpfs", path)) == 0), "")
    opened = made.call("open", made.put("/proc/self/stat"), os.O_RDONLY)
    if opened >= 0:
        made.call("close", opened)
    socket = made.call("socket", _AF_INET, _SOCK_DGRAM, 0)
    if socket < 0:
        raise AgentError(f"its first socket, of UDP, fails: {errno.errorcode.get(-socket, socket)}")
    # It may be up, or may not be changed.
    made.call("ioctl", socket, SIOCSIFFLAGS, made.put(LOOPBACK_UP))
    made.call("close", socket)
    return World(isolated, work, opened >= 0, socket, _kernel(agent, made), initial)


def _kernel(agent: Driver, made: _SetUp) -> tuple[str, str, str]:
    names = made.put(bytes(6 * _NAME))
    if made.call("uname", names) != 0:
        return "", "", ""
    data = agent.read(names, 6 * _NAME)
    fields = [data[at : at + _NAME].partition(b"\0")[0].decode(errors="replace") for at in range(0, 6 * _NAME, _NAME)]
    return fields[2], fields[3], fields[4]


def set_up(agent: Driver, world: World) -> None:
    """Queues what a test needs before its own calls. A call that fails raises Refused at the first answer."""
    made = _SetUp(agent)
    if world.isolated:
        made.post("unshare", _NAMESPACES)
        made.post("mount", 0, made.put("/"), 0, _MS_PRIVATE_REC, 0)
        _bring_loopback_up(made, world)
    if world.work:
        made.post("mount", *made.mount("tmpfs", world.work))
        made.post("chdir", made.put(world.work))
    made.done()


def new_network(agent: Driver, world: World, socket: int) -> None:
    """Brings the loopback link of a new network namespace up; `socket` is the lowest free descriptor."""
    made = _SetUp(agent)
    _bring_loopback_up(made, replace(world, socket=socket))
    made.done()


def _bring_loopback_up(made: _SetUp, world: World) -> None:
    request = made.put(LOOPBACK_UP)
    made.post("socket", _AF_INET, _SOCK_DGRAM, 0, returns=world.socket)
    made.post("ioctl", world.socket, SIOCSIFFLAGS, request)
    made.post("close", world.socket)

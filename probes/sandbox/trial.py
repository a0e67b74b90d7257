"""Find out by trial in which isolation and with which tracing tests can run in this process."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from probes.entry.gate import gate, int80_error
from probes.errors import CommandError
from probes.sandbox import filtered, namespaces, sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.messages import Finished, Report, SandboxFailed
from probes.sandbox.sandbox import CannotSandbox, CannotTrace, SandboxSpec
from probes.sandbox.work import work_directory
from probes.trace import seccomp

#: Best first.
ISOLATIONS = ("full", "net", "none")
_TRACES = ("gate", "calls", "none")
_DEADLINE = 30
_GETPID = 20
#: How many descriptors tests may have open at once.
_DESCRIPTORS = 256
#: Errors of a limit, with what to do.
_LIMITS = {
    errno.EAGAIN: "raise the limit of processes (ulimit -u, pids.max)",
    errno.ENOMEM: "raise the limit of memory (ulimit -v, memory.max)",
    errno.EMFILE: "raise the limit of descriptors (ulimit -n)",
}
_SIOCGIFFLAGS, _IFF_UP, _IFF_LOOPBACK = 0x8913, 1, 8
_PROFILE = "run with another profile (docker run --security-opt seccomp=FILE)"
_NAMESPACES = "run as root, allow user namespaces (user.max_user_namespaces, the container's profile)"


@dataclass(frozen=True)
class Found:
    """Describes the sandboxes that can be made here.

    `isolation` is that of SandboxSpec. `trace` is the best that it can have: "gate", "calls" or "none". `lacks` says why
    it is not better, "" if it is the best, or what was asked for. `filter` says which socket calls a seccomp filter, under
    which this process is, answers; "" without one.
    """

    isolation: str
    trace: str
    lacks: str = ""
    filter: str = ""

    def __str__(self) -> str:
        """Return the words for a person: `isolation net, traced (full: …)`."""
        text = f"isolation {self.isolation}, {'not traced' if self.trace == 'none' else 'traced'}"
        text += f" ({self.lacks})" if self.lacks else ""
        return text + (f", under a seccomp filter, which answers {self.filter}" if self.filter else "")

    def spec(self, wanted: SandboxSpec) -> SandboxSpec:
        """Return a spec with the nearest tracing to the wanted one that can be had."""
        if self.filter and self.trace == "gate" and wanted.trace == "calls":
            # Both stop at every call there; this one knows the answers of the filter.
            return replace(wanted, trace="gate")
        return replace(wanted, trace=_TRACES[max(_TRACES.index(wanted.trace), _TRACES.index(self.trace))])


def find(isolation: str | None, calls: bool = True) -> Found:
    """Return the best sandboxes that work here, with the given isolation or, for None, the best that works.

    `calls`: tests make i386 calls on this kernel, traced where that works; otherwise they need no IA32 entry.
    Without being asked, tests run without namespaces of their own only where no link but loopback is up.

    Raises CommandError, which names what is missing, if no test can run.
    """
    require_proc()
    _require_descriptors()
    if calls:
        _require_entry()
    with work_directory() as work:
        found = _best(isolation, calls, work)
        return _filtered(found, work) if calls and seccomp.is_filtered() else found


def _best(isolation: str | None, calls: bool, work: Path) -> Found:
    """Return the best sandboxes that work here. Raises CommandError."""
    asked = (isolation,) if isolation else ISOLATIONS
    refusal = partial(_refusal, Channel(1 << 16), work, calls)
    if calls and not refusal(SandboxSpec(isolation=asked[0])):
        return Found(asked[0], "gate")
    lacks: dict[str, str] = {}
    for name in asked:
        why = _reach() if name == "none" != isolation else ""
        why = why or refusal(SandboxSpec(isolation=name, trace="none"))
        if not why:
            return _traced(name, refusal, lacks) if calls else Found(name, "none", _joined(lacks))
        lacks[name] = why
    raise CommandError(f"no sandbox: {_joined(lacks)}; {_NAMESPACES}")


def _filtered(found: Found, work: Path) -> Found:
    """Return what was found, with what the filter answers that this process is under.

    Raises CommandError if it answers every socket call, or some, and its answers cannot be distinguished from the kernel's.
    """
    channel = Channel(1 << 16)

    def body() -> None:
        channel.send(Report({"results": filtered.make_calls()}))

    spec = found.spec(SandboxSpec(isolation=found.isolation))
    try:
        result = sandbox.run(body, spec, channel, work, _DEADLINE)
    except CannotSandbox as error:
        raise CommandError(f"no sandbox: {error}") from error
    results = next((one.data["results"] for one in result.messages if isinstance(one, Report)), None)
    if results is None:
        raise CommandError(f"the seccomp filter of this process ends those that make socket calls: {_PROFILE}")
    probes = filtered.answered(results, result.records() if found.trace == "gate" else ())
    text = filtered.text(probes) or "none of the socket calls that were tried"
    if filtered.all_answered(probes):
        raise CommandError(f"a seccomp filter answers every socket call here in place of the kernel; {_PROFILE}")
    if probes and found.trace != "gate":
        raise CommandError(
            f"a seccomp filter answers {text}, and its answers cannot be distinguished from the kernel's here "
            f"({found.lacks}); {_PROFILE}"
        )
    return replace(found, filter=text)


def _reach() -> str:
    """Return why tests without namespaces of their own would act on a network; "" where no link but loopback is up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
            (flags,) = struct.unpack_from("H", answer, 16)
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                return f"tests would send to link {name} and change settings here: --isolation none allows it"
    return ""


def _traced(isolation: str, refusal: Callable[[SandboxSpec], str], lacks: dict[str, str]) -> Found:
    """Try the ways of tracing in an isolation that works."""
    for trace in _TRACES[:-1]:
        why = refusal(SandboxSpec(isolation=isolation, trace=trace))
        if not why:
            return Found(isolation, trace, _joined(lacks))
        lacks["tracing"] = why
    return Found(isolation, "none", _joined(lacks))


def _refusal(channel: Channel, work: Path, calls: bool, spec: SandboxSpec) -> str:
    """Run a sandbox, with one call in it if `calls`, and return "" if it works as it should, else why not.

    Raises CommandError at a limit of processes or memory, which says nothing about isolation.
    """

    def body() -> None:
        if calls:
            gate("int80").enter(_GETPID)
        channel.send(Finished())

    try:
        result = sandbox.run(body, spec, channel, work, _DEADLINE)
    except CannotTrace as error:
        return str(error)
    except CannotSandbox as error:
        return _exact(error, spec)
    for message in result.messages:
        if isinstance(message, SandboxFailed):
            return message.why
    if not result.messages:
        return f"its process ended early, with wait status {result.status}"
    if spec.trace != "none" and len(result.records()) != 1:
        return f"the tracer saw {len(result.records())} of 1 call"
    return ""


def _exact(error: CannotSandbox, spec: SandboxSpec) -> str:
    """Name the first type of namespaces that cannot be left alone, if that is what failed."""
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if number in _LIMITS:
        raise CommandError(f"no sandbox: {error}; {_LIMITS[number]}") from error
    if number in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EUSERS):
        for name, refused in namespaces.refused(namespaces.needs_user(spec.isolation)):
            return f"no {name} namespace: {os.strerror(refused)}"
    return str(error)


def _joined(lacks: dict[str, str]) -> str:
    """Return reasons by what they concern; equal ones once."""
    by_reason: dict[str, list[str]] = {}
    for what, why in lacks.items():
        by_reason.setdefault(why, []).append(what)
    return "; ".join(f"{', '.join(what)}: {why}" for why, what in by_reason.items())


def require_proc() -> None:
    """Raises CommandError unless /proc is there and names the processes of this one's pid namespace."""
    try:
        of_this_process = str(Path("/proc/self").readlink()) == str(os.getpid())
    except OSError as error:
        raise CommandError("there is no /proc here; mount it: mount -t proc proc /proc") from error
    if not of_this_process:
        raise CommandError("/proc is of another pid namespace than this process; mount one of its own")


def _require_entry() -> None:
    try:
        how = int80_error()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise CommandError(f"cannot start a process: {why}; {_LIMITS.get(error.errno or 0, 'see fork(2)')}") from error
    if how:
        raise CommandError(
            f"{how}: this kernel has no IA32 entry; boot one with CONFIG_IA32_EMULATION and no ia32_emulation=0"
        )


def _require_descriptors() -> None:
    """Raises the soft limit of descriptors as far as it goes. Raises CommandError: that is not far enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
            raise CommandError(f"{hard} descriptors are too few for the tests: `ulimit -n {_DESCRIPTORS}` or more")
        resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))

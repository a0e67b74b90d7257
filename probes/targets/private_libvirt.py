"""Runs libvirt's daemons, and the guests that they start, in mount, network and pid namespaces of one run.

The daemons use directories of this run only: they neither use nor change the machine's libvirt, networks and ports, and
the guests' addresses exist inside alone. When this process ends, the kernel ends everything inside.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from probes.targets import store
from probes.targets.store import CannotBuild, tool

DEADLINE = 60.0
#: Directories of `state`, and where the daemons look for them.
_KEPT = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt"}
_SOCKET = Path("/run/libvirt/libvirt-sock")
#: Only root exists in these namespaces: guests have no user of their own, no cgroup and no security label.
_QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""
#: Not `-m`: the package imports this module, and would have it twice.
_HOLD = f"import pathlib, sys; from {__name__} import hold; hold(pathlib.Path(sys.argv[1]))"


class PrivateLibvirt:
    """Runs the daemons for a `with` block, in which `command` returns command lines to run beside them.

    `state` is the directory that keeps libvirt's files from run to run.
    """

    def __init__(self, state: Path) -> None:
        """Starts nothing yet."""
        self._state = state
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> PrivateLibvirt:
        """Starts the daemons. Raises CannotBuild: they did not start."""
        for name in _KEPT:
            (self._state / name).mkdir(parents=True, exist_ok=True)
        (self._state / "lib/images").mkdir(exist_ok=True)
        (self._state / "etc/qemu.conf").write_text(_QEMU_CONF)
        log = self._state / "libvirtd.log"
        with log.open("w") as errors:
            self._holder = subprocess.Popen(
                [*store.contained(), "--net", sys.executable, "-c", _HOLD, str(self._state)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process, which ends the namespaces in order
            )
        assert self._holder.stdout is not None
        ready, _, _ = select.select([self._holder.stdout], [], [], DEADLINE)
        if not ready or self._holder.stdout.readline() != "ready\n":
            self.close()
            lines = [line for line in log.read_text().splitlines() if line.strip()]
            raise CannotBuild(f"libvirtd does not start: {(lines or ['no message'])[-1]}; read its messages in {log}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends all processes inside."""
        self.close()

    def close(self) -> None:
        """Ends all processes inside, and returns when the last one has ended."""
        if self._holder is None:
            return
        # The first process inside is the child of unshare. It is reaped after all others of its pid namespace.
        for first in self._children():
            os.kill(first, signal.SIGKILL)
        try:
            self._holder.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()

    def _children(self) -> list[int]:
        assert self._holder is not None
        pid = self._holder.pid
        with suppress(OSError):  # it has ended already
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def ended(self) -> bool:
        """Returns True if the daemons have ended."""
        return self._holder is None or self._holder.poll() is not None

    def command(self, *argv: str) -> list[str]:
        """Returns a command line that runs inside."""
        assert self._holder is not None
        target = f"/proc/{self._holder.pid}/ns/"
        # unshare itself stays outside the pid namespace that its child is in.
        namespaces = [f"--mount={target}mnt", f"--net={target}net", f"--pid={target}pid_for_children"]
        return [tool("nsenter"), *namespaces, *argv]


def hold(state: Path) -> NoReturn:
    """Is the first process inside: mounts, starts the daemons, and reaps.

    libvirtd starts a qemu that becomes an orphan, to read its capabilities, and waits half a minute for its end unless
    it is reaped here.
    """
    for name, place in _KEPT.items():
        Path(place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(state / name), place], check=True)
    # Sockets and pid files of these daemons only; no message bus of the machine.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    daemons = {subprocess.Popen([name], stdin=subprocess.DEVNULL, stdout=2).pid for name in ("virtlogd", "libvirtd")}
    end = time.monotonic() + DEADLINE
    while not _SOCKET.exists() and time.monotonic() < end:
        if os.waitpid(-1, os.WNOHANG)[0] in daemons:
            sys.exit("a daemon has ended")
        time.sleep(0.02)
    print("ready" if _SOCKET.exists() else "late", flush=True)
    while True:
        if os.wait()[0] in daemons:
            sys.exit("a daemon has ended")

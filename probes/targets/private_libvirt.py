"""A world of its own for daemons and guests: mount, network and pid namespaces that one run makes and that end with it.

libvirt's daemons run here on folders of the run's own, so that neither the machine's libvirt, its networks nor its
ports are touched or met; guests have addresses that exist nowhere else. When this process dies, the kernel ends all.
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
#: What the daemons keep, by the folders of the world's own state.
_KEPT = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt"}
_SOCKET = Path("/run/libvirt/libvirt-sock")
#: We are root and alone here: no other user to run guests as, no cgroups or security labels to put them in.
_QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""


class PrivateLibvirt:
    """A context: while it lasts, `command` gives command lines that run inside. `state` keeps libvirt's folders."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> PrivateLibvirt:
        """Raises CannotBuild: no daemons came up."""
        for name in _KEPT:
            (self._state / name).mkdir(parents=True, exist_ok=True)
        (self._state / "lib/images").mkdir(exist_ok=True)
        (self._state / "etc/qemu.conf").write_text(_QEMU_CONF)
        log = self._state / "libvirtd.log"
        with log.open("w") as errors:
            self._holder = subprocess.Popen(
                [*store.contained(), "--net", sys.executable, "-m", __name__, str(self._state)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C is for us: we end the world in good order
            )
        assert self._holder.stdout is not None
        ready, _, _ = select.select([self._holder.stdout], [], [], DEADLINE)
        if not ready or self._holder.stdout.readline() != "ready\n":
            self.close()
            said = [line for line in log.read_text().splitlines() if line.strip()]
            raise CannotBuild(f"libvirtd does not start: {(said or ['it says nothing'])[-1]}; all it says is in {log}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything inside, and returns when nothing of it is left."""
        if self._holder is None:
            return
        # The first process inside is the child of unshare, and is not gone before all others are.
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
        with suppress(OSError):  # it is gone already
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def ended(self) -> bool:
        """Whether the daemons are no more."""
        return self._holder is None or self._holder.poll() is not None

    def command(self, *argv: str) -> list[str]:
        """A command line that runs inside."""
        assert self._holder is not None
        target = f"/proc/{self._holder.pid}/ns/"
        # unshare stays outside the pid namespace that it makes for its child.
        namespaces = [f"--mount={target}mnt", f"--net={target}net", f"--pid={target}pid_for_children"]
        return [tool("nsenter"), *namespaces, *argv]


def _hold(state: Path) -> NoReturn:
    """The first process inside: mounts, starts the daemons, and reaps. libvirtd starts a qemu to ask what it can do,
    which leaves it, and then waits half a minute for its end unless somebody reaps it."""
    for name, place in _KEPT.items():
        Path(place).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", str(state / name), place], check=True)
    # Sockets and pid files: of ours alone, and nobody's message bus is found.
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


if __name__ == "__main__":
    _hold(Path(sys.argv[1]))

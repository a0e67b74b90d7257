"""Measures the target vagrant:KERNEL against bare qemu with the same kernel: `python -m bench.vm [KERNEL] [ID-GLOB…]`.

Both run without KVM, one after the other: bare qemu from its start to the files of the run, the VM from its box, the VM
from its snapshot. Exits with 1 if the VM from its box takes more than 1.3 times as long as bare qemu, or if its first
test after the snapshot begins later than after 30 s.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probes.cli.command_line import parsed
from probes.installation import checkout
from probes.report.expectations import Expectations
from probes.targets import box, remote, store, vagrant
from probes.targets.machine import Machine
from probes.targets.target import LocalTarget

GLOBS = ("multiplexer.*", "bind.port.*", "bind.rebind.*", "wire.*")
#: The command line of the box's own kernel, as vagrant/box/Vagrantfile has it.
APPEND = "root=/dev/vda rw console=ttyS0 quiet loglevel=3 net.ifnames=0 audit=1"


def quiet(line: str) -> None:
    """Drops a progress line."""


@contextmanager
def bare(kernel: str, work: Path) -> Iterator[Machine]:
    """Runs the box in qemu, with this checkout in it and ssh on a forwarded port of loopback."""
    place = store.make(box.box(kernel), quiet)
    disk, port = work / "disk.qcow2", _free_port()
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", place / "box.img", disk], check=True
    )
    network = [
        "-netdev",
        f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device",
        "virtio-net-pci,netdev=n",
    ]
    process = subprocess.Popen(
        [vagrant.qemu(kernel), "-accel", "tcg", "-cpu", "max", "-smp", str(vagrant.CPUS), "-m", "1024", "-display", "none",
         "-serial", f"file:{work / 'console'}", "-monitor", "none",
         "-kernel", place / "vmlinuz", "-initrd", place / "initrd.img",
         "-append", APPEND, "-drive", f"file={disk},if=virtio,cache=unsafe", "-device", "virtio-rng-pci", *network],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    key = work / "key"
    key.write_text(box.key("vagrant").read_text())
    key.chmod(0o600)
    ssh = ["ssh", "-F", "none", "-i", str(key), "-p", str(port), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
           "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=2"]  # fmt: skip

    def command(script: str) -> list[str]:
        return [*ssh, "vagrant@127.0.0.1", f"sudo setarch i686 sh -c {shlex.quote(script)}"]

    try:
        end = time.monotonic() + vagrant.UP_DEADLINE
        while subprocess.run(command(f"mkdir -p {vagrant.CHECKOUT}"), stderr=subprocess.DEVNULL).returncode:
            assert process.poll() is None, "qemu ended"
            assert time.monotonic() < end, "no ssh"
            time.sleep(0.5)  # each attempt uses the CPU that the guest boots with
        copy = [
            "rsync",
            "-a",
            "--filter=:- .gitignore",
            "--exclude=.git",
            "--rsync-path=sudo rsync",
            "-e",
            shlex.join(ssh),
        ]
        subprocess.run([*copy, f"{checkout()}/", f"vagrant@127.0.0.1:{vagrant.CHECKOUT}/"], check=True)
        yield Machine(LocalTarget("bare", "bare qemu"), command, vagrant.CHECKOUT, vagrant.PYTHON, vagrant.CPUS)
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_test(args: Namespace, machine: Machine) -> float:
    """Runs the suite there, and returns the time at which the first test began."""
    run = remote.RemoteRun(machine, args, Expectations())
    status = run.run()
    assert status == 0, f"{machine.target.name}: status {status}"
    assert run.first is not None
    return run.first


def main(words: list[str]) -> int:
    """Measures, prints, compares."""
    kernel, globs = (words[0], words[1:]) if words and words[0] in box.KERNELS else (box.DEFAULT, words)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        args = parsed(["check", *(globs or GLOBS), "--report", str(work / "report")])
        args.seed = 1
        start = time.monotonic()
        with bare(kernel, work) as machine:
            first_test(args, machine)
        bare_qemu = time.monotonic() - start
        print(f"bare qemu {bare_qemu:.1f} s", flush=True)
        vagrant.forget(kernel)
        os.environ["SOCKETCALL_ACCEL"] = "tcg"
        times = []
        for origin in ("box", "snapshot"):
            start = time.monotonic()
            with vagrant.guest(kernel, quiet) as guest:
                first = first_test(args, guest.machine()) - start
            times.append((time.monotonic() - start, first))
            print(f"VM from its {origin} {times[-1][0]:.1f} s, the first test after {first:.1f} s", flush=True)
    (from_box, _), (from_snapshot, first) = times
    print(f"{from_box / bare_qemu:6.2f}  the VM from its box / bare qemu (at most 1.3)")
    print(f"{from_snapshot / bare_qemu:6.2f}  the VM from its snapshot / bare qemu")
    print(f"{first:6.1f}  s from its snapshot to the first test (at most 30)")
    return 0 if from_box <= 1.3 * bare_qemu and first <= 30 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

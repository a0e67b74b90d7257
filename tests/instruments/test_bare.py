"""Targets whose kernel runs the agent alone: user-mode Linux, and Debian's kernels in QEMU."""

import lzma
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from probes.report.reader import read
from probes.targets import TARGETS, bare, box, store
from probes.targets.store import CannotBuild
from tests.instruments.support import missing

LAW = "socket.pair.unknown-flags"


@pytest.mark.parametrize(
    ("name", "implementation", "machine"), [("uml", "linux-um", "i686"), ("bare:6.1-686-pae", "linux", "i686")]
)
def test_a_kernel_boots_and_is_judged(socketcall, tmp_path, monkeypatch, name, implementation, machine):
    """The kernel boots, conforms to its own version, and the results name kernel, implementation and command. No process of
    its machine is left.
    """
    monkeypatch.setenv("SOCKETCALL_MARK", str(tmp_path))
    try:
        store.make(TARGETS[name].recipe, print)
        for program in ("bwrap", "qemu-system-i386"):
            store.tool(program)
    except CannotBuild as error:
        missing(error)
    run = socketcall("target", "run", name, "--", LAW, "-n", "1", "--report", str(tmp_path / "report"))
    assert run.status == 0, run.out + run.err
    results = read(tmp_path / "report")
    target = results.run["target"]
    assert (target["name"], target["implementation"], target["isolation"]) == (name, implementation, "net")
    assert (target["kernel"]["machine"], target["abi"]) == (machine, "i386")
    assert target["kernel"]["release"].startswith("6.1.")
    assert results.run["reference"].startswith("i386 6.1.")
    assert target["again"] == ["socketcall", "target", "run", name, "--"]
    assert [(caller["name"], caller["word"]) for caller in target["callers"]] == [("agent", 32)]
    checks = list(results.checks)
    assert {check.verdict for check in checks} == {"conforms"}
    assert {check.key.gate for check in checks} >= {"int80"}
    assert processes_with(f"SOCKETCALL_MARK={tmp_path}") == []


def processes_with(variable):
    """Return the command lines of other processes in whose environment a variable is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) != os.getpid() and variable.encode() in (process / "environ").read_bytes().split(
                b"\0"
            ):
                found.append((process / "cmdline").read_text())
    return found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["uml", "--", "--boot", "x"], "are the target's; leave them out"),
        (["uml", "--", "--via-tty", "/dev/ttyS1"], "are the target's; leave them out"),
        (["bare:6.1-686-pae", "--", "--implementation", "x"], "are the target's; leave them out"),
        (["bare:6.1-686-pae", "--", "sweep", "types"], "only `check` runs there"),
        (["bare:2.6", "--", LAW], "no target is called 'bare:2.6'"),
    ],
)
def test_wrong_arguments_are_named(socketcall, words, says):
    """Options that are the target's, other commands and unknown kernels: one line, status 2, nothing is built."""
    run = socketcall("target", "run", *words)
    assert (run.status, run.out) == (2, "")
    assert says in run.err
    assert run.err.count("\n") == 1


def test_every_kernel_of_the_vm_has_a_target():
    """The names of kernels are those of the VM."""
    assert {f"bare:{name}" for name in box.KERNELS} <= set(TARGETS)


@pytest.mark.parametrize(
    "note", [b"", struct.pack("<3I", 4, 4, 18) + b"Xen\0", struct.pack("<3I", 4, 8, 18) + b"Xen\0"]
)
def test_the_kernel_in_an_image_is_found(note):
    """A bzImage has its compressed kernel where its header says; one that is not compressed by xz is named. It is what
    boots, unless it has the note by which QEMU starts an ELF file.
    """
    kernel = b"\x7fELF" + bytes(1000) + note
    packed = lzma.compress(kernel, lzma.FORMAT_XZ)
    image = bytearray(2 * 512)
    image[0x1F1] = 1
    # The payload begins 64 bytes after the set-up code, and has four bytes more: the size of the kernel.
    struct.pack_into("<2I", image, 0x248, 64, len(packed) + 4)
    image += bytes(64) + packed + struct.pack("<I", len(kernel))
    assert bare.decompressed(bytes(image)) == kernel
    assert bare.bootable(bytes(image)) == (kernel if note else image)
    with pytest.raises(CannotBuild, match="cannot be decompressed"):
        bare.decompressed(bytes(image).replace(packed[:6], b"\x1f\x8b\x08gzp"))

"""Bad input, and machines on which nothing can be judged: one line, status 2, nothing left behind."""

import sys

import pytest

from probes import VERSION
from tests.instruments.support import run_command

#: Refuses, for the process that it becomes, what each machine of these tests lacks.
LACK = """
import os, struct, sys
from probes.trace import ptrace, seccomp
program = {
    "ptrace": seccomp.answering(101, 1, ptrace.ARCH_X86_64) if sys.maxsize > 2**32 else seccomp.answering(26, 1),
    "ia32": [struct.pack("<HBBI", 0x20, 0, 0, 4), struct.pack("<HBBI", 0x15, 0, 1, ptrace.ARCH_I386),
             struct.pack("<HBBI", 6, 0, 0, 0x80000000), struct.pack("<HBBI", 6, 0, 0, 0x7fff0000)],
}[sys.argv[1]]
ptrace.set_filter(program)
os.execv(sys.argv[2], sys.argv[2:])
"""
NO_NAMESPACES = ("unshare", "--user", "--map-root-user", "sh", "-c",
                 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"')  # fmt: skip


def lacking(what):
    """What starts a command on such a machine."""
    return (sys.executable, "-c", LACK, what)


BAD = {
    "no command": ((), (), "required"),
    "an unknown command": (("frob",), (), "invalid choice: 'frob'"),
    "an unknown option": (("check", "--frob"), (), "unrecognized arguments: --frob"),
    "an unknown id": (("check", "no.such.id"), (), "no behaviour matches 'no.such.id'"),
    "an unknown route": (("check", "--route", "x"), (), "invalid choice: 'x'"),
    "a shard that is none": (("check", "--list", "--shard", "5/2"), (), "'5/2' is not I/N with I from 1 to N"),
    "an unknown reference": (("check", "bind.rebind.raw", "--reference", "vax"), (), "'vax' is not ABI-VERSION"),
    "an unwritable report": (("check", "bind.rebind.raw", "--report", "/proc/no"), (), "cannot write to /proc/no"),
    "no such tests": (("check", "--tests", "nowhere"), (), "is not a directory"),
    "an unknown target": (("target", "run", "vax"), (), "no target is called 'vax'"),
    "an unknown artefact": (("target", "build", "vax"), (), "no artefact is called 'vax'"),
    "ptrace forbidden": (("check", "bind.rebind.raw"), lacking("ptrace"), "allow ptrace"),
    "no user namespaces": (("check", "bind.rebind.raw"), NO_NAMESPACES, "allow user namespaces"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, tmp_path):
    """One line on stderr says what, why and what to do; the status is 2; no file is left."""
    args, prefix, said = BAD[name]
    run = run_command(tmp_path, *args, prefix=prefix)
    assert run.status == 2, run.out + run.err
    assert said in run.err
    assert len(run.err.strip().splitlines()) == 1, run.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.maxsize < 2**32, reason="a 32-bit process cannot run where no i386 call is answered")
def test_kernel_without_ia32_entry(tmp_path):
    """Where int $0x80 ends a process, the run does not begin."""
    run = run_command(tmp_path, "check", "bind.rebind.raw", prefix=lacking("ia32"))
    assert run.status == 2
    assert "this kernel has no IA32 entry" in run.err
    assert len(run.err.splitlines()) == 1


def test_version(tmp_path):
    run = run_command(tmp_path, "--version")
    assert (run.status, run.out, run.err) == (0, f"socketcall {VERSION}\n", "")

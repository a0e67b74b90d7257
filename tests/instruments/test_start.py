"""Tests how a command starts: what it imports, bad input, and machines on which no test can run."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from probes import VERSION
from probes.cli.command_line import COMMANDS, EXAMPLES, parsed
from probes.installation import checkout
from probes.plugin import options
from tests.instruments.support import COMMAND_DEADLINE, run_command

#: Installs a seccomp filter that refuses what a machine of these tests lacks, and executes a command.
LACK = """
import os, struct, sys
from probes.trace import ptrace, seccomp
program = {
    "ia32": [struct.pack("<HBBI", 0x20, 0, 0, 4), struct.pack("<HBBI", 0x15, 0, 1, ptrace.ARCH_I386),
             struct.pack("<HBBI", 6, 0, 0, 0x80000000), struct.pack("<HBBI", 6, 0, 0, 0x7fff0000)],
}[sys.argv[1]]
ptrace.set_filter(program)
os.execv(sys.argv[2], sys.argv[2:])
"""
NO_NAMESPACES = ("unshare", "--user", "--map-root-user", "sh", "-c",
                 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"')  # fmt: skip

NO_PROC = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"')
OTHER_PROC = ("unshare", "--map-root-user", "--pid", "--fork")


def lacking(what):
    """Return the beginning of a command line that runs as on such a machine."""
    return (sys.executable, "-c", LACK, what)


BAD = {
    "no command": ((), (), "required"),
    "an unknown command": (("frob",), (), "no command is called 'frob': doctor, check"),
    "a command with a slip": (("chek",), (), "; did you mean 'check'?"),
    "an unknown option": (("check", "--frob"), (), "unrecognized arguments: --frob"),
    "an unknown id": (("check", "no.such.id"), (), "no behaviour matches 'no.such.id'"),
    "an id with a slip": (("check", "bind.rebind.rav"), (), "'bind.rebind.rav'; did you mean 'bind.rebind.raw'?"),
    "a glob with a slip": (("check", "bnd.*"), (), "no behaviour matches 'bnd.*'; did you mean 'bind.*'?"),
    "an unknown route": (("check", "--route", "x"), (), "invalid choice: 'x'"),
    "a shard that is none": (("check", "--list", "--shard", "5/2"), (), "'5/2' is not I/N with I from 1 to N"),
    "an unknown reference": (("check", "bind.rebind.raw", "--reference", "vax"), (), "'vax' is not local"),
    "an unwritable report": (("check", "bind.rebind.raw", "--report", "/proc/no"), (), "cannot write to /proc/no"),
    "no such tests": (("check", "--tests", "nowhere"), (), "is not a directory"),
    "an unknown target": (("target", "run", "vax"), (), "no target is called 'vax'"),
    "a target with a slip": (("target", "run", "qemu-user:bookwrm"), (), "did you mean 'qemu-user:bookworm'?"),
    "an unknown artefact": (("target", "build", "vax"), (), "no artefact is called 'vax'"),
    "full isolation without user namespaces": (
        ("check", "bind.rebind.raw", "--isolation", "full"), NO_NAMESPACES, "full: no user namespace: No space left"
    ),
    "no /proc": (("check", "bind.rebind.raw"), NO_PROC, "there is no /proc here; mount it"),
    "the /proc of another pid namespace": (("check", "bind.rebind.raw"), OTHER_PROC, "/proc is of another pid namespace"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example(command, tmp_path):
    """A command line that the parser takes."""
    example = EXAMPLES[command]
    run = run_command(tmp_path, command, "--help")
    last = run.out.splitlines()[-1].strip().removeprefix("example: ")  # (of several, that of the table is the last)
    assert (run.status, run.err, last) == (0, "", example)
    program, *words = shlex.split(example)
    assert program == "socketcall"
    assert words[0] == command
    parsed(words)


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
    """Where int $0x80 kills a process, the run does not begin."""
    run = run_command(tmp_path, "check", "bind.rebind.raw", prefix=lacking("ia32"))
    assert run.status == 2
    assert "this kernel has no IA32 entry" in run.err
    assert len(run.err.splitlines()) == 1


def test_version(tmp_path):
    run = run_command(tmp_path, "--version")
    assert (run.status, run.out, run.err) == (0, f"socketcall {VERSION}\n", "")


#: Runs a command, and prints the modules that it imported.
IMPORTS = """
import json, sys
from probes.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted(sys.modules)))
"""


def imports(directory, *words):
    """Return the modules that a command imports."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *words], cwd=directory, env={**os.environ, "PYTHONPATH": str(checkout())},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--version"], ["capture", "-o", "calls", "--", "true"]], ids=lambda words: words[0])
def test_what_judges_nothing_imports_neither_pytest_nor_targets(tmp_path, words):
    assert not imports(tmp_path, *words) & {"pytest", "_pytest", "scapy", "psutil", "probes.targets", "probes.plugin"}
    assert "pytest" in imports(tmp_path, "check", "--list", "bind.rebind.raw")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["doctor"], ["diff", "a", "b"], ["views", "a"], ["target", "list"], ["check", "--help"],
        ["check", "--deadline=x"],
    ],
)  # fmt: skip
def test_only_what_collects_tests_imports_pytest(tmp_path, words):
    run = run_command(tmp_path, *words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert "probes.cli.main" in run.err
    assert "_pytest" not in run.err


@pytest.mark.parametrize(
    ("words", "imported"),
    [
        (["wire.silence.*", "entry.*"], {"entry", "wire"}),
        (["wire.silence.*", "bin?.port.*"], {"bind", "entry", "wire"}),
        (["wire.silence.*", "--expect", "known"], {"bind", "entry", "wire"}),
        (["wire.silence.*", "instruments.no.such"], {"bind", "entry", "wire"}),
    ],
    ids=["ids", "a wildcard in the directory", "a list of ids", "no directory of behaviours"],
)
def test_only_the_directories_of_the_ids_are_imported(tmp_path, words, imported):
    """The tests of the directories that the ids name; all where an id, or a list, may mean any."""
    modules = imports(tmp_path, "check", "--list", *words)
    found = {module.split(".")[1] for module in modules if module.startswith("tests.") and ".test_" in module}
    assert found & {"bind", "entry", "wire", "instruments"} == imported


def test_a_pipe_without_a_reader_ends_a_command_quietly(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "probes.cli", "target", "list"], cwd=tmp_path, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(checkout())}, stdout=writing, stderr=subprocess.PIPE, text=True,
        timeout=COMMAND_DEADLINE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_options_are_repeated_as_they_were_given():
    """What another machine gets is what was given here, without what this machine does with files and parts."""
    unchanged = ["--route=direct", "--gate=int80", "--only=abi", "--case=a=b c"]
    here = ["--shard=2/3", "--seed=5", "--workers=2", "--report=r", "--evidence=failing", "--expect=known", "--require"]
    others = ["--isolation=net", "--deadline=2.5", "--fail-fast"]
    args = parsed(["check", "bind.*", *reversed([*unchanged, *here, *others])])
    assert options.words(args, lambda _: True) == [*unchanged, *here, *others]
    assert options.words(args, lambda option: option.remote) == [*unchanged, *others]
    assert options.words(parsed(["check", "--require=FILE"]), lambda option: option.name == "require") == [
        "--require=FILE"
    ]

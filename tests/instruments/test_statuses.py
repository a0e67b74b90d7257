"""Every command ends with a documented status and at most one line on stderr, whatever its surroundings are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from probes.errors import CommandError
from probes.installation import checkout
from probes.report.check import Check, Key
from probes.report.expectations import Expectations
from tests.instruments.support import COMMAND_DEADLINE, ONE_GATE, missing, run_check, write_tests

JUDGES = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails: „always”."""
    expect(-errno.EBADF, number=1).of(calls.bind(-1, ADDRESS))
'''
#: Runs the words after it as a shell does, in a mount namespace of its own.
MOUNTED = ("unshare", "--map-root-user", "--mount", "sh", "-ec")
RUN = 'exec "$0" "$@"'


@dataclass(frozen=True)
class Surroundings:
    """Describes how a command is started: a prefix of its command line, variables, and where its output goes.

    `statuses` has the exit status of the commands that do not end as they do in ordinary surroundings.
    """

    prefix: Sequence[str] = ()
    variables: Mapping[str, str | None] = field(default_factory=dict)
    stdout: str = "pipe"
    statuses: Mapping[str, int] = field(default_factory=dict)
    #: Whether a command has enough depends on the machine: it may also end with 2 or 3.
    scarce: bool = False


COMMANDS: dict[str, tuple[Sequence[str], int]] = {
    "--version": (["--version"], 0),
    "--help": (["--help"], 0),
    "doctor": (["doctor"], 0),
    "check": (["check", *ONE_GATE, "--tests", "{tests}"], 0),
    "check --via": (["check", "--via", "sh -c 'exec \"$0\"' {{agent}}", "--gate", "int80", "--tests", "{tests}"], 0),
    "check --list": (["check", "--list", *ONE_GATE, "--tests", "{tests}"], 0),
    "capture": (["capture", "-o", "calls", "--", "true"], 0),
    "sweep": (["sweep", "operations", "--range", "0..30"], 0),
    "agent": (["agent", "-o", "agent"], 0),
    "record": (["record", "made.*", "--tests", "{tests}", "-o", "made.elf"], 0),
    "diff": (["diff", "{one}", "{other}"], 1),
    "matrix": (["matrix", "{one}", "{other}", "-o", "empty"], 0),
    "views": (["views", "{one}"], 0),
    "target list": (["target", "list"], 0),
    "wrong arguments": (["check", "--frob"], 2),
    "words after --": (["agent", "--", "x"], 2),
}
"""Every command that is quick, with its ordinary status."""

PRINTING = ("--version", "--help", "doctor", "check --list", "sweep", "diff", "matrix", "target list")
LIMITED = dict.fromkeys(("doctor", "check", "check --via", "sweep", "record"), 2)
#: RLIMIT_NPROC does not hold for root: another user, who may still use root's files.
ALONE = (
    ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=+dac_override",
     "--ambient-caps=+dac_override")
    if os.geteuid() == 0 else ()
)  # fmt: skip

SURROUNDINGS: dict[str, Surroundings] = {
    "ordinary": Surroundings(),
    "stdout is full": Surroundings(stdout="/dev/full", statuses=dict.fromkeys([*PRINTING, "check"], 3)),
    "stdout has no reader": Surroundings(stdout="no reader", statuses=dict.fromkeys(PRINTING, 141)),
    "stdout is closed": Surroundings(("sh", "-c", f"{RUN} >&-")),
    "stderr is closed": Surroundings(("sh", "-c", f"{RUN} 2>&-")),
    "stderr is full": Surroundings(("sh", "-c", f"{RUN} 2>/dev/full")),
    "all streams are closed": Surroundings(("sh", "-c", f"{RUN} <&- >&- 2>&-")),
    "an ASCII locale": Surroundings(
        variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None}
    ),
    "a dumb terminal": Surroundings(variables={"TERM": "dumb"}),
    "no home": Surroundings(variables={"HOME": None}),
    "SIGCHLD is ignored": Surroundings(("env", "--ignore-signal=CHLD")),
    "SIGPIPE is ignored": Surroundings(("env", "--ignore-signal=PIPE")),
    "SIGALRM is blocked": Surroundings(("env", "--block-signal=ALRM")),
    "the checkout is read-only": Surroundings((*MOUNTED, f"mount --bind -o ro {checkout()} {checkout()}; {RUN}")),
    "the current directory is read-only": Surroundings(
        (*MOUNTED, f'mount --bind -o ro . . && cd "$PWD"; {RUN}'),
        statuses={"check": 2, "capture": 125, "agent": 2, "record": 2, "matrix": 2},
    ),
    "the disk is full": Surroundings(
        (*MOUNTED, f"mount -t tmpfs -o size=20k none empty && cd empty; {RUN}"),
        statuses={"check": 3, "matrix": 3},
    ),
    "no temporary directory": Surroundings(variables={"TMPDIR": "/proc"}),
    "64 descriptors": Surroundings(("sh", "-c", f"ulimit -n 64; {RUN}"), statuses=LIMITED),
    "8 descriptors": Surroundings(("sh", "-c", f"ulimit -n 8; {RUN}"), statuses=LIMITED, scarce=True),
    "no second process": Surroundings((*ALONE, "prlimit", "--nproc=1"), statuses=LIMITED | {"capture": 125}),
    # The helper that makes a sandbox and the sandbox's init can be forked, its child cannot.
    "3 processes": Surroundings((*ALONE, "prlimit", "--nproc=3"), statuses=LIMITED, scarce=True),
    "4 processes": Surroundings((*ALONE, "prlimit", "--nproc=4"), scarce=True),
    "100 MB of memory": Surroundings(("sh", "-c", f"ulimit -v 100000; {RUN}"), scarce=True),
    "30 MB of memory": Surroundings(("sh", "-c", f"ulimit -v 30000; {RUN}"), scarce=True),
}
"""Every condition of a machine or a shell under which commands have to end well."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make two reports that differ, and tests to judge."""
    place = tmp_path_factory.mktemp("reports")
    found = {"tests": str(place / "one" / "tests")}
    for name, source in (("one", JUDGES), ("other", JUDGES.replace("-errno.EBADF", "0"))):
        (place / name).mkdir()
        write_tests(place / name, source)
        judged = run_check(place / name)
        assert judged.status in (0, 1), judged.out + judged.err
        found[name] = str(judged.report)
    return found


def run(words: Sequence[str], around: Surroundings, directory: Path) -> tuple[int, str, str]:
    """Run a command, and return its status and what it wrote."""
    environment = {**os.environ, "PYTHONPATH": str(checkout()), **around.variables}
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = subprocess.run(
            [*around.prefix, sys.executable, "-P", "-m", "probes.cli", *words], cwd=directory,
            env={name: value for name, value in environment.items() if value is not None}, stdin=subprocess.DEVNULL,
            stdout={"pipe": subprocess.PIPE, "no reader": writing, "/dev/full": full}[around.stdout],
            stderr=subprocess.PIPE, timeout=COMMAND_DEADLINE, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
        os.close(full)
    return done.returncode, (done.stdout or b"").decode(errors="replace"), done.stderr.decode(errors="replace")


#: Conditions in which a command could fail only where `check`, which is started there too, fails with it. A list is
#: collected as the tests of a run are, with no process, deadline or file. By --via an agent makes the calls, with pipes, a
#: process and signals; what is printed and written comes from the same code. `record` prints nothing, and runs tests too.
LIKE_CHECK = {
    "check --list": (
        "SIGCHLD is ignored", "SIGALRM is blocked", "the checkout is read-only", "the disk is full",
        "no temporary directory", "3 processes", "4 processes",
    ),
    "check --via": (
        "stdout is full", "stdout has no reader", "stderr is full", "an ASCII locale", "a dumb terminal", "no home",
        "the checkout is read-only", "the current directory is read-only", "the disk is full", "no temporary directory",
    ),
    "record": (
        "stdout is full", "stdout has no reader", "stderr is full", "an ASCII locale", "a dumb terminal", "no home",
        "SIGCHLD is ignored", "SIGPIPE is ignored", "the checkout is read-only", "no temporary directory",
        "64 descriptors", "no second process", "4 processes", "100 MB of memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "command"),
    [(one, other) for one in SURROUNDINGS for other in COMMANDS if one not in LIKE_CHECK.get(other, ())],
)
def test_status(condition, command, reports, tmp_path):
    around, (words, ordinary) = SURROUNDINGS[condition], COMMANDS[command]
    (tmp_path / "empty").mkdir()
    status, out, err = run([word.format(**reports) for word in words], around, tmp_path)
    allowed = {around.statuses.get(command, ordinary), *((2, 3, 125) if around.scarce else ())}
    assert status in allowed, out + err
    assert err == "" or (err.startswith("socketcall: ") and err.count("\n") == 1), err
    assert "Traceback" not in out + err
    assert "INTERNALERROR" not in out


#: What stands where a file is read, or the file; each made in an empty directory.
OBSTACLES = {
    "a FIFO": lambda path: os.mkfifo(path),
    "an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/ptmx"),
    "a directory": lambda path: path.mkdir(),
    "a binary file": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "an empty gzip file": lambda path: path.write_bytes(b"\x1f\x8b"),
    "a huge file": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC), 1 << 40),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
    "lone surrogates": lambda path: path.write_text('{"type":"run","schema":"\\ud800"}\n'),
}
READERS = {
    "diff OLD": ["diff", "thing", "{one}"],
    "diff NEW": ["diff", "{one}", "thing"],
    "views": ["views", "thing"],
    "--expect": ["check", "--tests", "{tests}", "--expect", "thing"],
    "--require": ["check", "--tests", "{tests}", "--require=thing"],
    "--tests": ["check", "--tests", "thing"],
}

#: What is not refused, with the status: a glob that matches no id, and a directory without tests.
USABLE = {("--require", "lone surrogates"): 0, ("--tests", "a directory"): 3}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_no_file_of_ours(obstacle, reader, reports, tmp_path):
    """Whatever stands where a file is read: one line, status 2, no hang."""
    OBSTACLES[obstacle](tmp_path / "thing")
    status, out, err = run([word.format(**reports) for word in READERS[reader]], Surroundings(), tmp_path)
    assert status == USABLE.get((reader, obstacle), 2), out + err
    if status == 0:
        return
    assert err.startswith("socketcall: "), err
    assert err.count("\n") == 1, err
    assert "Traceback" not in out + err


NUMBERS = {
    "--deadline": ["nan", "inf", "-1", "0", "1e400", "9" * 5000, "x", "1_000_000_000"],
    "--seed": ["nan", "-1", "1.5", "9" * 5000, "x", "18446744073709551616", "\u0663"],
    "--shard": ["0/1", "2/1", "-1/2", "1/0", "1", "1/" + "9" * 5000, "\u0661/\u0662", "nan/nan"],
    "--stream": ["-1", "99", "9" * 5000, "4294967296", "18446744073709551615"],
    "--reference": ["i386-" + "9" * 5000 + ".1", "i386-", "vax-1.1"],
}


@pytest.mark.parametrize("option", NUMBERS)
def test_numbers(option, reports, tmp_path):
    """What is not a number of the option's range is refused before the run."""
    for value in NUMBERS[option]:
        words = ["check", "--tests", reports["tests"], f"{option}={value}"]
        status, out, err = run(words, Surroundings(), tmp_path)
        assert status == 2, value[:40] + out + err
        assert err.startswith("socketcall: "), err[:200]
        assert err.count("\n") == 1, err[:200]
        assert len(err) < 400, value[:40]
    assert list(tmp_path.iterdir()) == []


CASES = {
    "number=2": "did you mean 'number=1'",
    "nubmer=*": "did you mean 'number=1'",
    "": "did you mean 'number=1'",
}


@pytest.mark.parametrize("wanted", CASES)
def test_a_case_that_matches_nothing(wanted, reports, tmp_path):
    """The nearest cases are named, and no report is written."""
    status, out, err = run(["check", "--tests", reports["tests"], f"--case={wanted}"], Surroundings(), tmp_path)
    assert (status, err.count("\n")) == (2, 1), out + err
    assert CASES[wanted] in err
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_is_not_there(reports, tmp_path):
    if sys.maxsize < 2**32:
        missing("a 64-bit process, which has no vDSO gate")
    status, out, err = run(
        ["check", "--caller", "python", "--tests", reports["tests"], "--gate", "vdso"], Surroundings(), tmp_path
    )
    assert (status, err.count("\n")) == (2, 1), out + err
    assert "--gate vdso: the only calls are by 64-bit Python (int80)" in err


def test_a_route_that_a_test_does_not_take(tmp_path):
    """It is left out, and the others are judged."""
    write_tests(tmp_path, JUDGES, JUDGES.replace("@law", '@law\n@pytest.mark.routes("direct")'))
    for route in ("socketcall", "direct"):
        command = ["check", "--caller", "python", "--route", route, "--tests", str(tmp_path / "tests")]
        status, out, err = run(command, Surroundings(), tmp_path)
        assert (status, err) == (0, ""), out + err
        assert "1 passed, 1 deselected" in out


def test_a_run_that_judges_nothing_says_so(reports, tmp_path):
    """A part of the run without tests."""
    status, out, err = run(["check", "--tests", reports["tests"], "--shard=9/9"], Surroundings(), tmp_path)
    assert status == 3, out + err
    assert err.startswith("socketcall: nothing could be judged")


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes a user without an entry in passwd")
def test_a_user_without_a_home(tmp_path):
    around = Surroundings(ALONE, {"HOME": None, "SOCKETCALL_CACHE": None})
    status, out, err = run(["target", "list"], around, tmp_path)
    assert status == 2, out + err
    assert err == "socketcall: this user has no home directory: set SOCKETCALL_CACHE to a directory\n"


LISTS = "made.m0.law | number=1 | not yet: EBADF\n# a comment\n\nmade.* | | why\n"


def test_lists_under_mutation(tmp_path):
    """--expect and --require of damaged lists: a list, or CommandError in one line."""
    random = Random(1)
    path, refused = tmp_path / "list", 0
    for _ in range(600):
        data = bytearray(LISTS.encode())
        for _ in range(random.randrange(1, 6)):
            at = random.randrange(len(data))
            change = random.randrange(4)
            if change == 0:
                data[at] = random.randrange(256)
            elif change == 1:
                data[at:at] = random.choice([b"|", b"\0", b"\xed\xa0\x80", b"\r", b"[", b"\xe2\x80\xa8", b"*" * 200])
            elif change == 2:
                del data[at : at + random.randrange(1, 9)]
            else:
                lines = data.splitlines(keepends=True)
                random.shuffle(lines)
                data = bytearray(b"".join(lines))
        path.write_bytes(data)
        try:
            expectations = Expectations.of(str(path), str(path), None)
            assert expectations.known is not None
            expectations.known.require_ids(["made.m0.law", "bind.port.privileged"])
            expectations.mark([Check(Key("made.m0.law", "number=1", "socketcall", "int80", 64), "deviates")])
        except CommandError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 50 < refused < 600

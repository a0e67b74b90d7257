"""`socketcall record`: what it refuses, what it leaves out, and where it writes."""

import stat

import pytest

from tests.instruments.support import ran, write_tests

#: A behaviour that can be recorded whole.
LAW = "socket.pair.unknown-flags"

LEFT_OUT = {
    "loop": (
        """
    from probes.entry.sweep import Sweep
    sweep = Sweep(calls)
    sweep.call("socket", 1, 1, 7, judged=True)
    expect(-93, range="x").of(sweep.run(range(2)))
""",
        "sweeps a range by the loop in machine code",
    ),
    "socket": (
        """
    socket.socket().close()
    expect(-93).of(calls.socket(1, 1, 7))
""",
        "makes sockets by Python",
    ),
    "branch": (
        """
    if calls.socket(1, 1, 0) < 0:
        raise OSError
    expect(-93).of(calls.socket(1, 1, 7))
""",
        "goes by the result of a call",
    ),
    "value": (
        """
    check = expect(True)
    result = calls.socket(1, 1, 7)
    check.of(int(result) == -93, result)
""",
        "is judged by what Python finds out",
    ),
    "order": (
        """
    from probes.testing import procfs
    sv = memory.guarded(8)
    check = expect(procfs.lowest(2), second="left-out")
    result = calls.make("socketpair", 1, 1, 0, sv)
    check.of(sorted(sv.words()), result)
""",
        "is judged in an order that Python makes",
    ),
    "sysctl": (
        """
    open("/proc/sys/net/core/somaxconn", "w").close()
    expect(-93).of(calls.socket(1, 1, 7))
""",
        "writes /proc/sys/net/core/somaxconn",
    ),
    "random": (
        """
    import random
    expect(-97, second='left-out').of(calls.gate.enter(359, 1000 + random.SystemRandom().randrange(1 << 20), 1, 0))
""",
        "an argument that is neither a constant nor a result of the calls before",
    ),
}


def test_what_cannot_be_recorded_is_named(socketcall, tmp_path):
    sources = [
        f"""
@law
def test_law(calls, memory, expect):
    '''A statement.'''
    expect(-93, first="recorded").of(calls.socket(1, 1, 7))
{body.replace("expect(-93).", "expect(-93, second='left-out').")}
"""
        for body, _ in LEFT_OUT.values()
    ]
    write_tests(tmp_path, *sources)
    run = socketcall("record", "made.*", "--tests", str(tmp_path / "tests"), "-o", "made.elf")
    assert run.status == 0, run.err
    assert run.err.splitlines() == [
        f"socketcall: made.m{number}.law: recorded in part: {why} (1 check)"
        for number, (_, why) in enumerate(LEFT_OUT.values())
    ]
    status, out = ran(tmp_path / "made.elf")
    assert (status, out.splitlines()[1:]) == (
        0,
        [
            f"1..{len(LEFT_OUT)}",
            *(f"ok {n + 1} made.m{n}.law first=recorded route=socketcall" for n in range(len(LEFT_OUT))),
        ],
    )
    assert socketcall("record", "made.m1.*", "--tests", str(tmp_path / "tests"), "-o", "made.c").status == 0
    assert "Left out, makes sockets by Python: second=left-out" in (tmp_path / "made.c").read_text()


@pytest.mark.parametrize(
    "words, says",
    [
        ([LAW, "-o", "x.txt"], "ends with neither .c nor .elf; choose by --form c or --form elf"),
        ([LAW, "-o", "/dev/stdout"], "ends with neither .c nor .elf; choose by --form c or --form elf"),
        ([LAW, "-o", "missing/x.c"], "-o missing/x.c: No such file or directory; name a file that can be written"),
        (["no.such.*", "-o", "missing/x.c"], "-o missing/x.c: No such file or directory"),
        (["no.such.*", "-o", ".", "--form", "c"], "-o .: Is a directory"),
        ([LAW, "-o", "."], "ends with neither .c nor .elf"),
        (
            [LAW, "--case", "bit=40", "-o", "x.c"],
            "--case: no check of these behaviours has a case that matches 'bit=40'",
        ),
        (["no.such.*", "-o", "x.c"], "no behaviour matches 'no.such.*'; `socketcall behaviours` lists them"),
        (["-o", "x.c"], "the following arguments are required: ID-GLOB"),
        ([LAW], "the following arguments are required: -o/--output"),
        ([LAW, "-o", "x.c", "--form", "rust"], "--form: invalid choice: 'rust'"),
        (["entry.errno.descriptor", "-o", "x.c"], "nothing is written: none of these behaviours can be recorded"),
    ],
)
def test_wrong_arguments_are_named(socketcall, tmp_path, words, says):
    run = socketcall("record", *words)
    assert (run.status, run.out) == (2, "")
    assert says in run.err.splitlines()[-1]
    assert not (tmp_path / "x.c").exists()


def test_it_writes_like_a_shell(socketcall, tmp_path):
    whole = socketcall("record", LAW, "--route", "direct", "-o", "/dev/stdout", "--form", "c")
    assert whole.status == 0
    target = tmp_path / "link.c"
    (tmp_path / "longer.c").write_text(whole.out + "more")
    target.symlink_to("longer.c")
    assert socketcall("record", LAW, "--route", "direct", "-o", "link.c").status == 0
    assert target.is_symlink()
    assert target.read_text() == whole.out
    assert not stat.S_IMODE(target.stat().st_mode) & 0o111
    assert socketcall("record", LAW, "-o", "/dev/full", "--form", "c").status == 3

"""What each way for a test to end becomes: its verdict, its exit status. None but a kept law is green."""

import json

import pytest

from probes.report.check import Check
from probes.report.counts import Counts
from tests.instruments.support import run_check, write_tests

GOOD = '''
@law
def test_it(calls, expect):
    """Binding descriptor -1 fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
'''

#: name: (source, verdict, exit status, what the details or the actual value say)
ENDINGS = {
    "a check that fails": ('''
@law
def test_it(calls, expect):
    """Binding descriptor -1 works."""
    expect(0).of(calls.bind(-1, ADDRESS))
''', "deviates", 1, "-9"),
    "a value that fails": ('''
@law
def test_it(calls, expect):
    """A result and a value."""
    check = expect({"a": b"x"})
    result = calls.bind(-1, ADDRESS)
    check.of({"a": b"y"}, result)
''', "deviates", 1, "79"),
    "a range that surprises": ('''
from probes.entry.sweep import Sweep
@law
def test_it(calls, expect):
    """All calls from 1 to 30 are no calls."""
    sweep = Sweep(calls)
    sweep.raw(102, sweep.value, 0, judged=True)
    expect(-errno.EINVAL, calls="1..30").of(sweep.run(range(1, 31)))
''', "deviates", 1, "20"),
    "a subtest that fails": ('''
@law
def test_it(calls, expect, subtests):
    """A subtest fails."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    with subtests.test("inner"):
        assert 1 == 2
''', "broke", 3, "AssertionError"),
    "a fixture that breaks": ('''
@pytest.fixture
def broken():
    raise OSError("no such thing")
@law
def test_it(calls, expect, broken):
    """A fixture breaks."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
''', "broke", 3, "no such thing"),
    "a fixture that breaks at the end": ('''
@pytest.fixture
def broken():
    yield
    raise OSError("no such thing")
@law
def test_it(calls, expect, broken):
    """A fixture breaks."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
''', "broke", 3, "no such thing"),
    "set-up that needs what failed": ('''
@law
def test_it(calls, expect):
    """Set-up fails."""
    need(calls.bind(-1, ADDRESS), "a bound socket")
    expect(0).of(calls.bind(-1, ADDRESS))
''', "deviates", 1, "in set-up, a bound socket was refused"),
    "set-up refused after an announcement": ('''
@law
def test_it(calls, expect):
    """Set-up fails."""
    check = expect(b"abc", part="data")
    need(calls.bind(-1, ADDRESS), "a bound socket")
    check.of(b"", calls.bind(-1, ADDRESS))
''', "deviates", 1, "in set-up, a bound socket was refused"),
    "a call that kills where no tracer watches": ('''
from probes.entry import memory
@law
@pytest.mark.sandbox(trace="none")
def test_it(calls, the_gate, expect):
    """The gate itself faults."""
    check = expect(-errno.EBADF)
    memory.protect(the_gate.page, memory.PAGE, memory.PROT_NONE)
    check.of(calls.bind(-1, ADDRESS))
''', "deviates", 1, "died SIGSEGV"),
    "a crash": ('''
@law
def test_it(calls, expect):
    """Python crashes."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    ctypes.string_at(0)
''', "broke", 3, "died SIGSEGV"),
    "an exit": ('''
@law
def test_it(calls, expect):
    """The process exits."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    os._exit(0)
''', "broke", 3, "exited 0"),
    "sys.exit": ('''
@law
def test_it(calls, expect):
    """The process exits."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    sys.exit(0)
''', "broke", 3, "SystemExit"),
    "another program": ('''
@law
def test_it(calls, expect):
    """The process becomes another."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    os.execv("/bin/true", ["true"])
''', "broke", 3, "exited 0"),
    "death by a signal": ('''
@law
def test_it(calls, expect):
    """The process is killed."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    os.kill(os.getpid(), signal.SIGKILL)
''', "broke", 3, "died SIGKILL"),
    "a loop": ('''
@law
def test_it(calls, expect):
    """The process loops."""
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
    while True:
        pass
''', "broke", 3, "no return"),
    "a call outside judgement that blocks": ('''
@law
def test_it(calls, new_socket, expect):
    """Set-up blocks."""
    listener = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    need(listener.bind(ADDRESS))
    need(listener.listen())
    need(listener.accept())
''', "broke", 3, "no return"),
    "a judged call that blocks": ('''
@law
def test_it(calls, new_socket, expect):
    """The judged call blocks."""
    listener = new_socket(socket.AF_INET, socket.SOCK_STREAM)
    need(listener.bind(ADDRESS))
    need(listener.listen())
    expect(-errno.EAGAIN).of(listener.accept())
''', "deviates", 1, "no return"),
    "a judged call that kills": ('''
from probes.trace import ptrace, seccomp
@law
@pytest.mark.sandbox(trace="calls")
def test_it(calls, expect):
    """The judged call kills its process."""
    kill = seccomp.answering(102, 0)
    kill[-2] = struct.pack("<HBBI", 6, 0, 0, 0x80000000)
    ptrace.set_filter(kill)
    expect(-errno.EBADF).of(calls.bind(-1, ADDRESS))
''', "deviates", 1, "died SIGSYS"),
    "a gate that faults": ('''
from probes.entry import memory
@law
def test_it(calls, the_gate, expect):
    """The gate itself faults, as where no kernel answers it."""
    judged = expect(-errno.EBADF)
    memory.protect(the_gate.page, memory.PAGE, memory.PROT_NONE)
    judged.of(calls.bind(-1, ADDRESS))
''', "deviates", 1, "died SIGSEGV"),
    "a skip without a name": ('''
@law
def test_it(calls, expect):
    """Skipped."""
    pytest.skip("later")
''', "broke", 3, "later"),
    "a skip mark": ('''
@law
@pytest.mark.skip(reason="later")
def test_it(calls, expect):
    """Skipped."""
''', "broke", 3, "later"),
    "an expected failure": ('''
@law
@pytest.mark.xfail(reason="known")
def test_it(calls, expect):
    """Expected to fail."""
    assert False
''', "broke", 3, "AssertionError"),
    "nothing judged": ('''
@law
def test_it(calls, expect):
    """Nothing is judged."""
    calls.bind(-1, ADDRESS)
''', "broke", 3, "judged nothing"),
    "announced, never judged": ('''
@law
def test_it(calls, expect):
    """Announced only."""
    expect(0)
''', "broke", 3, "never judged"),
    "judged twice": ('''
@law
def test_it(calls, expect):
    """The same case twice."""
    for _ in range(2):
        expect(-errno.EBADF, same=1).of(calls.bind(-1, ADDRESS))
''', "broke", 3, "judged twice"),
    "announced after the call": ('''
@law
def test_it(calls, expect):
    """The call comes before its announcement."""
    result = calls.bind(-1, ADDRESS)
    expect(-errno.EBADF).of(result)
''', "broke", 3, "announced after the call"),
    "a call over another route": ('''
@law
@pytest.mark.routes("socketcall")
def test_it(calls, expect):
    """The judged call is another system call."""
    expect(-errno.EBADF).of(calls.close(-1))
''', "broke", 3, "took route direct"),
    "either or": ('''
@law
def test_it(calls, expect):
    """Two answers."""
    expect({0, -errno.EBADF}).of(calls.bind(-1, ADDRESS))
''', "broke", 3, "single answer"),
    "a value without its results": ('''
@law
def test_it(calls, expect):
    """A value that rests on nothing."""
    expect(1).of(1)
''', "broke", 3, "rests on"),
    "a call that no tracer saw": ('''
@law
def test_it(calls, expect):
    """A result made up."""
    check = expect(-errno.EBADF)
    result = calls.bind(-1, ADDRESS)
    result.call_id += 1
    check.of(result)
''', "broke", 3, "no tracer saw"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """One run of all endings, each followed by a good test."""
    folder = tmp_path_factory.mktemp("endings")
    sources = [text for source, *_ in ENDINGS.values() for text in (source, GOOD)]
    write_tests(folder, *sources)
    return run_check(folder, "--deadline", "3", "--", "--tb=short")


@pytest.mark.parametrize("name", ENDINGS)
def test_endings(name, ended):
    """Each ending gives its verdict, with the exit status that it alone would have, and the run goes on."""
    _, verdict, status, said = ENDINGS[name]
    number = 2 * list(ENDINGS).index(name)
    checks = [check for check in ended.checks if check["id"] == f"made.m{number}.law"]
    bad = [check for check in checks if check["verdict"] == verdict]
    assert len(bad) == 1, checks
    assert said in f"{bad[0]['actual']} {bad[0]['detail']} {bad[0].get('range')}"
    assert said in ended.out
    counts = Counts()
    for check in checks:
        counts.add(Check.of_json(check))
    assert counts.status() == status
    assert [c["verdict"] for c in ended.checks if c["id"] == f"made.m{number + 1}.law"] == ["conforms"]


def test_end_of_the_run(ended):
    """A run with all these endings ends 1, with its files whole."""
    assert ended.status == 1
    end = ended.lines("results.jsonl")[-1]
    assert (end["type"], end["counts"]["conforms"]) == ("end", ended.verdicts.count("conforms"))
    assert json.loads((ended.report / "summary.json").read_text())["counts"] == end["counts"]

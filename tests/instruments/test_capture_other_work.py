"""Tests what `socketcall capture` does besides showing calls: --inject, --compare and --summary-of."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import referencing

from probes.installation import checkout
from probes.report.trace_diff import Call, differences, read
from tests.instruments.capture_programs import (
    DATA,
    DEADLINE,
    ENVIRONMENT,
    capture,
    i386,
    int80,
    one_line,
    program,
    python,
    u32,
)
from tests.instruments.support import installed

pytestmark = pytest.mark.sandbox(trace="none")


def results(*options, source):
    """Return what a program prints under injection, and its calls."""
    done = capture(*options, *python(source))
    assert done.status == 0, done.err
    return done.out.split(), done


SOCKETS = """
import errno, socket
for _ in range(3):
    try: print(socket.socket(socket.AF_UNIX).fileno())
    except OSError as error: print(errno.errorcode[error.errno])
"""


def test_an_error_in_place_of_a_call():
    """error= makes no call; when= chooses one; the lines say what was injected."""
    out, done = results("--inject", "socket:error=EMFILE:when=2", source=SOCKETS)
    assert out == ["3", "EMFILE", "3"]
    made = [(call["ret"], call.get("injected", False)) for call in done.calls("socket")]
    assert made == [(3, False), (-24, True), (3, False)]
    text = capture(
        "--inject", "%setup:retval=77", *python("import socket\nprint(socket.socket().detach())"), format="text"
    )
    assert text.out == "77\n"
    assert [line for line in text.lines() if "IPPROTO_IP) = 77 (INJECTED)" in line]
    # The same over socketcall, in a 32-bit program: its status is the result.
    code = int80(102, 1, DATA) + b"\x89\xc3" + int80(1)
    assert capture("--inject", "socket:retval=9", *program(i386(code, u32(1, 1, 0)))).status == 9


def test_results_delays_and_signals():
    source = (
        "import socket, time\nt = time.monotonic(); s = socket.socketpair(); print(int((time.monotonic() - t) * 10))"
    )
    assert int(results("--inject", "socketpair:delay_enter=200000:delay_exit=200000", source=source)[0][0]) >= 4
    source = """
import signal, socket
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
a, b = socket.socketpair()
print(a.send(b"abc"))
"""
    assert results("--inject", "%send:signal=USR1", source=source)[0] == ["signal", "3"]
    assert results("--inject", "%send:result=2", "--inject", "socket:error=EPERM", source=source)[0] == ["2"]


@pytest.mark.parametrize(("text", "at", "why"), [
    ("bnd:error=EPERM", 1, "did you mean 'bind'?"),
    ("bind", 5, "what to do is missing"),
    ("bind:error=EFOO", 12, "'EFOO' is no error"),
    ("bind:errno=EPERM", 6, "'errno' can be error"),
    ("bind:retval=x", 13, "'x' is no number"),
    ("bind:error=EPERM:retval=3", 18, "only one thing"),
    ("bind:error=EPERM:when=0", 23, "'0' is not at least 1"),
    ("read:error=EIO", 1, "read is no call of %network"),
    ("bind:signal=SIGNO", 13, "'SIGNO' is no signal"),
    ("bind:signal=SIG_IGN", 13, "'SIG_IGN' is no signal"),
    ("bind:delay_enter=10000000000000000", 18, "'10000000000000000' is more than an hour"),
])  # fmt: skip
def test_a_wrong_injection(text, at, why):
    done = capture("--inject", text, *python("open('ran', 'w')"))
    assert done.status == 2
    assert not Path("ran").exists()
    assert f"at character {at}: " in (line := one_line(done)) and why in line


@pytest.fixture(scope="module")
def schema():
    """Return the schema of a line of a capture, which refers to that of evidence."""
    read = {
        name: json.loads((checkout() / "docs" / name).read_text()) for name in ("schema.json", "capture.schema.json")
    }
    resource = referencing.Resource.from_contents(read["schema.json"])
    registry = referencing.Registry().with_resource("schema.json", resource)
    return jsonschema.Draft202012Validator(read["capture.schema.json"], registry=registry)


#: A datagram that is sent and received on the loopback link.
DATAGRAM = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 7000))
s.sendto(b"x", ("127.0.0.1", 7000))
s.recv(1)
"""


def test_every_line_fits_the_schema(schema):
    """Calls of both words, signals, ends, remarks and counts are as docs/capture.schema.json describes them."""
    source = """
import ctypes, os, socket
a, b = socket.socketpair()
a.send(b"x")
ctypes.CDLL(None).syscall(425, 0, 0)
os.kill(os.getpid(), 28)
"""
    code = int80(102, 1, DATA) + int80(102, 30, DATA) + int80(102, 2, 0x10) + int80(361, 3, 0, 0) + int80(1, 0)
    made = program(i386(code, u32(2, 2, 0)))
    done = [
        capture("-yy", "--inject", "%send:retval=1", "-e", "%network,%desc", *python(source)),
        capture(*made),
        capture("-c", *made),
        capture("-k", "--follow-wire", *python(DATAGRAM)),
    ]
    lines = [line for each in done for line in each.lines()]
    assert {line["type"] for line in lines} == {"call", "signal", "exit", "count", "note", "frame"}
    assert any("stack" in line for line in lines) and any("siginfo" in line for line in lines)
    assert any("sockets" in line for line in lines) and any("injected" in line for line in lines)
    for line in lines:
        schema.validate(line)
    for line in ({**lines[0], "another": 1}, {**lines[-1], "calls": "1"}, {"type": "exit"}):
        assert not schema.is_valid(line)


def counts_of(lines):
    return [{key: line[key] for key in ("op", "calls", "errors")} for line in map(json.loads, lines)]


def socketcall(*words):
    return subprocess.run(
        [sys.executable, "-m", "probes.cli", "capture", *map(str, words)], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=DEADLINE, check=False,
    )  # fmt: skip


def test_a_summary_of_a_file():
    """The counts of a capture are those that -c makes; a line without its end is that of a capture that was killed."""
    code = int80(102, 1, DATA) * 3 + int80(102, 2, 0x10) + int80(1, 0)
    made = program(i386(code, u32(2, 2, 0)))
    direct = counts_of(json.dumps(line) for line in capture("-c", *made).lines())
    done = capture(*made)
    summary = socketcall("--format", "jsonl", "--summary-of", done.path)
    key = lambda line: line["op"]  # noqa: E731
    assert sorted(counts_of(summary.stdout.splitlines()), key=key) == sorted(direct, key=key)
    with done.path.open("a") as file:
        file.write('{"type":"call","op":"bi')
    assert "which errors" in (table := socketcall("--summary-of", done.path)).stdout and table.returncode == 0
    with done.path.open("a") as file:
        file.write("\n")
    spoilt = socketcall("--summary-of", done.path)
    assert spoilt.returncode == 2 and "line 6 is no line of a capture" in spoilt.stderr
    assert socketcall("--summary-of", "nothing").returncode == 2
    assert "leave out what chooses" in socketcall("--summary-of", done.path, "-e", "nonsense").stderr
    for text in ("no capture", '["no", "capture"]', "[" * 100_000):
        Path("none").write_text(text)
        spoilt = socketcall("--summary-of", "none")
        assert spoilt.returncode == 2 and spoilt.stderr.startswith("socketcall: capture: none: line 1 is no line"), text
    Path("empty").touch()
    assert socketcall("--format", "jsonl", "--summary-of", "empty").stdout == ""


def test_a_file_that_is_read_is_not_written_over():
    """The results of --compare and --summary-of do not take the place of what they are made of."""
    Path("trace").write_text("socket(AF_UNIX, SOCK_STREAM, 0) = 3\n")
    Path("link").symlink_to("trace")
    for words in (("--compare", "trace", "-o", "link", "--", "true"), ("--summary-of", "trace", "-o", "trace")):
        done = socketcall(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "is the file that is read: name another one" in done.stderr
    assert Path("trace").read_text().startswith("socket(")
    Path("trace").write_text('{"a":' * 100_000)
    done = socketcall("--compare", "trace", "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_trace_is_read():
    """Threads, times, resumed calls, quotes and what follows a result are understood."""
    lines = [
        "12    accept4(3,  <unfinished ...>\n",
        '[pid 7] 12:00:00.1 recvfrom(5, "a) = \\", b"..., 3, 0, NULL, NULL) = -1 EAGAIN (Resource unavailable)\n',
        "12    <... accept4 resumed>{sa_family=AF_INET}, [16], 0) = 4<TCP:[1]>  direct syscall\n",
        "7     --- SIGCHLD {si_signo=SIGCHLD} ---\n",
        "7     shutdown(5, SHUT_RD <unfinished ...>\n",
        "7     +++ killed by SIGKILL +++\n",
    ]
    assert read(lines) == [
        Call("7", "recvfrom", ("5", '"a) = \\", b"...', "3", "0", "NULL", "NULL"), "-1", "EAGAIN"),
        Call("12", "accept4", ("3", "{sa_family=AF_INET}", "[16]", "0"), "4"),
        Call("7", "shutdown", ("5", "SHUT_RD"), "?"),
    ]
    with pytest.raises(ValueError, match="line 1 is no call"):
        read(["bind(3 = 7"])
    with pytest.raises(ValueError, match="line 2 is no call of a capture"):
        read(["     0.000012 close(3) = 0", '{"type":"call","tid":7}'])
    described = "<TCP:[127.0.0.1:{}->127.0.0.1:4567]>"
    ours, theirs = (
        read([f"accept4(3<TCP:[7]>, 4{described.format(port)}) = 4{described.format(port)}"]) for port in (1, 2)
    )
    assert ours[0].result == "4" and differences(ours, theirs) == []
    left = read(["bind(3, 0x7ffe1234, 16) = 0", "listen(3, 5) = 0", "close(3) = 0"])
    right = read(["bind(3, 0x7ffe9999, 16) = 0", "listen(3, 6) = 0", "socket(1, 1, 0) = 3", "close(3) = 0"])
    assert [line for found in differences(left, right) for line in found.lines()] == [
        "thread 1: here:  listen(3, 5) = 0",
        "thread 1: there: listen(3, 6) = 0",
        "thread 1: only there: socket(1, 1, 0) = 3",
    ]


def test_attributes_are_compared_by_name():
    """A flag is no name: of two nested attributes, one without a name, nothing is compared."""
    header = "{nlmsg_len=60, nlmsg_type=RTM_NEWLINK, nlmsg_flags=0}"
    ours, theirs, others = (
        read([f"send(3, [{header}, [{attributes}]], 60, 0) = 60"]) for attributes in (
            "{nla_len=40, nla_type=NLA_F_NESTED|IFLA_LINKINFO}, [{nla_len=16, nla_type=NLA_F_NESTED|0x2}]",
            '{nla_len=40, nla_type=NLA_F_NESTED|0x12}, "a"',
            '{nla_len=41, nla_type=NLA_F_NESTED|IFLA_LINKINFO}, "a"',
        )
    )  # fmt: skip
    assert differences(ours, theirs) == [] and len(differences(ours, others)) == 1


def test_a_comparison():
    """Status 0 if a trace has the same calls, in text or in JSON; 1 and the calls if not."""
    source = "import socket\na, b = socket.socketpair()\na.send(b'x' * 50)\na.shutdown(1)"
    for form in ("text", "jsonl"):
        same = capture(*python(source), format=form)
        done = capture("--compare", str(same.path), *python(source), format="text")
        assert done.status == 0, done.path.read_text()
        assert done.lines()[-1].endswith(" there, 0 differences")
        done = capture(
            "--compare", str(same.path), *python(source.replace("shutdown(1)", "shutdown(0)")), format="text"
        )
        assert done.status == 1
        here, there = (line.split(": ", 2)[-1].split(",")[1] for line in done.lines()[:2])
        assert (here, there) == (" SHUT_RD) = 0", " SHUT_WR) = 0")
    assert "cannot read nothing" in one_line(capture("--compare", "nothing", *python(source)))
    Path("wrong").write_text("no trace\n")
    assert "line 1 is no call" in one_line(capture("--compare", "wrong", *python(source)))


#: Programs whose socket calls are the same in each run.
PROGRAMS = {
    "getent": ["getent", "hosts", "localhost"],
    "pairs": [sys.executable, "-c", """
import array, os, socket, struct
a, b = socket.socketpair()
socket.send_fds(a, [b"x"], [0])
socket.recv_fds(b, 10, 4)
credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
a.sendmsg([b"one", b"two"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
b.recvmsg(100, 100)
a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
a.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
code = [(0x28, 0, 0, 12), (0x15, 0, 1, 0x800), (0x30, 0, 0, 0xFFFFF004), (0xB1, 0, 0, 14), (0x44, 0, 0, 1)]
code += [(0x1C, 0, 0, 0), (7, 0, 0, 0), (6, 0, 0, 0xFFFF)]
program = array.array("B", b"".join(struct.pack("HBBI", *each) for each in code))
a.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(code), program.buffer_info()[0]))
b.shutdown(socket.SHUT_RDWR)
"""],
    "inet": [sys.executable, "-c", """
import socket
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    a = socket.socket(family, socket.SOCK_DGRAM)
    a.bind((host, 4242))
    a.sendto(b"to itself\\n\\0\\x7f1", (host, 4242))
    a.recvfrom(100)
    a.connect((host, 4242))
    a.send(b"x" * 100)
    a.recv(1000)
    s = socket.create_server((host, 4243), family=family)
    c = socket.create_connection((host, 4243))
    s.accept()[0].close()
    c.recv(1)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
"""],
    "threads": [sys.executable, "-c", """
import os, socket, threading
def work():
    a, b = socket.socketpair()
    a.send(b"x"); b.recv(1)
for _ in range(5):
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
    if os.fork() == 0:
        work(); os._exit(0)
    os.wait()
"""],
    "ip-addr": ["ip", "-s", "addr"],
    "ip-xfrm": ["sh", "-c", "for what in state policy 'state count' 'policy count' 'policy getdefault'; do"
                " ip xfrm $what; done"],
    # (strace does not know a socket before it has an address.)
    "netfilter": [sys.executable, "-c", """
import ctypes, socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
ctypes.CDLL(None).bind(s.fileno(), struct.pack("<HHII", 16, 0, 0, 0), 12)
for number, flags in ((0xA10, 1), (0xA01, 0x301), (0x101, 0x301), (0x105, 1), (0xA00, 0x405)):
    s.send(struct.pack("<IHHII", 20, number, flags, 1, 0) + bytes(4))
    s.recv(65536)
"""],
    "ss": ["ss", "-tlnx"],
    "nss": ["getent", "ahosts", "localhost"],
    "bash": ["bash", "-c", "echo >/dev/tcp/127.0.0.1/1"],
    "perl": ["perl", "-MSocket", "-e", "socket(S, AF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(1, INADDR_LOOPBACK));"
             "getsockopt(S, SOL_SOCKET, SO_ERROR); socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); syswrite A, 'x'"],
    "git": ["git", "ls-remote", "git://127.0.0.1/nothing"],
    "words": ["bash", "-c", "BUSYBOX telnet 127.0.0.1 1; getent hosts localhost; exec BUSYBOX hostname -f"],
    **{f"busybox-{words.split()[0]}": ["BUSYBOX", *words.split()] for words in (
        "nc -w 1 127.0.0.1 1", "nslookup localhost 127.0.0.1", "ifconfig", "logger hello",
        "wget -q http://127.0.0.1:1/", "arp -a", "ftpget 127.0.0.1 a b", "ip addr", "rdate 127.0.0.1",
    )},
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_strace_sees_the_same(name, busybox):
    """strace and the capture of another run agree in every call: names, arguments, results, by thread."""
    installed("strace")
    if package := {"git": "git", "ip": "iproute2", "ss": "iproute2"}.get(name.split("-")[0]):
        installed(package)
    command = [word.replace("BUSYBOX", str(busybox)) for word in PROGRAMS[name]]
    subprocess.run(
        ["strace", "-f", "-v", "-e", "trace=network", "-o", "theirs", *command], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=DEADLINE, check=False,
    )  # fmt: skip
    done = capture("--compare", "theirs", "--", *command, format="text")
    assert done.status == 0, done.path.read_text()
    assert int(done.lines()[-1].split()[0]) > 0

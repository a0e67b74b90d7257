"""Tests what `socketcall capture` shows of programs whose calls are known."""

import errno
import os
import re
import resource
import signal
import struct
import time
from pathlib import Path

import pytest

from probes.entry.gate import WORD
from probes.trace import ptrace, seccomp
from tests.instruments.capture_programs import (
    ABI,
    BASE,
    DATA,
    PAGE,
    Captured,
    asleep,
    capture,
    i386,
    int80,
    pid_of,
    program,
    python,
    u32,
    wait_for,
    words,
    x86_64,
)

pytestmark = pytest.mark.sandbox(trace="none")
needs_64_bits = pytest.mark.skipif(WORD == 32, reason="a 32-bit tracer sees no 64-bit registers")


def test_a_server_and_its_client(busybox, tmp_path):
    """An unmodified i386 server and client: every call with its route, gate, eax, ebx and words."""
    Path("page").write_text("hello")
    server = Captured("--", busybox, "httpd", "-f", "-p", "127.0.0.1:8080", "-h", ".")
    listen = server.until("listen")
    client = capture("--", busybox, "wget", "-q", "-O", "-", "http://127.0.0.1:8080/page")
    assert (client.status, client.out) == (0, "hello"), client.err
    os.kill(listen["pid"], signal.SIGTERM)
    assert server.wait().status == 128 + signal.SIGTERM
    # net/compat.c and socketcall(2): what each operation has in ebx.
    numbers = {"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5}
    mine = server.calls(pid=listen["pid"])
    for call in mine + client.calls():
        assert (call["abi"], call["word"], call["route"], call["gate"], call["nr"]) == (
            ABI, 32, "socketcall", "vdso", 102
        )  # fmt: skip
        assert int(call["regs_in"]["eax"], 16) == 102
        assert int(call["regs_in"]["ebx"], 16) == numbers.get(call["op"], int(call["regs_in"]["ebx"], 16))
        assert call["regs_in"]["ecx"] == call["args_ptr"]
        assert call["args_after"] in (None, call["args"]) and call["args_error"] is None
        assert call["observed"] is True and call["call"] is None
    # The last accept was interrupted by the signal that ended the server.
    named = [(call["op"], call["errno"]) for call in mine if call["op"] in numbers]
    assert named == [
        ("socket", None), ("bind", None), ("listen", None), ("accept", None), ("accept", "ERESTARTSYS")
    ]  # fmt: skip
    by_op = {call["op"]: call for call in mine}
    descriptor = by_op["socket"]["ret"]
    assert by_op["socket"]["args"] == [2, 1, 0]
    assert by_op["bind"]["args"][::2] == [descriptor, 16]
    assert by_op["bind"]["decoded"]["addr"] == {"family": "AF_INET", "host": "127.0.0.1", "port": 8080}
    assert by_op["listen"]["args"][0] == by_op["accept"]["args"][0] == descriptor
    connect = client.calls("connect")[0]
    assert connect["decoded"]["addr"] == {"family": "AF_INET", "host": "127.0.0.1", "port": 8080}
    assert server.calls("accept")[0]["decoded"]["addr"]["host"] == "127.0.0.1"


def test_every_word(tmp_path):
    """A program of known instructions: registers, words, and what cannot be read, exactly."""
    end = BASE + PAGE - 4
    code = int80(102, 1, DATA) + int80(361, 3, DATA + 32, 16) + int80(102, 6, DATA + 16)
    code += int80(102, 2, 0x10) + int80(102, 4, end) + int80(102, 0, DATA) + int80(102, 21, DATA) + int80(1, 7)
    address = struct.pack("<H2s4s8x", 2, b"\0\0", bytes((127, 0, 0, 1)))
    # The length that getsockname writes is its own third word.
    data = u32(2, 2, 17, 0) + u32(3, DATA + 64, DATA + 24, 0) + address
    content = i386(code, data)[:-4] + u32(3)
    done = capture(*program(content))
    assert done.status == 7
    common = {"abi": ABI, "word": 32, "gate": "int80"}
    many = {**common, "route": "socketcall", "nr": 102}
    calls = done.calls()
    assert [words(call) for call in calls] == [
        {**many, "op": "socket", "args": [2, 2, 17], "ret": 3},
        {**common, "route": "direct", "nr": 361, "op": "bind", "args": [3, DATA + 32, 16], "ret": 0},
        {**many, "op": "getsockname", "args": [3, DATA + 64, DATA + 24], "ret": 0},
        {**many, "op": "bind", "args": [], "ret": -errno.EFAULT},
        {**many, "op": "listen", "args": [3], "ret": -errno.EFAULT},
        {**many, "op": "", "args": [], "ret": -errno.EINVAL},
        {**many, "op": "", "args": [], "ret": -errno.EINVAL},
    ]
    assert [call["args_ptr"] for call in calls] == [
        hex(DATA), None, hex(DATA + 16), "0x10", hex(end), hex(DATA), hex(DATA)
    ]  # fmt: skip
    assert calls[2]["args_after"] == [3, DATA + 64, 16]
    assert calls[3]["args_error"] == "unreadable after 0 of 3 words"
    assert calls[4]["args_error"] == "unreadable after 1 of 2 words"
    assert calls[5]["args_error"] == "0 is no operation: it has no words"
    assert [int(call["regs_in"]["ebx"], 16) for call in calls] == [1, 3, 6, 2, 4, 0, 21]
    assert [line["seq"] for line in done.lines()] == list(range(1, 9))
    assert done.lines()[-1] | {"seq": 0, "t_ns": 0, "pid": 0, "tid": 0} == {
        "type": "exit", "seq": 0, "t_ns": 0, "pid": 0, "tid": 0, "status": 7, "signal": None
    }  # fmt: skip
    assert all(call["pid"] == call["tid"] == done.lines()[-1]["pid"] and call["dur_ns"] > 0 for call in calls)

    lines = [" ".join(line.split()) for line in capture("--raw", *program(content), format="text").lines()]
    bound = '{sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("127.0.0.1")}'
    port = re.search(r"htons\((\d+)\)", lines[2])[1]
    given = f"socketcall int80 {ABI}/32 eax=102"
    fault, invalid = "-1 EFAULT (Bad address)", "-1 EINVAL (Invalid argument)"
    assert [line.partition(" ")[2] for line in lines] == [
        f"socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP) = 3 {given} ebx=1 ecx={DATA:#x} [0x2 0x2 0x11]",
        f"bind(3, {bound}, 16) = 0 direct int80 {ABI}/32 eax=361 [0x3 {DATA + 32:#x} 0x10]",
        f"getsockname(3, {bound.replace('0)', port + ')', 1)}, [{DATA + 24} => 16]) = 0 {given} ebx=6 ecx={DATA + 16:#x} "
        f"[0x3 {DATA + 64:#x} {DATA + 24:#x}] => [0x3 {DATA + 64:#x} 0x10]",
        f"bind() = {fault} {given} ebx=2 ecx=0x10 [] (unreadable after 0 of 3 words)",
        f"listen() = {fault} {given} ebx=4 ecx={end:#x} [0x3] (unreadable after 1 of 2 words)",
        f"socketcall_0() = {invalid} {given} ebx=0 ecx={DATA:#x} [] (0 is no operation: it has no words)",
        f"socketcall_21() = {invalid} {given} ebx=21 ecx={DATA:#x} [] (21 is no operation: it has no words)",
        "+++ exited with 7 +++",
    ]
    assert {line.partition(" ")[0] for line in lines} == {lines[0].partition(" ")[0]}


@needs_64_bits
def test_both_entries_of_a_64_bit_process_at_one_place(tmp_path):
    """The ABI is read from the kernel at every call: code may rewrite its own entering instruction."""
    first = b"\x45\x31\xff" + int80(102, 1, DATA)
    again = b"\x41\xff\xc7" + b"\x66\xc7\x04\x25" + struct.pack("<IH", BASE + 120 + len(first) - 2, 0x050F)
    again += b"\xb8" + u32(41) + b"\xbf" + u32(1) + b"\xbe" + u32(2) + b"\x31\xd2"
    again += b"\xeb" + struct.pack("<b", -(len(again) + 2 + 5 + 2))
    skip = b"\x45\x85\xff" + b"\x75" + bytes((len(again),))
    last = b"\xb8" + u32(60) + b"\xbf" + u32(5) + b"\x0f\x05"
    done = capture(*program(x86_64(first + skip + again + last, u32(2, 1, 0))))
    assert done.status == 5
    assert [words(call) for call in done.calls()] == [
        {"abi": "ia32-compat", "word": 64, "gate": "int80", "route": "socketcall", "nr": 102, "op": "socket",
         "args": [2, 1, 0], "ret": 3},
        {"abi": "x86_64", "word": 64, "gate": "syscall", "route": "direct", "nr": 41, "op": "socket",
         "args": [1, 2, 0], "ret": 4},
    ]  # fmt: skip


SERVE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.bind(("127.0.0.1", 4242))
s.listen(5)
s.shutdown(socket.SHUT_RDWR)
"""


@needs_64_bits
def test_a_64_bit_program():
    """The syscall gate, by the x86-64 numbers."""
    done = capture(*python(SERVE))
    assert done.status == 0, done.err
    # (Python calls getsockname and others by itself.)
    calls = [call for call in done.calls() if call["op"] in ("socket", "bind", "listen", "shutdown")]
    found = [(call["op"], call["nr"], int(call["regs_in"]["rax"], 16), call["ret"]) for call in calls]
    assert found == [("socket", 41, 41, 3), ("bind", 49, 49, 0), ("listen", 50, 50, 0), ("shutdown", 48, 48, 0)]
    for call in calls:
        assert (call["abi"], call["word"], call["gate"], call["route"]) == ("x86_64", 64, "syscall", "direct")
        assert call["args_ptr"] is None
    socket_, bind, listen, _ = calls
    assert socket_["args"] == [2, 1 | 0o2000000, 0]
    assert bind["args"][::2] == [3, 16] and bind["args"][1] > 1 << 32
    assert bind["decoded"]["addr"] == {"family": "AF_INET", "host": "127.0.0.1", "port": 4242}
    assert listen["args"] == [3, 5]


def test_threads_and_children_are_followed(busybox):
    """Threads, children, and the program that a child executes (here of the other word size) are captured."""
    done = capture(*python("""
import os, socket, subprocess, sys, threading
def work():
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).close()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
child = os.fork()
if child == 0:
    work()
    os._exit(0)
os.waitpid(child, 0)
sys.exit(subprocess.call([sys.argv[1], "nc", "-w", "1", "127.0.0.1", "1"], stderr=subprocess.DEVNULL))
""", busybox))  # fmt: skip
    assert done.status == 1, done.err
    exits = {line["tid"]: line for line in done.lines() if line["type"] == "exit"}
    main = done.lines()[-1]["pid"]
    unix = [call for call in done.calls("socket") if call["decoded"]["family"] == "AF_UNIX"]
    threads = [call for call in unix if call["pid"] == main]
    assert len({call["tid"] for call in threads}) == 4 and main not in {call["tid"] for call in threads}
    assert len([call for call in unix if call["pid"] != main]) == 1
    connect = done.calls("connect")[-1]
    assert (connect["abi"], connect["route"], connect["errno"]) == (ABI, "socketcall", "ECONNREFUSED")
    assert len({main, connect["pid"], *(call["pid"] for call in unix)}) == 3
    assert {call["tid"] for call in done.calls()} <= set(exits)
    assert exits[connect["pid"]]["status"] == 1


def test_more_threads_than_descriptors():
    """Memory of many threads is read although the capture may open few files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = capture(*python("""
import resource, socket, threading
count = 300
barrier = threading.Barrier(count)
def work():
    barrier.wait()
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind("\\0" + str(threading.get_native_id()))
    barrier.wait()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
threads = [threading.Thread(target=work) for _ in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (290, hard)))  # fmt: skip
    assert done.status == 0, done.err
    binds = {call["tid"]: call["decoded"]["addr"] for call in done.calls("bind")}
    assert len(binds) == 300
    assert all(address == {"family": "AF_UNIX", "abstract": str(tid)} for tid, address in binds.items())


def test_a_thread_that_executes_takes_the_place_of_its_process(busybox):
    """The call of its first thread is unfinished; the process keeps its id, and its status is that of the capture."""
    done = capture(*python("""
import os, socket, sys, threading
from pathlib import Path
s = socket.socket(socket.AF_UNIX)
s.bind("here")
s.listen()
main = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/status")
def work():
    while "State:\\tS" not in main.read_text(): pass
    os.execv(sys.argv[1], [sys.argv[1], "wget", "-q", "http://127.0.0.1:1/"])
threading.Thread(target=work).start()
s.accept()
""", busybox))  # fmt: skip
    assert done.status == 1, done.err
    accept, connect = done.calls()[-3], done.calls("connect")[-1]
    assert accept["op"].startswith("accept") and accept["ret"] is None
    assert accept["pid"] == accept["tid"] == connect["pid"] == connect["tid"]


def test_signals_and_interrupted_calls():
    """A call that a signal interrupts returns an errno that only tracers see, and is restarted."""
    done = Captured(*python("""
import os, signal, socket
from pathlib import Path
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL) if rounds.pop() else None)
rounds = [True, False]
a, b = socket.socketpair()
Path("pid").write_text(f"{os.getpid()}\\n")
b.recv(1)
"""))  # fmt: skip
    pid = pid_of()
    wait_for(lambda: asleep(pid), "recv")
    os.kill(pid, signal.SIGALRM)
    wait_for(lambda: any(call["op"] in ("recv", "recvfrom") for call in done.calls()), "the interrupted call")
    wait_for(lambda: asleep(pid), "recv again")
    os.kill(pid, signal.SIGALRM)
    done.wait()
    assert done.status == 128 + signal.SIGKILL
    received = [call for call in done.calls() if call["op"] in ("recv", "recvfrom")]
    assert {call["errno"] for call in received[:-1]} == {"ERESTARTSYS"}
    alarms = [line for line in done.lines() if line["type"] == "signal"]
    assert {line["signal"] for line in alarms} == {signal.SIGALRM} and len(alarms) == 2
    assert done.lines()[-1]["signal"] == signal.SIGKILL and done.lines()[-1]["status"] is None


def test_calls_that_a_filter_refuses_are_captured():
    """SECCOMP_RET_ERRNO takes precedence over SECCOMP_RET_TRACE: such programs are traced with PTRACE_SYSCALL."""
    number, architecture = (41, "ARCH_X86_64") if WORD == 64 else (102, "ARCH_I386")
    refusing = f"""
import socket
from probes.trace import ptrace, seccomp
socket.socket().close()
ptrace.set_filter(seccomp.answering({number}, 13, ptrace.{architecture}))
try: socket.socket()
except PermissionError: pass
"""
    done = capture(*python(refusing))
    assert done.status == 0, done.err
    made = [(call["op"], call["errno"]) for call in done.calls() if call["op"] == "socket"]
    assert made == [("socket", None), ("socket", "EACCES")]
    # The same with a filter from before the capture.
    program = seccomp.answering(number, errno.EACCES, getattr(ptrace, architecture))
    done = capture(*python("import socket\nsocket.socket()"), preexec_fn=lambda: ptrace.set_filter(program))
    assert done.status == 1
    assert [(call["op"], call["errno"]) for call in done.calls()] == [("socket", "EACCES")]


def test_counts():
    """-c writes calls, errors by name and unfinished calls, and nothing else."""
    code = int80(102, 1, DATA) * 3 + int80(102, 2, 0x10) + int80(359, 2, 2, 0) + int80(102, 12, DATA + 16) + int80(1, 0)
    made = program(i386(code, u32(2, 2, 0, 0) + u32(3, 0, 0, 0x40, 0, 0)))
    done = capture("-c", *made)
    assert done.status == 0
    found = [
        {name: line[name] for name in ("op", "route", "nr", "ebx", "calls", "unfinished", "errors")}
        for line in sorted(done.lines(), key=lambda line: (line["route"], line["ebx"] or 0))
    ]
    many = {"route": "socketcall", "nr": 102, "unfinished": 0}
    assert found == [
        {"op": "socket", "route": "direct", "nr": 359, "ebx": None, "calls": 1, "unfinished": 0, "errors": {}},
        {"op": "socket", "ebx": 1, "calls": 3, "errors": {}, **many},
        {"op": "bind", "ebx": 2, "calls": 1, "errors": {"EFAULT": 1}, **many},
        {"op": "recvfrom", "ebx": 12, "calls": 1, "errors": {"EAGAIN": 1}, **many},
    ]
    table = capture("-c", *made, format="text").lines()
    heads = ["calls", "unfinished", "errors", "seconds", "mean", "longest", "operation", "route", "gate", "abi"]
    assert table[0].split() == [*heads, "which", "errors"]
    times = r"0\.\d{6} +[\d.]+[um]s +[\d.]+[um]s"
    rows = [re.fullmatch(rf" *(\d+ +0 +\d) +{times} +(.*)", line) for line in table[1:-1]]
    assert sorted(" ".join(f"{row[1]} {row[2]}".split()) for row in rows) == [
        f"1 0 0 socket direct 359 int80 {ABI}",
        f"1 0 1 bind socketcall 102, 2 int80 {ABI} EFAULT 1",
        f"1 0 1 recvfrom socketcall 102, 12 int80 {ABI} EAGAIN 1",
        f"3 0 0 socket socketcall 102, 1 int80 {ABI}",
    ]
    assert re.fullmatch(r" *6 +0 +2 +0\.\d{6} +total", table[-1])


def test_times_sizes_and_colours():
    """-t, -tt, -ttt, -r and -T add times, -s says how much data is shown, and --color always colours a file too."""
    source = "import socket\na, b = socket.socketpair()\na.send(b'abcdef')"

    def sent(*options):
        return next(line for line in capture(*options, *python(source), format="text").lines() if "abc" in line)

    began = time.time()
    for option, form in (
        ("-t", r"\d\d:\d\d:\d\d"),
        ("-tt", r"\d\d:\d\d:\d\d\.\d{6}"),
        ("-ttt", r"(\d{10}\.\d{6})"),
        ("-r", r" *\d+\.\d{6}"),
    ):
        shown = re.fullmatch(rf'\d+ +{form} send(?:to)?\(3, "abcdef", 6, 0.*\) += 6 +\w+ \w+', sent(option))
        assert shown, sent(option)
        if option == "-ttt":
            assert began - 1 < float(shown[1]) < time.time() + 1
    assert re.fullmatch(r"\d+ +send.*\) += 6 <\d+\.\d{6}> +\w+ \w+", sent("-T"))
    assert '"abc"..., 6' in sent("-s", "3")
    assert sent("--color", "always").count("\x1b[1msend") == 1
    long = capture("-s", "100", *python(source.replace("b'abcdef'", "b'abc' * 30")), format="text").lines()
    assert [line for line in long if "abc" * 30 + '", 90' in line]
    call = capture("-e", "%send", "-s", "3", *python(source)).calls()[0]
    assert call["decoded"]["buf"] == {"hex": "616263", "text": "abc", "more": 3}

"""Tests calls on descriptors in `socketcall capture`: which are sockets, what they are, their data; and other outputs."""

import os
import re
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest

from probes.entry.gate import WORD
from tests.instruments.capture_programs import Captured, capture, one_line, pid_of, python, wait_for

pytestmark = pytest.mark.sandbox(trace="none")

#: A connection whose data goes by read and write, beside a file that is no socket.
CONNECTION = """
import os, select, socket
listening = socket.create_server(("127.0.0.1", 4242))
a = socket.create_connection(("127.0.0.1", 4242))
b, _ = listening.accept()
file = os.open("file", os.O_CREAT | os.O_RDWR)
os.write(file, b"not shown")
os.write(a.fileno(), b"0123456789" * 10)
poll = select.poll()
poll.register(b, select.POLLIN)
poll.poll(1000)
epoll = select.epoll()
epoll.register(b, select.EPOLLIN)
epoll.poll(1)
os.read(b.fileno(), 1000)
os.writev(b.fileno(), [b"x", b"yz"])
os.readv(a.fileno(), [bytearray(2), bytearray(5)])
os.sendfile(b.fileno(), file, 0, 3)
select.select([a], [], [], 1)
os.close(os.dup(a.fileno()))
os.close(a.fileno())
"""


def brief(*options, source=CONNECTION):
    """Return the lines of a capture without route and gate, time and thread."""
    done = capture("--brief", *options, *python(source), format="text")
    assert done.status == 0, done.err
    return [" ".join(line.partition(" ")[2].split()) for line in done.lines()]


def test_calls_on_sockets_are_shown_with_their_data():
    """%desc has read, write and their like where the descriptor is a socket, and no others."""
    lines = brief("-e", "%desc,sendfile", "-e", "signal=none", "-s", "12")
    listening, a, b, epoll = 3, 4, 5, 7
    wanted = [
        f'write({a}, "012345678901"..., 100) = 100',
        f"poll([{{fd={b}, events=POLLIN}}], 1, 1000) = 1 ([{{fd={b}, revents=POLLIN}}])",
        f"epoll_ctl({epoll}, EPOLL_CTL_ADD, {b}, {{events=EPOLLIN, data={{u32={b}, u64=",
        f"epoll_wait({epoll}, [{{events=EPOLLIN, data=",
        f'read({b}, "012345678901"..., 1000) = 100',
        f'writev({b}, [{{iov_base="x", iov_len=1}}, {{iov_base="yz", iov_len=2}}], 2) = 3',
        f'readv({a}, [{{iov_base="xy", iov_len=2}}, {{iov_base="z", iov_len=5}}], 2) = 3',
        f"{'sendfile' if WORD == 64 else 'sendfile64'}({b}, 6, [0] => [3], 3) = 3",
    ]
    found = [line for line in lines if line.startswith(tuple(wanted))]
    assert len(found) == len(wanted) and all(map(str.startswith, found, wanted)), found
    assert not [line for line in lines if "not shown" in line or line.startswith(("open", "bind", f"read({listening}"))]
    assert f"close({a}) = 0" in lines


def test_a_call_that_has_the_name_of_a_class():
    """A bare name is the call, with a percent sign it is the class."""
    made = [{call["op"] for call in capture("-e", name, *python(CONNECTION)).calls()} for name in ("poll", "%poll")]
    assert made[0] == {"poll"} < made[1]


def test_what_descriptors_are():
    """-yy names the protocol and both addresses, also those of descriptors that a call makes; -y the inode."""
    lines = brief("-yy", "-e", "accept4,close,%send")
    accepted = re.search(r"^accept4\(3<TCP:\[127\.0\.0\.1:4242\]>, .* = 5<TCP:\[127\.0\.0\.1:4242->(127\.0\.0\.1:\d+)\]>$",
                         "\n".join(lines), re.MULTILINE)  # fmt: skip
    assert f"close(4<TCP:[{accepted[1]}->127.0.0.1:4242]>) = 0" in lines
    plain = brief("-y", "-e", "socket")
    assert re.fullmatch(r"socket\(AF_INET, SOCK_STREAM\|SOCK_CLOEXEC, IPPROTO_IP\) = 3<socket:\[\d+\]>", plain[0])
    source = """
import os, socket
for family, type, name in ((10, 2, ("::1", 4242)), (1, 2, "here"), (1, 1, "\\0abstract"), (16, 3, (0, 0))):
    one = socket.socket(family, type)
    one.bind(name)
    one.close()
pair = socket.socketpair()
"""
    done = capture("-yy", "-e", "close,socketpair", *python(source))
    closed = [call["sockets"].get(str(call["args"][0])) for call in done.calls("close")]
    forms = [
        r"UDPv6:\[\[::1\]:4242\]", r'UNIX-DGRAM:\[\d+,"here"\]', r'UNIX-STREAM:\[\d+,@"abstract"\]',
        r"NETLINK:\[ROUTE:\d+\]",
    ]  # fmt: skip
    assert all(re.fullmatch(form, text) for form, text in zip(forms, closed[:4], strict=True)), closed
    assert len(done.calls("socketpair")[0]["sockets"]) == 2


def test_the_peer_is_kept_when_it_is_gone():
    source = """
import socket
listening = socket.create_server(("127.0.0.1", 4242))
a = socket.create_connection(("127.0.0.1", 4242))
b, _ = listening.accept()
a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
b.send(b"x")
a.close()
try: b.recv(1)
except ConnectionResetError: pass
try: b.getpeername()
except OSError: pass
"""
    last = brief("-yy", "-e", "accept4,getpeername", source=source)[-2]
    assert re.match(r"getpeername\(5<TCP:\[127\.0\.0\.1:4242->127\.0\.0\.1:\d+\]>, .* = -1 ENOTCONN", last), last


def test_a_datagram_socket_has_the_peer_that_it_has_now():
    source = """
import ctypes, socket
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.connect(("127.0.0.1", 4242))
a.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
ctypes.CDLL(None).connect(a.fileno(), bytes(16), 16)
a.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 0)
"""
    first, second = (line.partition(", ")[0] for line in brief("-yy", "-e", "setsockopt", source=source)[:2])
    assert first.endswith("->127.0.0.1:4242]>") and "->" not in second.removeprefix("setsockopt(3<UDP:["), (
        first,
        second,
    )


@pytest.mark.parametrize(("namespaces", "written"), [([], 'if_nametoindex("lo")'), (["unshare", "-rn"], "1")])
def test_interfaces_have_names_in_the_namespace_of_the_capture(namespaces, written):
    """An index of another network namespace is none of an interface that the capture knows."""
    source = "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)\ns.bind(('lo', 0))"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()
    except PermissionError:
        pytest.skip("CAP_NET_RAW is missing")
    done = capture("-e", "bind", "--brief", "--", *namespaces, sys.executable, "-c", source, format="text")
    assert f"sll_ifindex={written}, sll_hatype=ARPHRD_NETROM" in done.path.read_text(), done.err


def test_a_file_for_each_thread():
    """-ff: FILE.TID has the lines of one thread, whole, without its number."""
    source = """
import socket, threading
thread = threading.Thread(target=lambda: socket.socket(socket.AF_UNIX))
thread.start()
thread.join()
socket.socket(socket.AF_INET)
"""
    for form in ("text", "jsonl"):
        directory = Path(form)
        directory.mkdir()
        done = capture("-ff", "-o", str(directory / "out"), *python(source), format=form)
        assert done.status == 0, done.err
        files = sorted(directory.iterdir(), key=lambda path: int(path.suffix[1:]))
        first, second = (path.read_text() for path in files)
        assert "AF_INET" in first and "AF_UNIX" not in first
        assert "AF_UNIX" in second and "AF_INET" not in second
        assert "[pid" not in first + second
    assert first.splitlines()[-1].startswith('{"type":"exit"')
    done = capture("-ff", "-o", "|cat", *python("open('ran', 'w')"))
    assert done.status == 2
    assert "name its beginning with -o FILE" in one_line(done)
    assert not Path("ran").exists()
    done = capture("-ff", "-o", "/no/directory/file", *python("import socket\nsocket.socket()"))
    assert done.status == 125
    assert "cannot write /no/directory/file." in one_line(done)


def test_output_to_a_command():
    """-o '|COMMAND' writes to its standard input, and waits for its end."""
    done = capture("-o", "|sort -r > sorted", *python("import socket\nsocket.socket()"), format="text")
    assert done.status == 0, done.err
    lines = Path("sorted").read_text().splitlines()
    assert len(lines) > 1 and lines == sorted(lines, reverse=True)
    done = capture("-o", "|exit 0", *python("import socket\nfor _ in range(10000): socket.socket()"), format="text")
    assert done.status == 125 and "cannot write |exit 0: Broken pipe" in one_line(done)


def test_a_command_that_has_ended_is_no_thread_of_the_program():
    """Its process ends while another that it started reads the lines, among which its end is not."""
    source = """
import os, psutil
capture = psutil.Process(os.getppid())
while len(capture.children()) > 1: os.sched_yield()
"""
    done = capture("-o", "|exec 3<&0; { cat <&3 > lines; echo > read; } &", *python(source), format="text")
    assert done.status == 0, done.err
    wait_for(Path("read").exists, "the end of the lines")
    assert [line.partition(" ")[2].strip() for line in Path("lines").read_text().splitlines()] == [
        "+++ exited with 0 +++"
    ]


def test_a_signal_ends_the_wait_for_a_command():
    done = Captured("-o", "|cat > lines; echo $$ > reader; exec sleep 1000 > /dev/null 2>&1", *python("pass"))
    reader = pid_of("reader")
    done.process.send_signal(signal.SIGTERM)
    assert done.wait().status == 128 + signal.SIGTERM
    os.kill(reader, signal.SIGKILL)


def test_more_processes_than_descriptors():
    """Descriptors of many processes are described although the capture may open few files."""
    source = """
import os, socket
a, b = socket.socketpair()
children = []
for _ in range(150):
    if (child := os.fork()) == 0:
        os.write(a.fileno(), b"x")
        os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)
"""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = capture(
        "-yy",
        "-e",
        "write",
        *python(source),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard)),
    )
    assert done.status == 0, done.err
    assert len(done.calls("write")) == 150
    assert all(re.fullmatch(r"UNIX-STREAM:\[\d+\]", call["sockets"]["3"]) for call in done.calls("write"))

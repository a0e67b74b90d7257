"""Tests which calls `socketcall capture` shows: its expressions and options, and what it says about wrong ones."""

import signal
from pathlib import Path

import pytest

from probes.abi.events import Exit
from probes.cli.capture_expressions import selected
from probes.cli.capture_output import Capture, Form
from probes.cli.capture_sink import Sink
from tests.instruments.capture_programs import DATA, capture, i386, int80, one_line, program, python, u32

pytestmark = pytest.mark.sandbox(trace="none")

#: socket twice, bind that fails, listen on a direct route, and an operation that there is not.
CALLS = int80(102, 1, DATA) + int80(359, 2, 1, 0) + int80(102, 2, 0x10) + int80(363, 4, 3) + int80(102, 30, DATA)
CODE = CALLS + int80(1, 0)


def shown(*options):
    """Return operation, route and errno of the calls that are shown."""
    done = capture(*options, *program(i386(CODE, u32(2, 1, 0))))
    assert done.status == 0, done.err
    return [(call["op"], call["route"], call["errno"]) for call in done.calls()]


SOCKETS = [("socket", "socketcall", None), ("socket", "direct", None)]
BIND, LISTEN = ("bind", "socketcall", "EFAULT"), ("listen", "direct", None)
UNKNOWN = ("", "socketcall", "EINVAL")


@pytest.mark.parametrize(("options", "calls"), [
    ((), [*SOCKETS, BIND, LISTEN, UNKNOWN]),
    (("-e", "trace=all"), [*SOCKETS, BIND, LISTEN, UNKNOWN]),
    (("-e", "socket,listen"), [*SOCKETS, LISTEN]),
    (("-e", "t=%setup"), [*SOCKETS, BIND, LISTEN]),
    (("-e", "trace=!socket"), [BIND, LISTEN, UNKNOWN]),
    (("-e", "!%setup"), [UNKNOWN]),
    (("-e", "none"), []),
    (("-e", "route=direct"), [SOCKETS[1], LISTEN]),
    (("-e", "gate=!int80"), []),
    (("-e", "gate=int80", "-e", "bind"), [BIND]),
    (("-z",), [*SOCKETS, LISTEN]),
    (("-Z",), [BIND, UNKNOWN]),
    (("-e", "status=failed"), [BIND, UNKNOWN]),
    (("--errno", "EFAULT,EPERM"), [BIND]),
    (("-e", "errno=!EFAULT"), [UNKNOWN]),
    (("-e", "errno=none"), []),
    (("-e", "status=none"), []),
    (("-e", "gate=none"), []),
    (("--errno", "!EFAULT"), [UNKNOWN]),
    (("--errno", "all"), [BIND, UNKNOWN]),
    (("--errno", "14"), [BIND]),
    (("--fd", "4"), [LISTEN]),
])  # fmt: skip
def test_calls_are_chosen(options, calls, tmp_path):
    assert shown(*options) == calls


def test_an_address_is_followed_on_its_descriptor():
    """--port and --addr choose calls with that address, and later ones on the descriptor, until it is another socket's."""
    source = """
import socket
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
a.bind(("127.0.0.1", 4242))
b.bind(("127.0.0.1", 4243))
a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
b.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
a.close()
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
"""
    done = capture("--port", "4242", *python(source))
    assert [(call["op"], call["args"][0]) for call in done.calls()] == [("bind", 3), ("setsockopt", 3)]
    done = capture("--addr", "127.0.0.1", "-e", "bind", *python(source))
    assert [call["args"][0] for call in done.calls()] == [3, 4]
    assert capture("--addr", "127.0.0.2", *python(source)).calls() == []
    source = "import socket\nfor name in ('one', 'two'): socket.socket(socket.AF_UNIX).bind(name)"
    done = capture("-P", "two", "-e", "bind", *python(source))
    assert [call["decoded"]["addr"]["path"] for call in done.calls()] == ["two"]


def test_signals_are_chosen():
    source = "import os\nfor number in (17, 28): os.kill(os.getpid(), number)"
    for options, numbers in (
        ((), [17, 28]),
        (("-e", "signal=none"), []),
        (("-e", "s=SIGWINCH"), [28]),
        (("-e", "signal=!WINCH"), [17]),
    ):
        done = capture(*options, *python(source))
        assert [line["signal"] for line in done.lines() if line["type"] == "signal"] == numbers
    text = capture(*python(source), format="text")
    signals = [line.partition(" ")[2].strip() for line in text.lines() if "---" in line]
    pid = text.lines()[0].split()[0]
    assert signals[0].startswith(f"--- SIGCHLD {{si_signo=SIGCHLD, si_code=SI_USER, si_pid={pid}, si_uid=")
    assert signal.Signals(28).name in signals[1]


@pytest.mark.parametrize(("option", "expression", "at", "why"), [
    ("-e", "bnd", 1, "did you mean 'bind'?"),
    ("-e", "trace=socket,conect", 14, "did you mean 'connect'?"),
    ("-e", "trace=", 7, "the name of a call or class of calls is missing"),
    ("-e", "socket,", 8, "the name of a call or class of calls is missing"),
    ("-e", "errno=", 7, "the name of an error is missing"),
    ("-e", "!%nothing", 2, "'%nothing' is no call or class of calls"),
    ("-e", "rout=direct", 1, "'rout' can be trace, route"),
    ("-e", "route=socketcal", 7, "did you mean 'socketcall'?"),
    ("-e", "gate=sysenter", 6, "is no gate"),
    ("-e", "signal=SIGFOO", 8, "is no signal"),
    ("-e", "signal=SIG_IGN", 8, "is no signal"),
    ("-e", "status=odd", 8, "is no status"),
    ("--errno", "EINVAL,EINVALID", 8, "did you mean 'EINVAL'?"),
])  # fmt: skip
def test_a_wrong_expression(option, expression, at, why):
    """One line says where it is wrong, and nothing was run."""
    done = capture(option, expression, *python("open('ran', 'w')"))
    assert done.status == 2
    line = one_line(done)
    assert not Path("ran").exists()
    assert f"{option} {expression}: at character {at}: " in line and why in line


def test_a_number_that_another_process_gets_is_new():
    """Which descriptors have a chosen address is forgotten when their process ends."""
    selection = selected([], ports=[80])
    selection._found[7] = {3}
    shown = Capture(Sink(None), Form(), selection, lambda: 1)
    shown.exit(Exit(1, 7, 8, 0))
    assert selection._found == {7: {3}}
    shown.exit(Exit(2, 7, 7, 0))
    assert selection._found == {}

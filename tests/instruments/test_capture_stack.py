"""Tests the stacks of `socketcall capture -k`, and the siginfo of its JSON lines."""

import os
import struct

import pytest

from tests.instruments.capture_programs import BASE, capture, i386, int80, program, python, x86_64

pytestmark = pytest.mark.sandbox(trace="none")

_PUSH_0, _PUSH_BP, _POP_BP, _RET = b"\x6a\0", b"\x55", b"\x5d", b"\xc3"


def nested(frame, enter, leave):
    """Return code of three functions, of which the last keeps no frame and makes a call, and the offsets of its returns."""
    head = _PUSH_0 + _PUSH_BP + frame
    outer = head + b"\xe8" + struct.pack("<i", len(leave)) + leave
    inner = _PUSH_BP + frame + b"\xe8" + struct.pack("<i", 2) + _POP_BP + _RET
    leaf = enter + _RET
    returns = [len(outer + inner + enter), len(outer) + len(inner) - 2, len(head) + 5]
    return outer + inner + leaf, returns


WORDS = {
    32: (i386, 84, nested(b"\x89\xe5", int80(359, 1, 2, 0), int80(1, 0))),
    64: (x86_64, 120, nested(
        b"\x48\x89\xe5", b"\xb8\x29\0\0\0\xbf\1\0\0\0\xbe\2\0\0\0\x31\xd2\x0f\x05", b"\xb8\x3c\0\0\0\x31\xff\x0f\x05",
    )),
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_frames(word):
    """The place of the call, the caller of a function without a frame, then the chain of frame pointers to its end."""
    make, start, (code, returns) = WORDS[word]
    arguments = program(make(code))
    found = capture("-k", *arguments).calls("socket")[0]
    path = os.path.realpath(arguments[-1])
    assert [(each["module"], int(each["offset"], 16)) for each in found["stack"]] == [
        (path, start + at) for at in returns
    ]
    assert int(found["stack"][0]["ip"], 16) == BASE + start + returns[0]
    assert found["stack_end"] == "the outermost frame"
    text = capture("-k", "--brief", *arguments, format="text").lines()
    assert text[0].endswith("= 3")
    assert text[1:4] == [f" > {path}+{start + at:#x} [{BASE + start + at:#x}]" for at in returns]
    assert text[4] == " > (the outermost frame)"


@pytest.mark.parametrize("name", ["latin-1 \udce9", "control\x1c [vdso]"])
def test_paths_that_are_no_text(name):
    """The path of a program may have any bytes."""
    code = int80(359, 1, 2, 0) + int80(1, 0)
    (found,) = capture("-k", *program(i386(code), name)).calls("socket")
    assert found["gate"] == "int80"
    assert found["stack"][0]["module"].endswith(name.replace("\udce9", "\ufffd"))


def test_code_without_frame_pointers():
    """What is in the register of the frame pointer is said, and ends the stack."""
    code = b"\xbd\x39\x30\0\0" + int80(359, 1, 2, 0) + int80(1, 0)
    found = capture("-k", *program(i386(code))).calls("socket")[0]
    assert len(found["stack"]) == 1
    assert found["stack_end"] == "0x3039 is no frame pointer: this code was compiled without"


def test_a_trace_with_stacks_is_compared():
    arguments = program(i386(int80(359, 1, 2, 0) + int80(1, 0)))
    theirs = capture("-k", *arguments, format="text").path
    assert capture("--compare", str(theirs), *arguments, format="text").status == 0


def test_why_a_signal_came():
    done = capture(*python("import os, signal\nsignal.signal(10, signal.SIG_IGN)\nos.kill(os.getpid(), 10)"))
    signal = next(line for line in done.lines() if line["type"] == "signal")
    assert signal["siginfo"] == {
        "si_signo": "SIGUSR1",
        "si_code": "SI_USER",
        "si_pid": signal["pid"],
        "si_uid": os.getuid(),
    }

"""Runs `socketcall capture`, and makes programs for it: machine code in ELF files, and Python."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from probes.installation import checkout
from probes.testing.reference import local
from tests.instruments.support import DEADLINE, wait_for

#: The ABI of int $0x80 on this kernel.
ABI = local().abi
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(checkout())}


class Captured:
    """Runs `socketcall capture` in a process group of its own."""

    def __init__(self, *arguments, format="jsonl", environment=(), **popen):
        self.path = Path(f"capture-{time.monotonic_ns()}").absolute()
        self.format = format
        command = [sys.executable, "-m", "probes.cli", "capture", "--format", format, "-o", self.path, *arguments]
        self.process = subprocess.Popen(
            command, env={**ENVIRONMENT, **dict(environment)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True, **popen,
        )  # fmt: skip

    def lines(self):
        """Return the complete lines so far, parsed if they are JSON."""
        text = self.path.read_text() if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in whole] if self.format == "jsonl" else whole

    def calls(self, op=None, pid=None):
        """Return the calls so far, of an operation or of a process if one is given."""
        return [
            line
            for line in self.lines()
            if line["type"] == "call" and op in (None, line["op"]) and pid in (None, line["pid"])
        ]

    def until(self, op, count=1):
        """Wait for calls of an operation, and return the last."""

        def found():
            calls = self.calls(op)
            if len(calls) < count and self.process.poll() is not None:
                raise AssertionError(f"no {op}, and it has ended: {self.wait().err}")
            return calls[count - 1 :]

        return wait_for(found, f"{op} in {self.lines()}")[0]

    def wait(self):
        """Wait for its end, set `status`, `out` and `err`, and return this object."""
        try:
            self.out, self.err = self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            # Left running, it would be reported as unclosed in the sandbox of every later test.
            self.process.kill()
            self.process.communicate()
            raise
        self.status = self.process.returncode
        return self

    def interrupt(self):
        """Send SIGINT to the process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)


def capture(*arguments, **how):
    """Run a capture to its end."""
    return Captured(*arguments, **how).wait()


def python(source, *arguments):
    """Return the arguments of `capture` that run Python code."""
    return ["--", sys.executable, "-c", source, *map(str, arguments)]


def words(call):
    """Return the fields of a call that say what it was, where it entered, and its result."""
    return {name: call[name] for name in ("abi", "word", "gate", "route", "nr", "op", "args", "ret")}


def status_of(tid, name):
    """Return a field of /proc/TID/status, None if there is no such task."""
    try:
        text = Path(f"/proc/{tid}/status").read_text()
    except OSError:
        return None
    return re.search(rf"^{name}:\s*(\S+)", text, re.MULTILINE)[1]


def gone(pid):
    """Return True if there is no such process, not even a zombie."""
    return status_of(pid, "State") is None


def asleep(pid):
    """Return True if a process sleeps in the kernel and is not stopped."""
    return status_of(pid, "State") == "S"


def one_line(done):
    """Return the line on stderr of a capture that did not begin, and left no file."""
    assert not done.path.exists()
    assert done.out == "" and done.err.count("\n") == 1 and done.err.startswith("socketcall")
    return done.err


def pid_of(name="pid"):
    """Return the process id that a program wrote to a file."""
    path = Path(name)
    return int(wait_for(lambda: path.exists() and path.read_text().strip(), name))


# Programs that block

#: The beginning of programs that block in accept, and one that writes its pid first.
WAIT = """
import os, signal, socket, sys, threading
from pathlib import Path
s = socket.socket(socket.AF_UNIX)
s.bind("here")
s.listen()
"""
WAITING = WAIT + "Path('pid').write_text(f'{os.getpid()}\\n')\ns.accept()\n"

# Programs of machine code

#: Their address: one writable page, with no page after it.
BASE, PAGE = 0x08048000, 0x1000
DATA = BASE + 0x800


def i386(code, data=b""):
    """Return an ELF file with these i386 instructions, and data at DATA."""
    head = b"\x7fELF" + bytes((1, 1, 1)) + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, BASE + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    body = (head + struct.pack("<8I", 1, 0, BASE, BASE, PAGE, PAGE, 7, PAGE) + code).ljust(0x800, b"\0") + data
    return body.ljust(PAGE, b"\0")


def x86_64(code, data=b""):
    """Return the same for x86-64."""
    head = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, PAGE, PAGE, PAGE)
    return ((head + segment + code).ljust(0x800, b"\0") + data).ljust(PAGE, b"\0")


def u32(*values):
    """Pack 32-bit words."""
    return struct.pack(f"<{len(values)}I", *values)


def int80(*registers):
    """Return code that loads eax, ebx, ecx, edx, esi and edi, as many as are given, and enters the kernel."""
    loads = zip((0xB8, 0xBB, 0xB9, 0xBA, 0xBE, 0xBF), registers, strict=False)
    return b"".join(struct.pack("<BI", opcode, value & 0xFFFFFFFF) for opcode, value in loads) + b"\xcd\x80"


def program(content, name="program"):
    """Write a program, and return the arguments of `capture` that run it."""
    path = Path(name).absolute()
    path.write_bytes(content)
    path.chmod(0o755)
    return ["--", str(path)]

"""Does pieces of work in processes forked for it, one for each CPU: each takes the next piece when it has done one."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import IO, Any, NoReturn, TypeVar

from probes.sandbox import sandbox
from probes.trace import ptrace

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")
_INDEX = struct.Struct("<I")
#: Bytes of the pipe that has the numbers of the pieces: what any user may ask for (pipe(7) pipe-max-size).
_ROOM = 1 << 20


class WorkerFailed(Exception):
    """Is raised if a process ended before it had done its work."""


def results(
    pieces: Sequence[_Piece], work: Callable[[_Piece], _Result], cpus: Sequence[int], begin: Callable[[int], object]
) -> list[_Result]:
    """Return what `work` returns of each piece, in their order; a result crosses by pickle.

    There is one process for each of `cpus`, pinned to it; it calls `begin` with its number, from 0, before it works. A
    process ends with the one that forked it. Raises WorkerFailed.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _ROOM)
    if len(pieces) * _INDEX.size > _ROOM:
        raise WorkerFailed(f"{len(pieces)} are more pieces of work than a pipe has room for")
    os.write(writing, b"".join(map(_INDEX.pack, range(len(pieces)))))
    os.close(writing)
    done: dict[int, _Result] = {}
    children: dict[int, IO[bytes]] = {}
    with ExitStack() as opened:
        opened.callback(os.close, reading)
        for number, cpu in enumerate(cpus):
            answers = opened.enter_context(tempfile.TemporaryFile())
            pid = os.fork()
            if not pid:
                _serve(reading, answers, pieces, work, partial(_begin, cpu, begin, number))
            children[pid] = answers
        failed = [status for status in (os.waitpid(pid, 0)[1] for pid in children) if status]
        if failed:
            raise WorkerFailed(f"a process ended with status {os.waitstatus_to_exitcode(failed[0])}")
        for written in children.values():
            written.seek(0)
            done.update(_read(written))
    return [done[index] for index in range(len(pieces))]


def _begin(cpu: int, begin: Callable[[int], object], number: int) -> None:
    sandbox.pin(cpu)
    begin(number)


def _read(answers: IO[bytes]) -> dict[int, Any]:
    found = {}
    while head := answers.read(_INDEX.size):
        found[_INDEX.unpack(head)[0]] = pickle.load(answers)
    return found


def _serve(
    reading: int,
    answers: IO[bytes],
    pieces: Sequence[_Piece],
    work: Callable[[_Piece], _Result],
    begin: Callable[[], object],
) -> NoReturn:
    """Do pieces until none is left. A read of a pipe takes a whole number: they were written at once."""
    try:
        ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)
        begin()
        while number := os.read(reading, _INDEX.size):
            result = work(pieces[_INDEX.unpack(number)[0]])
            answers.write(number + pickle.dumps(result))
        answers.flush()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)

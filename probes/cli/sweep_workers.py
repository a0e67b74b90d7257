"""The processes of a sweep: one for each worker, bound to a CPU, that takes chunks and sends back what it found."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from probes import interrupts
from probes.errors import CommandError
from probes.report.sweep import Outcome
from probes.sandbox.channel import Channel
from probes.sandbox.free_memory import available
from probes.sandbox.sandbox import CannotSandbox
from probes.testing.sweep_chunks import BLOCK, Board, SweepFailed, Task, sweep
from probes.trace import ptrace

#: Megabytes that a worker and its sandbox take.
MEGABYTES = 40
#: Seconds that a chunk takes: as often a worker says what it found, and as much is lost at an interruption.
_CHUNK_SECONDS = 2.0
#: Members of the first chunk of a worker, whose rate is not known yet.
_FIRST = 4 * BLOCK
#: How often a chunk is tried whose worker dies.
_TRIES = 3
#: Seconds after which a worker that was asked to end is killed.
_PATIENCE = 5.0
_TICK = 0.5


class Remaining:
    """Holds the members that are still to be swept, as ranges [start, stop)."""

    def __init__(self, size: int, done: Sequence[tuple[int, int]]) -> None:
        """Takes all members of a plan but those that are done."""
        self._ranges: list[tuple[int, int]] = []
        at = 0
        for start, stop in sorted(done):
            if at < start:
                self._ranges.append((at, start))
            at = max(at, stop)
        if at < size:
            self._ranges.append((at, size))

    @property
    def count(self) -> int:
        """Returns the number of members."""
        return sum(stop - start for start, stop in self._ranges)

    def take(self, most: int) -> tuple[int, int] | None:
        """Removes members from the front, and returns them; None if there are none."""
        if not self._ranges:
            return None
        start, stop = self._ranges.pop(0)
        if stop - start > most:
            self._ranges.insert(0, (start + most, stop))
            stop = start + most
        return start, stop

    def put_back(self, start: int, stop: int) -> None:
        """Adds members that were taken."""
        self._ranges.insert(0, (start, stop))


@dataclass
class _Worker:
    """Describes a worker process: its socket, the board of its sandboxes, and the chunk that it sweeps."""

    pid: int
    socket: socket.socket
    board: Board
    #: What it sent of a line that is not complete.
    received: bytearray = field(default_factory=bytearray)
    chunk: tuple[int, int] | None = None
    #: Members a second, 0 if not known.
    rate: float = 0.0
    reaped: bool = False


class Workers:
    """Sweeps members in several processes. Use it in a `with` block, which ends them."""

    def __init__(self, task: Task, count: int, work: Path) -> None:
        """Takes the path of a directory for the work of the sandboxes, which they make if they need it."""
        self._task, self._count, self._work = task, count, work
        self._cpus = sorted(os.sched_getaffinity(0))
        self._workers: list[_Worker] = []
        self._tries: dict[int, int] = {}

    def __enter__(self) -> Workers:
        """Starts them. Raises CommandError."""
        try:
            for number in range(self._count):
                self._workers.append(self._start(number))
        except BaseException as error:
            number = len(self._workers) + 1
            self.end()
            if not isinstance(error, OSError):
                raise
            raise CommandError(
                f"-n {self._count}: worker {number} cannot be started: {error.strerror}; start fewer"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Ends them."""
        self.end()

    def run(
        self, remaining: Remaining, found: Callable[[int, int, Outcome], None], tick: Callable[[int], None]
    ) -> None:
        """Sweeps what remains. Calls `found` for each chunk, and `tick` often with the members swept in open chunks.

        Raises CommandError: no worker could go on.
        """
        with selectors.DefaultSelector() as selector:
            for number, worker in enumerate(self._workers):
                selector.register(worker.socket, selectors.EVENT_READ, number)
                self._give(worker, remaining)
            while any(worker.chunk for worker in self._workers):
                for ready, _ in selector.select(_TICK):
                    worker = self._workers[ready.data]
                    if not self._receive(worker, found):
                        selector.unregister(worker.socket)
                        worker = self._workers[ready.data] = self._replace(worker, ready.data, remaining, found)
                        selector.register(worker.socket, selectors.EVENT_READ, ready.data)
                    if worker.chunk is None:
                        self._give(worker, remaining)
                tick(sum(self._progress(worker) for worker in self._workers))

    def end(self) -> None:
        """Ends the workers and waits for them."""
        left = [worker for worker in self._workers if not worker.reaped]
        for worker in left:
            os.kill(worker.pid, signal.SIGTERM)
        late = time.monotonic() + _PATIENCE
        for worker in left:
            worker.socket.close()
            while os.waitpid(worker.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > late:
                    os.kill(worker.pid, signal.SIGKILL)
                time.sleep(0.002)
        self._workers.clear()

    def _start(self, number: int) -> _Worker:
        board = Board()
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        try:
            with interrupts.deferred():
                pid = os.fork()
                if pid == 0:
                    _become_worker(parent, self._cpus[number % len(self._cpus)])
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            for other in self._workers:
                other.socket.close()
            ours.close()
            _work(self._task, theirs, board, self._work)
        theirs.close()
        return _Worker(pid, ours, board)

    def _give(self, worker: _Worker, remaining: Remaining) -> None:
        members = int(worker.rate * _CHUNK_SECONDS) if worker.rate else _FIRST
        # Towards the end chunks become smaller, so that all workers end at the same time.
        members = min(members, remaining.count // (2 * self._count))
        worker.chunk = remaining.take(max(BLOCK, members - members % BLOCK))
        if worker.chunk is not None:
            worker.board.clear(worker.chunk[0])
            with suppress(BrokenPipeError, ConnectionResetError):  # Its end is noticed when it is read from.
                worker.socket.sendall(json.dumps(worker.chunk).encode() + b"\n")

    def _receive(self, worker: _Worker, found: Callable[[int, int, Outcome], None]) -> bool:
        """Takes what a worker sent. Returns False if it has ended. Raises CommandError: it could not sweep."""
        try:
            data = worker.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        worker.received += data
        if worker.received.endswith(b"\n") and worker.chunk is not None:
            line = json.loads(worker.received)
            worker.received.clear()
            if "failed" in line:
                raise CommandError(f"the sweep cannot go on: {line['failed']}", 3)
            start, stop = worker.chunk
            worker.chunk, worker.rate = None, (stop - start) / max(line["seconds"], 1e-3)
            found(start, stop, Outcome.of_json(line))
        return bool(data)

    def _replace(
        self, worker: _Worker, number: int, remaining: Remaining, found: Callable[[int, int, Outcome], None]
    ) -> _Worker:
        """Starts a worker in place of one that died, whose chunk is tried again, or lost. Raises CommandError."""
        interrupts.raise_received()
        worker.socket.close()
        _, status = os.waitpid(worker.pid, 0)
        worker.reaped = True
        if worker.chunk is not None:
            start, stop = worker.chunk
            self._tries[start] = self._tries.get(start, 0) + 1
            if self._tries[start] < _TRIES:
                remaining.put_back(start, stop)
            else:
                why = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
                found(start, stop, Outcome(lost=[(start, stop - start, f"its worker died {_TRIES} times: {why}")]))
        try:
            return self._start(number)
        except OSError as error:
            raise CommandError(f"a worker died and cannot be replaced: {error.strerror}", 3) from error

    @staticmethod
    def _progress(worker: _Worker) -> int:
        if worker.chunk is None:
            return 0
        start, stop = worker.chunk
        return max(0, min(worker.board.position, stop) - start)


def _become_worker(parent: int, cpu: int) -> None:
    """Sets up a forked worker: it ends with its parent and by SIGTERM, and has a CPU of its own."""
    ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    # A terminal sends SIGINT to all of them; the parent decides.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.sched_setaffinity(0, {cpu})


def _work(task: Task, connection: socket.socket, board: Board, work: Path) -> NoReturn:
    """Sweeps the chunks that the parent sends, until it closes the connection or sends SIGTERM."""
    status = 0
    try:
        with interrupts.handled(), connection.makefile("rwb") as lines:
            place = work / str(os.getpid())
            channel = Channel(BLOCK)
            for line in lines:
                start, stop = json.loads(line)
                begun = time.perf_counter()
                try:
                    answer = sweep(task, start, stop, board, channel, place).as_json()
                except (SweepFailed, CannotSandbox, OSError) as error:
                    answer = {"failed": str(error)}
                answer["seconds"] = time.perf_counter() - begun
                lines.write(json.dumps(answer).encode() + b"\n")
                lines.flush()
    except KeyboardInterrupt:
        pass
    except BaseException:
        status = 1
    os._exit(status)


def require_room(workers: int) -> None:
    """Raises CommandError if memory or descriptors do not suffice for so many workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if workers + 64 > most:
        raise CommandError(f"-n {workers}: {most} descriptors are too few for so many workers; start fewer")
    if soft != resource.RLIM_INFINITY and workers + 64 > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, workers + 64), hard))
    free = available()
    if free is not None and workers * MEGABYTES > free >> 20:
        raise CommandError(
            f"-n {workers}: so many workers need {workers * MEGABYTES} MB of memory, {free >> 20} MB are free; "
            f"start at most {max(1, (free >> 20) // MEGABYTES)}"
        )

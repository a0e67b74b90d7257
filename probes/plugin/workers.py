"""Runs the tests of one pytest process in several, forked when all tests are collected: one for each CPU.

A worker takes the number of a test, runs it in its sandbox, judges it, and writes what it adds to the files of the run to a
file of its own. It sends pytest's reports, the verdicts, and where its lines lie. The process that collected passes this
on to pytest and to the files in the order of collection, so a run of several processes reads like a run of one.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn, Protocol

import pytest

from probes.interrupts import deferred, handled, raise_received
from probes.plugin.run_facts import key_of
from probes.plugin.run_report import EXPECTATIONS, LocalReport
from probes.report.check import Check
from probes.report.judged_test import JudgedTest
from probes.report.packed import Scratch
from probes.sandbox import clone, sandbox
from probes.testing.behaviours import behaviour_of
from probes.trace import ptrace

#: Tests that a worker has at once: the next is there when one ends.
_AHEAD = 2
#: Seconds that workers have to end their sandboxes before they are killed, and between two looks.
_PATIENCE, _TICK = 10.0, 0.002
#: Seconds between two looks at workers that may have been silent too long.
_LOOK = 1.0

Reports = list[pytest.TestReport]


class Runner(Protocol):
    """Runs tests in the process that collected, or in a worker.

    `deadline` is that of a test in seconds, None for none; `before` are the seconds that a worker may take around it.
    """

    deadline: float | None
    before: float

    def has_sandbox(self, item: pytest.Item) -> bool:
        """Returns True for a test that a worker can run."""

    def become_worker(self, number: int) -> Reports:
        """Is called in a worker with its number, from 0; returns the list to which the reports of its tests go."""


class _CannotWrite(Exception):
    """Is the answer of a worker that cannot write its file; its argument is the OSError."""


@dataclass
class _Worker:
    """Is a worker as the process that started it knows it."""

    number: int
    pid: int
    connection: Connection
    #: The numbers of the tests that it has and has not answered; it runs the first.
    tests: deque[int] = field(default_factory=deque)
    reaped: bool = False
    #: When it began the first of them, as far as is known here.
    since: float = field(default_factory=time.monotonic)
    silent: bool = False

    def take_from(self, waiting: deque[int]) -> None:
        """Sends it a test of those that wait. If it is dead, its end is noticed when its answer is read."""
        if waiting:
            if not self.tests:
                self.since = time.monotonic()
            self.tests.append(waiting.popleft())
            with suppress(OSError):
                self.connection.send(self.tests[-1])


class Workers:
    """Is a plugin that distributes the tests that have a sandbox; the process that collected runs the others."""

    def __init__(self, report: LocalReport, runner: Runner, count: int) -> None:
        """Takes the CPUs of this process, before it is pinned to one."""
        self._report, self._runner, self._count = report, runner, count
        self._cpus = sorted(os.sched_getaffinity(0))
        self._items: list[pytest.Item] = []
        self._workers: list[_Worker] = []
        #: What workers wrote, those that died too.
        self._files: list[Scratch] = []

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Runs all tests. Raises Session.Failed and Session.Interrupted as pytest's own loop does."""
        self._items = [item for item in session.items if self._runner.has_sandbox(item)]
        count = min(self._count, len(self._items))
        config = session.config
        # With isolation "none" tests share the network of this machine, and its ports.
        if count < 2 or config.getoption("isolation") == "none":
            return None
        if session.testsfailed and not config.option.continue_on_collection_errors:
            return None
        # It was pinned to measure the machine; now it takes the CPU that is idle.
        os.sched_setaffinity(0, self._cpus)
        try:
            self._start_all(count)
            self._distribute(session)
        finally:
            with deferred():
                self._end()
        others = [item for item in session.items if not self._runner.has_sandbox(item)]
        for item, following in zip(others, [*others[1:], None], strict=False):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            _stop_if_asked(session)
        return True

    # Distributing

    def _distribute(self, session: pytest.Session) -> None:
        waiting = deque(range(len(self._items)))
        for _ in range(_AHEAD):
            for worker in self._workers:
                worker.take_from(waiting)
        done: dict[int, Reports] = {}
        try:
            for number in range(len(self._items)):
                while number not in done:
                    done.update(self._answers(waiting))
                self._pass_on(number, done.pop(number))
                _stop_if_asked(session)
        except KeyboardInterrupt as error:
            if not isinstance(error, session.Interrupted):
                # What was judged is kept.
                for number in sorted(done):
                    self._pass_on(number, done[number])
            raise

    def _answers(self, waiting: deque[int]) -> Iterator[tuple[int, Reports]]:
        """Waits for workers, and yields the numbers of tests with their reports."""
        ready = wait([worker.connection for worker in self._workers], self._end_silent())
        raise_received()
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._replace(worker, waiting)
                continue
            if isinstance(answer, _CannotWrite):
                self._report.fail(answer.args[0])
            if isinstance(answer, BaseException):
                raise answer
            yield worker.tests.popleft(), answer
            worker.since = time.monotonic()
            worker.take_from(waiting)

    def _end_silent(self) -> float | None:
        """Kills workers that do not answer, and returns the seconds in which one of the others has to; None for no limit.

        A worker keeps the deadline of its test, unless the test stopped it: without a pid namespace it can.
        """
        if self._runner.deadline is None:
            return None
        left = []
        for worker in self._workers:
            left.append(worker.since + 2 * self._runner.deadline + self._runner.before + _PATIENCE - time.monotonic())
            if left[-1] < 0 and worker.tests and not worker.silent:
                worker.silent = True
                os.kill(worker.pid, signal.SIGKILL)
        return max(min(left), _LOOK)

    def _replace(self, worker: _Worker, waiting: deque[int]) -> Iterator[tuple[int, Reports]]:
        """Puts another worker in the place of one that died. The test that it ran is lost, others run again."""
        _, status = os.waitpid(worker.pid, 0)
        worker.reaped = True
        worker.connection.close()
        lost = worker.tests.popleft() if worker.tests else None
        waiting.extendleft(reversed(worker.tests))
        try:
            another = self._workers[worker.number] = self._start(worker.number)
        except OSError as error:
            why = f"a worker died and cannot be replaced: {error.strerror}; -n 1 needs none"
            raise pytest.exit.Exception(why, returncode=3) from error
        for _ in range(_AHEAD):
            another.take_from(waiting)
        if lost is not None:
            how = "did not answer" if worker.silent else _ending(status)
            yield lost, [_lost(self._items[lost], f"the worker that ran it {how}")]

    def _pass_on(self, number: int, reports: Reports) -> None:
        """Gives pytest the reports of a test, as if it had run here."""
        item = self._items[number]
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    # Starting and ending

    def _start_all(self, count: int) -> None:
        """Starts workers, fewer where a limit allows no more. Raises OSError: not even one."""
        for number in range(count):
            try:
                self._workers.append(self._start(number))
            except OSError:
                if not self._workers:
                    raise
                return

    def _start(self, number: int) -> _Worker:
        """Forks a worker. Raises OSError."""
        scratch = self._report.scratch()
        if scratch is not None:
            self._files.append(scratch)
        ours, its = Pipe()
        parent = os.getpid()
        with deferred():
            pid = clone.fork(0, init=False).pid
            if not pid:
                for connection in (ours, *(worker.connection for worker in self._workers)):
                    connection.close()
                for file in self._files:
                    if file is not scratch:
                        file.close()
                self._serve(number, parent, its, scratch)
        its.close()
        return _Worker(number, pid, ours)

    def _end(self) -> None:
        """Ends all workers as a signal ends a run of one process: with their sandboxes, and nothing is left."""
        left = {worker.pid for worker in self._workers if not worker.reaped}
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + _PATIENCE
        while left:
            left -= {pid for pid in left if _is_reaped(pid)}
            time.sleep(_TICK * bool(left))
            if time.monotonic() > limit:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
        for worker in self._workers:
            worker.connection.close()
        for file in self._files:
            file.close()
        self._workers, self._files = [], []

    # In a worker

    def _serve(self, number: int, parent: int, connection: Connection, scratch: Scratch | None) -> NoReturn:
        """Runs the tests that it is sent, until it is ended. In a session of its own: Ctrl-C is not for it."""
        try:
            os.setsid()
            ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                with handled():
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
                    sandbox.pin(self._cpus[number % len(self._cpus)])
                    _capture_anew(self._items[0].config)
                    reports = self._runner.become_worker(number)
                    while True:
                        connection.send(self._answer(self._items[connection.recv()], reports, scratch))
        except BaseException:
            os._exit(1)
        finally:
            os._exit(0)

    def _answer(self, item: pytest.Item, reports: Reports, scratch: Scratch | None) -> Reports | BaseException:
        """Returns the reports of a test, or the error that ends the run. Raises EndedBySignal."""
        reports.clear()
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            raise_received()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return _sendable(error)
        try:
            self._report.condense(reports, scratch)
        except OSError as error:
            return _CannotWrite(error)
        return reports


def _capture_anew(config: pytest.Config) -> None:
    """Gives a worker files of its own for the output of its tests: those that it inherited have one offset for all."""
    manager: Any = config.pluginmanager.get_plugin("capturemanager")
    inherited, manager._global_capturing = manager._global_capturing, None
    inherited.stop_capturing()
    manager.start_global_capturing()
    manager.suspend_global_capture()


def _is_reaped(pid: int) -> bool:
    """Reaps a child if it has ended, and returns True if it is none any more."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _stop_if_asked(session: pytest.Session) -> None:
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _lost(item: pytest.Item, why: str) -> pytest.TestReport:
    """Returns the report of a test whose worker died."""
    report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
    if behaviour_of(item):
        check = Check(key_of(item), "lost", detail=why)
        item.config.stash[EXPECTATIONS].mark([check])
        report.socketcall = JudgedTest([check])  # type: ignore[attr-defined]
    return report


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with status {os.WEXITSTATUS(status)}"


def _sendable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

"""Fixtures of the tests of the suite itself: commands, processes, and a program to capture."""

import contextlib
import functools
import signal
import subprocess

import pytest

from probes.interrupts import ENDING
from probes.targets import debian, store
from tests.instruments.support import end, missing, run_check, run_command, write_tests

pytest.register_assert_rewrite("tests.instruments.capture_programs")


def pytest_configure():
    """Undo what nohup and a shell's background ignore: the commands that the tests start would ignore it too."""
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items):
    """Put the tests of the VM first: they take longest, and one worker has to run them all (tox: --dist loadfile)."""
    items.sort(key=lambda item: item.path.name != "test_vagrant.py")


@pytest.fixture(autouse=True)
def signals_are_as_before():
    """Fail a test that leaves another disposition or mask of a signal: the commands of later tests would inherit it."""

    def state():
        return signal.pthread_sigmask(signal.SIG_BLOCK, ()), [signal.getsignal(number) for number in ENDING]

    before = state()
    yield
    assert state() == before


@pytest.fixture
def spawn():
    """Start processes as subprocess.Popen does, in sessions of their own; a test that fails leaves none."""
    with contextlib.ExitStack() as stack:

        def start(command, **how):
            process = subprocess.Popen(command, start_new_session=True, **how)
            stack.callback(end, process)
            return process

        yield start


@pytest.fixture
def socketcall(tmp_path):
    """Run `socketcall` in an empty directory."""
    return functools.partial(run_command, tmp_path)


@pytest.fixture
def judge(tmp_path):
    """Run `socketcall check` on the sources of one or more test modules."""

    def run(*sources, args=(), prefix=()):
        write_tests(tmp_path, *sources)
        return run_check(tmp_path, *args, prefix=prefix)

    return run


def pytest_collection_finish(session):
    """Build the program that a test captures while there is a network: a sandbox has none."""
    captures = any("busybox" in getattr(item, "fixturenames", ()) for item in session.items)
    if captures and not session.config.option.collectonly and store.have(debian.BUSYBOX) is None:
        # The fixture reports the reason.
        with contextlib.suppress(store.CannotBuild):
            store.make(debian.BUSYBOX, lambda line: None)


@pytest.fixture
def busybox():
    """Return the path of Debian's static i386 busybox."""
    try:
        return store.make(debian.BUSYBOX, lambda line: None) / "bin" / "busybox"
    except store.CannotBuild as why:
        missing(why)

"""Fixtures of the tests of the suite itself: commands, processes, and a program to capture."""

import contextlib
import functools
import subprocess

import pytest

from probes.targets import debian, store
from tests.instruments.support import end, missing, run_check, run_command, write_tests

pytest.register_assert_rewrite("tests.instruments.capture_programs")


def pytest_collection_modifyitems(items):
    """Put the tests of the VM first: they take longest, and one worker has to run them all (tox: --dist loadfile)."""
    items.sort(key=lambda item: item.path.name != "test_vagrant.py")


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    """Build the program that a test captures while there is a network: a sandbox has none."""
    if "busybox" in getattr(item, "fixturenames", ()) and store.have(debian.BUSYBOX) is None:
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

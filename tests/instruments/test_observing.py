"""Tests of what tests observe sockets by: rows of /proc, another process; and of calls judged on one route only."""

import os
import socket

import pytest

from probes.testing import Broke, procfs
from probes.testing.observers import Connection, connections, in_child
from tests.instruments.support import run_check, write_tests

#: getpid has one form. The second test expects what it does not return.
TESTS = (
    '''
@pytest.mark.routes("socketcall", "direct")
@law
def test_it(calls, expect, expect_direct):
    """getpid returns the pid, and descriptor -1 cannot be bound."""
    expect_direct(os.getpid(), call="getpid").of(calls.syscall("getpid"))
    expect(-errno.EBADF, call="bind").of(calls.bind(-1, ADDRESS))
''',
    '''
@pytest.mark.routes("socketcall", "direct")
@law
def test_it(calls, expect, expect_direct):
    """getpid returns 0, and descriptor -1 cannot be bound."""
    expect_direct(0, call="getpid").of(calls.syscall("getpid"))
    expect(-errno.EBADF, call="bind").of(calls.bind(-1, ADDRESS))
''',
)


def test_a_call_of_one_form_is_judged_in_the_direct_run(tmp_path):
    """The run over socketcall needs the result and does not judge it: there a wrong one is a set-up that failed."""
    write_tests(tmp_path, *TESTS)
    checks = {
        (check["id"], check["case"], check["route"]): check["verdict"]
        for check in run_check(tmp_path, "--gate", "int80").checks
    }
    assert checks == {
        ("made.m0.law", "call=getpid", "direct"): "conforms",
        ("made.m0.law", "call=bind", "direct"): "conforms",
        ("made.m0.law", "call=bind", "socketcall"): "conforms",
        ("made.m1.law", "call=getpid", "direct"): "deviates",
        ("made.m1.law", "call=bind", "direct"): "conforms",
        ("made.m1.law", "set-up=refused", "socketcall"): "deviates",
    }


def test_a_row_has_its_fields_by_column():
    """The row of a listening socket has its name and state; a socket that no table lists has no fields."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as fresh:
        row = procfs.row("tcp", procfs.inode(server.fileno()))
        assert row.columns("local", "state") == [f"0100007F:{server.getsockname()[1]:04X}", "0A"]
        assert procfs.tables_listing(procfs.inode(server.fileno())) == ["tcp"]
        absent = procfs.row("tcp", procfs.inode(fresh.fileno()))
        assert (absent.columns("local", "state"), absent["uid"]) == ([], "")


def test_reading_until_a_value_ends():
    """The value is returned as soon as it is read, and what was read last where it never is."""
    numbers = iter(range(5))
    assert procfs.read_until(lambda: next(numbers), 3) == 3
    assert procfs.read_until(lambda: 1, 2) == 1


def test_a_function_runs_in_a_child():
    """A child returns what its function does as JSON, and an exception of the function as Broke."""
    assert in_child(lambda: {"own": os.getpid()}) != {"own": os.getpid()}
    with pytest.raises(Broke, match="ZeroDivisionError"):
        in_child(lambda: 1 // 0)


def test_another_process_lists_connections():
    """psutil in another process lists a listening socket by descriptor, with its name and state."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        expected = Connection(
            server.fileno(), int(socket.AF_INET), int(socket.SOCK_STREAM), f"127.0.0.1:{port}", "", "LISTEN"
        )
        assert expected in connections(os.getpid())

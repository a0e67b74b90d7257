"""The security hook of connect, by Landlock, which refuses TCP ports."""

import struct
from errno import EACCES, EAFNOSUPPORT, ECONNREFUSED, EINVAL

import pytest

from probes.testing import behaviour, need
from probes.testing.landlock import ALLOWED, CONNECT, FOREIGN, PORT, refuse_ports
from probes.testing.socket_kinds import CONNECTING, TCP, TCP6, UDP, UNIX_STREAM

SOURCE = "connect(2) EACCES; landlock(7) LANDLOCK_ACCESS_NET_CONNECT_TCP; __sys_connect_file `security_socket_connect`"


@behaviour("connect.landlock.refused", f"{SOURCE}; S4 3.1 step 4; current_check_access_socket")
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_refused(kind, prepare, calls, expect):
    """connect of TCP to a port that the security module refuses fails with EACCES, before anything else about the address
    is looked at, the socket's state included; to a port that it allows it goes on. AF_UNSPEC is not refused.
    """
    connected = prepare("connected-by-name", kind)
    fresh = connected.new()
    refuse_ports(calls, {ALLOWED: CONNECT})
    for case, fd, address, error in (
        ("refused", fresh, kind.address(PORT), EACCES), ("port-0", fresh, kind.address(0), EACCES),
        ("foreign", fresh, kind.address(PORT, FOREIGN[kind]), EACCES),
        ("allowed", fresh, kind.address(ALLOWED), ECONNREFUSED), ("connected", connected.fd, kind.address(PORT), EACCES),
        ("unspec", connected.fd, bytes(16), 0),
    ):  # fmt: skip
        expect(-error, address=case).of(calls.connect(fd, address))


@behaviour("connect.landlock.address", f"{SOURCE}; current_check_access_socket; connect(2) EAFNOSUPPORT")
def test_address(prepare, calls, expect):
    """A security module that looks at ports refuses an address that is too short, or of the other of AF_INET and AF_INET6,
    with EINVAL; any other family it leaves to the protocol: EAFNOSUPPORT.
    """
    refuse_ports(calls, {})
    for kind, other, least in ((TCP, TCP6, 16), (TCP6, TCP, 24)):
        end = prepare("unbound", kind)
        for length in (1, 2, least - 1):
            expect(-EINVAL, kind=kind, length=length).of(calls.connect(end.fd, kind.address(PORT), length))
        expect(-EINVAL, kind=kind, family=int(other.family)).of(
            calls.connect(end.fd, other.address(PORT).ljust(28, b"\0"))
        )
        unix = struct.pack("<H", UNIX_STREAM.family) + kind.address(PORT)[2:]
        expect(-EAFNOSUPPORT, kind=kind, family=int(UNIX_STREAM.family)).of(calls.connect(end.fd, unix))
        end.close()


@behaviour("connect.landlock.others", f"{SOURCE}; current_check_access_socket `sk_is_tcp`")
def test_others(prepare, calls, expect):
    """Rules about TCP refuse no connect of UDP and AF_UNIX."""
    listening = prepare("listening", UNIX_STREAM)
    refuse_ports(calls, {})
    for kind, address in ((UDP, UDP.address(PORT)), (UNIX_STREAM, listening.server)):
        client = need(calls.socket(*kind.triple), "socket")
        expect(0, kind=kind).of(calls.connect(client, address))

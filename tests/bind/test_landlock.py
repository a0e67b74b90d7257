"""The security hook of bind, by Landlock, which refuses TCP ports."""

from errno import EACCES, EADDRINUSE, EAFNOSUPPORT, EINVAL

import pytest

from probes.testing import behaviour, need
from probes.testing.landlock import ALLOWED, BIND, FOREIGN, PORT, refuse_ports
from probes.testing.socket_kinds import CONNECTING, TCP, TCP6, UDP
from tests.bind.bind_forms import family_word, unix

SOURCE = (
    "bind(2) EACCES; landlock(7) LANDLOCK_ACCESS_NET_BIND_TCP; __sys_bind_socket `security_socket_bind`; S4 3.1 step 4"
)


@behaviour("bind.landlock.refused", SOURCE)
@pytest.mark.parametrize("kind", CONNECTING, ids=str)
def test_refused(kind, new_socket, calls, expect):
    """bind of TCP to a port that the security module refuses fails with EACCES, before anything else about the address is
    looked at, the socket's state included; to a port that it allows it goes on.
    """
    bound, fresh = new_socket(*kind.triple), new_socket(*kind.triple)
    need(bound.bind(kind.address(PORT)))
    refuse_ports(calls, {ALLOWED: BIND})
    for case, socket, address, error in (
        ("taken", fresh, kind.address(PORT), EACCES), ("free", fresh, kind.address(PORT + 1), EACCES),
        ("port-0", fresh, kind.address(0), EACCES), ("foreign", fresh, kind.address(PORT, FOREIGN[kind]), EACCES),
        ("allowed", fresh, kind.address(ALLOWED), 0), ("bound", bound, kind.address(PORT + 1), EACCES),
        ("bound-allowed", bound, kind.address(ALLOWED), EINVAL),
    ):  # fmt: skip
        expect(-error, address=case).of(socket.bind(address))
    expect(-EADDRINUSE, address="allowed", socket="another").of(new_socket(*kind.triple).bind(kind.address(ALLOWED)))


@behaviour("bind.landlock.address", f"{SOURCE}; current_check_access_socket; bind(2) EINVAL")
def test_address(new_socket, calls, expect):
    """A security module that looks at ports refuses an address that is too short, or of the other of AF_INET and AF_INET6,
    with EINVAL; any other family it leaves to the protocol: EAFNOSUPPORT. Over IPv4 AF_UNSPEC with
    the wildcard address is AF_INET; UDP is not refused.
    """
    refuse_ports(calls, {})
    for kind, other, least in ((TCP, TCP6, 16), (TCP6, TCP, 24)):
        socket = new_socket(*kind.triple)
        for length in (1, 2, least - 1):
            expect(-EINVAL, kind=kind, length=length).of(socket.bind(kind.address(PORT), length))
        expect(-EINVAL, kind=kind, family=int(other.family)).of(socket.bind(other.address(PORT).ljust(28, b"\0")))
        expect(-EAFNOSUPPORT, kind=kind, family="AF_UNIX").of(socket.bind(unix(kind.address(PORT)[2:])))
    for host, error in {"any": EACCES, "loopback": EAFNOSUPPORT}.items():
        address = family_word(0) + TCP.address(PORT, host)[2:]
        expect(-error, kind=TCP, family="AF_UNSPEC", host=host).of(new_socket(*TCP.triple).bind(address))
    expect(0, kind=UDP).of(new_socket(*UDP.triple).bind(UDP.address(PORT)))

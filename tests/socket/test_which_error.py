"""Calls of socket(2) with several errors at once: which of them it returns."""

from errno import EAFNOSUPPORT, EINVAL, EMFILE, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK

import pytest

from probes.testing import behaviour, not_applicable
from probes.testing.socket_model import AF_XDP, DGRAM, FAMILIES, RAW, RDM, STREAM

SOURCE = "socket(2) ERRORS; __sys_socket, __sock_create, inet_create, sock_map_fd, in that order; S4 2.1 to 2.3"
SOURCE_FAMILIES = "packet_create, xsk_create, unix_create, netlink_create, vsock_create"
#: A flag that does not exist, a family without sockets in any kernel, a family, a type and a protocol out of range, and
#: a protocol in range that does not exist.
FLAG, ABSENT, NO_FAMILY, NO_TYPE, NO_PROTOCOL, UNKNOWN = 0x100, 0, -1, 15, 300, 77

#: Errors in the order in which the kernel checks for them, a call that has them all, and the error that it returns.
CASES = {
    "flag,family-range": ((NO_FAMILY, FLAG | STREAM, 0), EINVAL),
    "flag,family-range,type-range,protocol-range": ((NO_FAMILY, FLAG | NO_TYPE, NO_PROTOCOL), EINVAL),
    "flag,family-absent": ((ABSENT, FLAG | STREAM, 0), EINVAL),
    "family-range,type-range": ((NO_FAMILY, NO_TYPE, 0), EAFNOSUPPORT),
    "family-range,protocol-range": ((NO_FAMILY, STREAM, NO_PROTOCOL), EAFNOSUPPORT),
    "type-range,family-absent": ((ABSENT, NO_TYPE, 0), EINVAL),
    "type-range,protocol-unknown": ((AF_INET, NO_TYPE, UNKNOWN), EINVAL),
    "family-absent,type-unknown": ((ABSENT, RDM, 0), EAFNOSUPPORT),
    "family-absent,protocol-range": ((ABSENT, STREAM, NO_PROTOCOL), EAFNOSUPPORT),
    "protocol-range,type-unknown": ((AF_INET, RDM, NO_PROTOCOL), EINVAL),
    "protocol-negative,type-unknown": ((AF_INET, RDM, -1), EINVAL),
    "protocol-range,type-unknown,inet6": ((AF_INET6, RDM, NO_PROTOCOL), EINVAL),
    "type-unknown,protocol-unknown": ((AF_INET, RDM, UNKNOWN), ESOCKTNOSUPPORT),
    "type-unknown,protocol-unknown,inet6": ((AF_INET6, RDM, UNKNOWN), ESOCKTNOSUPPORT),
    "protocol-range,privilege": ((AF_INET, RAW, NO_PROTOCOL), EINVAL),
    "protocol-range,privilege,inet6": ((AF_INET6, RAW, NO_PROTOCOL), EINVAL),
    "protocol-unknown,privilege": ((AF_INET, RAW, 0), EPROTONOSUPPORT),
    "protocol-unknown,privilege,inet6": ((AF_INET6, RAW, 0), EPROTONOSUPPORT),
    "protocol-unknown,descriptors": ((AF_INET, STREAM, UNKNOWN), EPROTONOSUPPORT),
    "protocol-unknown,type-unknown,unix": ((AF_UNIX, RDM, UNKNOWN), EPROTONOSUPPORT),
    "type-unknown,protocol-unknown,netlink": ((AF_NETLINK, STREAM, UNKNOWN), ESOCKTNOSUPPORT),
    "protocol-unknown,type-unknown,vsock": ((AF_VSOCK, RDM, UNKNOWN), EPROTONOSUPPORT),
}
#: The same for calls that need CAP_NET_RAW: the call, the error with the capability, and without it.
PRIVILEGED = {
    "privilege,type-unknown,packet": ((AF_PACKET, STREAM, 0), ESOCKTNOSUPPORT, EPERM),
    "privilege,type-unknown,protocol-unknown,xdp": ((AF_XDP, STREAM, UNKNOWN), ESOCKTNOSUPPORT, EPERM),
    "privilege,protocol-unknown,xdp": ((AF_XDP, RAW, UNKNOWN), EPROTONOSUPPORT, EPERM),
    "flag,privilege,packet": ((AF_PACKET, FLAG | RAW, 0), EINVAL, EINVAL),
    "type-range,privilege,packet": ((AF_PACKET, NO_TYPE, 0), EINVAL, EINVAL),
}
#: Calls that succeed, and calls that succeed with CAP_NET_RAW.
GOOD = {"tcp": (AF_INET, STREAM, 0), "udp6": (AF_INET6, DGRAM, 0), "unix": (AF_UNIX, STREAM, 0)}
GOOD_RAW = {"raw": (AF_INET, RAW, 253), "raw6": (AF_INET6, RAW, 253), "packet": (AF_PACKET, RAW, 0)}


def present(triple: tuple[int, int, int]) -> bool:
    """Returns False for a call with a family that other kernels have and this one lacks."""
    family = FAMILIES.get(triple[0])
    return family is None or family.registered


@behaviour("socket.order.arguments", SOURCE, tag="implementation")
def test_arguments(calls, expect):
    """socket checks in this order: unknown flags, the range of the family, the range of the type, absent families.

    Then AF_INET and AF_INET6 check the range of the protocol, the type, and whether the type has the protocol.
    """
    for wrong, (triple, error) in CASES.items():
        if present(triple):
            expect(-error, wrong=wrong).of(calls.socket(*triple))


@behaviour("socket.order.privilege", f"{SOURCE}; {SOURCE_FAMILIES}", tag="implementation")
@pytest.mark.parametrize("who", ["capable", "unprivileged"])
def test_privilege(who, calls, expect, caller):
    """AF_INET and AF_INET6 check CAP_NET_RAW after type and protocol, AF_PACKET and AF_XDP before them.

    Unknown flags and the range of the type come before CAP_NET_RAW in every family.
    """
    if who == "unprivileged":
        caller.keep_capabilities(())
    for wrong, (triple, error) in CASES.items():
        if "privilege" in wrong and present(triple):
            expect(-error, wrong=wrong).of(calls.socket(*triple))
    for wrong, (triple, capable, incapable) in PRIVILEGED.items():
        if present(triple):
            expect(-incapable if who == "unprivileged" else -capable, wrong=wrong).of(calls.socket(*triple))


@behaviour(
    "socket.order.descriptor", f"{SOURCE}; socket(2) EMFILE; sock_map_fd after sock_create", tag="implementation"
)
def test_descriptor(descriptor_limit, calls, expect):
    """socket allocates the descriptor last: at RLIMIT_NOFILE wrong arguments fail as below it, others with EMFILE."""
    refused = {wrong: case for wrong, case in CASES.items() if present(case[0])}
    good = {name: triple for name, triple in (GOOD | GOOD_RAW).items() if present(triple)}
    descriptor_limit.leave(0)
    for wrong, (triple, error) in refused.items():
        expect(-error, wrong=wrong).of(calls.socket(*triple))
    for name, triple in good.items():
        expect(-EMFILE, good=name).of(calls.socket(*triple))


@behaviour("socket.order.privilege-before-descriptor", f"{SOURCE}; {SOURCE_FAMILIES}", tag="implementation")
def test_privilege_before_descriptor(descriptor_limit, unprivileged, calls, expect):
    """socket that lacks CAP_NET_RAW fails with EPERM even at RLIMIT_NOFILE."""
    good = {name: triple for name, triple in GOOD_RAW.items() if present(triple)}
    if not good:
        not_applicable("raw and packet sockets")
    descriptor_limit.leave(0)
    for name, triple in good.items():
        expect(-EPERM, kind=name).of(calls.socket(*triple))

"""Several things wrong at once: which of them is told."""

from errno import EAFNOSUPPORT, EINVAL, EMFILE, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT
from socket import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, not_applicable
from tests.socket.socket_model import AF_XDP, DGRAM, FAMILIES, RAW, RDM, STREAM

SOURCE = "socket(2) ERRORS; __sys_socket, __sock_create, inet_create, sock_map_fd, in that order; S4 2.1 to 2.3"
SOURCE_FAMILIES = "packet_create, xsk_create, unix_create, netlink_create, vsock_create"
#: A flag that does not exist, a family that no kernel has sockets of, a family and a type out of range, protocols out
#: of range and of nobody.
FLAG, ABSENT, NO_FAMILY, NO_TYPE, NO_PROTOCOL, UNKNOWN = 0x100, 0, -1, 15, 300, 77

#: What is wrong, in the order in which it is told, with a call that has it all and what it answers.
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
#: The same for what needs CAP_NET_RAW: the call, what it answers with the capability, and without.
PRIVILEGED = {
    "privilege,type-unknown,packet": ((AF_PACKET, STREAM, 0), ESOCKTNOSUPPORT, EPERM),
    "privilege,type-unknown,protocol-unknown,xdp": ((AF_XDP, STREAM, UNKNOWN), ESOCKTNOSUPPORT, EPERM),
    "privilege,protocol-unknown,xdp": ((AF_XDP, RAW, UNKNOWN), EPROTONOSUPPORT, EPERM),
    "flag,privilege,packet": ((AF_PACKET, FLAG | RAW, 0), EINVAL, EINVAL),
    "type-range,privilege,packet": ((AF_PACKET, NO_TYPE, 0), EINVAL, EINVAL),
}
#: Calls that are right, and some that are if the privilege is there.
GOOD = {"tcp": ((AF_INET, STREAM, 0),), "udp6": ((AF_INET6, DGRAM, 0),), "unix": ((AF_UNIX, STREAM, 0),)}
GOOD_RAW = {"raw": ((AF_INET, RAW, 253),), "raw6": ((AF_INET6, RAW, 253),), "packet": ((AF_PACKET, RAW, 0),)}


def present(cases):
    """The cases of families that the kernel has, and of families that nobody has."""
    known = {number: family.registered for number, family in FAMILIES.items()}
    return {name: case for name, case in cases.items() if known.get(int(case[0][0]), True)}


@behaviour("socket.order.arguments", SOURCE)
def test_arguments(calls, expect):
    """Of several wrong arguments the first in this order is told: an unknown flag, a family out of range, a type out of
    range, a family that is absent, then what the family looks at: inet a protocol out of range, a type that it does not
    have, a protocol that the type does not have.
    """
    for wrong, (triple, error) in present(CASES).items():
        expect(-error, wrong=wrong).of(calls.socket(*triple))


@behaviour("socket.order.privilege", f"{SOURCE}; {SOURCE_FAMILIES}")
@pytest.mark.parametrize("who", ["capable", "unprivileged"])
def test_privilege(who, calls, expect):
    """Of inet the arguments come before the privilege; of AF_PACKET and AF_XDP the privilege comes before type and
    protocol, after what every family has in common.
    """
    if who == "unprivileged":
        namespaces.keep_capabilities(())
    for wrong, (triple, error) in present(CASES).items():
        if "privilege" in wrong:
            expect(-error, wrong=wrong).of(calls.socket(*triple))
    for wrong, (triple, with_it, without) in present(PRIVILEGED).items():
        expect(-without if who == "unprivileged" else -with_it, wrong=wrong).of(calls.socket(*triple))


@behaviour("socket.order.descriptor", f"{SOURCE}; socket(2) EMFILE; sock_map_fd after sock_create")
def test_descriptor(descriptors, calls, expect):
    """The descriptor comes last: where none is left, every wrong argument is told as before, and EMFILE only where
    nothing else is wrong.
    """
    cases, good = present(CASES), present(GOOD | GOOD_RAW)
    descriptors.leave(0)
    for wrong, (triple, error) in cases.items():
        expect(-error, wrong=wrong).of(calls.socket(*triple))
    for name, (triple,) in good.items():
        expect(-EMFILE, good=name).of(calls.socket(*triple))


@behaviour("socket.order.privilege-before-descriptor", f"{SOURCE}; {SOURCE_FAMILIES}")
def test_privilege_before_descriptor(descriptors, unprivileged, calls, expect):
    """A socket for which the privilege is missing fails with EPERM even if there is no descriptor for it."""
    cases = present(GOOD_RAW)
    if not cases:
        not_applicable("raw and packet sockets")
    descriptors.leave(0)
    for name, (triple,) in cases.items():
        expect(-EPERM, kind=name).of(calls.socket(*triple))

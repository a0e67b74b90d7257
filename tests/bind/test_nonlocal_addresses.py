"""Binding to addresses that this machine does not have, and to those of one link only."""

from errno import EINVAL, ENODEV, EPERM
from socket import IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET

import pytest

from probes.abi.names import value
from probes.sandbox import namespaces
from probes.testing import VersionDifference, behaviour, need
from probes.testing.socket_kinds import RAW, RAW6, TCP, TCP6, UDP, UDP6
from tests.bind.bind_forms import inet, inet6
from tests.bind.bind_hosts import HOSTS, HOSTS6, NO_LINK, REFUSED, host4, host6, mapped, name_of, port_of
from tests.bind.bind_links import LINK_LOCAL, LOCAL, LOCAL6, NEIGHBOUR, NEIGHBOUR6

SOURCE = "inet_can_nonlocal_bind, ipv6_can_nonlocal_bind; S4 3.2 step 5"
SOURCE_FREE = f"ip(7) IP_FREEBIND; {SOURCE}"
SOURCE_SYSCTL = f"ip(7) ip_nonlocal_bind; Documentation/networking/ip-sysctl.rst ip_nonlocal_bind; {SOURCE}"
SOURCE_PRIVILEGE = "capabilities(7) CAP_NET_RAW, CAP_NET_ADMIN `transparent proxying`; ip(7) IP_TRANSPARENT"
SOURCE_DEVICE = "socket(7) SO_BINDTODEVICE; __inet_bind, __inet6_bind, raw_bind, rawv6_bind `sk_bound_dev_if`"
RAW_SINCE = "8ff978b8b222: ipv4/raw: support binding to nonlocal addresses"
#: Each as a socket's family has it.
OPTIONS = {
    "IP_FREEBIND": IPPROTO_IP, "IP_TRANSPARENT": IPPROTO_IP, "IPV6_FREEBIND": IPPROTO_IPV6,
    "IPV6_TRANSPARENT": IPPROTO_IPV6,
}  # fmt: skip
ALL, ALL6 = (TCP, UDP, RAW), (TCP6, UDP6, RAW6)


def allowed(kind, answer):
    """What a host answers where nobody asks whose it is."""
    return VersionDifference("5.17", answer, 0, RAW_SINCE) if kind is RAW and answer != 0 else 0


def every_host(expect, new_socket, kinds, option=None, refused=False):
    """Judges binding each kind to each host of its family: `refused` tells that nonlocal ones still are."""
    for kind in kinds:
        for host, (text, answer) in (HOSTS if kind in ALL else HOSTS6).items():
            if isinstance(answer, VersionDifference):
                continue
            socket = new_socket(*kind.triple)
            if option:
                need(socket.setsockopt(OPTIONS[option], value(option), 1))
            address = inet(port_of(kind), host4(text)) if kind in ALL else inet6(port_of(kind), host6(text))
            answer = answer if refused else allowed(kind, answer)
            expect(answer, kind=kind, host=host).of(socket.bind(address))
            if answer == 0:
                result, name = socket.sockname()
                expect(name_of(kind, address), kind=kind, host=host, then="name").of(name, result)
            need(socket.close())


@behaviour("bind.nonlocal.option", f"{SOURCE_FREE}; ip(7) IP_TRANSPARENT")
@pytest.mark.parametrize("option", OPTIONS)
def test_option(option, links, new_socket, expect):
    """With IP_FREEBIND or IP_TRANSPARENT a socket can be bound to any address, whoever has it, and getsockname tells
    it; over IPv6 with IPV6_FREEBIND or IPV6_TRANSPARENT.
    """
    every_host(expect, new_socket, ALL if option.startswith("IP_") else ALL6, option)


@behaviour("bind.nonlocal.mapped", f"{SOURCE_FREE}; __inet6_bind `addr_type == IPV6_ADDR_MAPPED`")
@pytest.mark.parametrize("option", OPTIONS)
def test_mapped(option, links, new_socket, expect):
    """The options of both families count for TCP and UDP over IPv6, and for the IPv4 addresses of such sockets; but
    with IPV6_V6ONLY these are refused all the same, EINVAL.
    """
    for kind in (TCP6, UDP6):
        for host, raw in {"ipv4": mapped(NEIGHBOUR), "ipv6": host6(NEIGHBOUR6)}.items():
            socket = new_socket(*kind.triple)
            need(socket.setsockopt(OPTIONS[option], value(option), 1))
            expect(0, kind=kind, host=host).of(socket.bind(inet6(5000, raw)))
            need(socket.close())
        socket = new_socket(*kind.triple)
        need(socket.setsockopt(OPTIONS[option], value(option), 1))
        need(socket.setsockopt(IPPROTO_IPV6, value("IPV6_V6ONLY"), 1))
        expect(-EINVAL, kind=kind, host="ipv4-v6only").of(socket.bind(inet6(5000, mapped(NEIGHBOUR))))


@behaviour("bind.nonlocal.link-local", f"{SOURCE_FREE}; ipv6(7) ENODEV; __inet6_bind, rawv6_bind")
def test_link_local(links, new_socket, expect):
    """Even with IPV6_FREEBIND a link-local address needs a scope, and the scope a link."""
    for kind in ALL6:
        answers = {"none": (0, -EINVAL), "no-link": (NO_LINK, -ENODEV), "own": (links.near, 0), "other": (links.far, 0)}
        for scope, (index, answer) in answers.items():
            socket = new_socket(*kind.triple)
            need(socket.setsockopt(IPPROTO_IPV6, value("IPV6_FREEBIND"), 1))
            address = inet6(port_of(kind), host6(LINK_LOCAL), index)
            expect(answer, kind=kind, scope=scope).of(socket.bind(address))
            need(socket.close())


@behaviour("bind.nonlocal.listen", SOURCE_FREE)
def test_listen(links, new_socket, expect):
    """With IP_FREEBIND a socket can listen on an address that does not exist yet."""
    for kind, host, option in ((TCP, NEIGHBOUR, "IP_FREEBIND"), (TCP6, NEIGHBOUR6, "IPV6_FREEBIND")):
        socket = new_socket(*kind.triple)
        need(socket.setsockopt(OPTIONS[option], value(option), 1))
        expect(0, kind=kind, step="bind").of(socket.bind(kind.address(5000, host)))
        expect(0, kind=kind, step="listen").of(socket.listen())


@behaviour("bind.nonlocal.sysctl", SOURCE_SYSCTL)
def test_sysctl(links, new_socket, expect):
    """Where net.ipv4.ip_nonlocal_bind is 1 every socket of IPv4 can be bound to any address; IPv6 is not touched."""
    namespaces.set_sysctl("net.ipv4.ip_nonlocal_bind", 1)
    every_host(expect, new_socket, ALL)
    every_host(expect, new_socket, ALL6, refused=True)
    expect(0, kind=TCP6, host="mapped").of(new_socket(*TCP6.triple).bind(inet6(5000, mapped(NEIGHBOUR))))


@behaviour("bind.nonlocal.sysctl-ipv6", SOURCE_SYSCTL)
def test_sysctl_ipv6(links, new_socket, expect):
    """Where net.ipv6.ip_nonlocal_bind is 1 every socket of IPv6 can be bound to any address; IPv4 is not touched, nor
    are its addresses in IPv6.
    """
    namespaces.set_sysctl("net.ipv6.ip_nonlocal_bind", 1)
    every_host(expect, new_socket, ALL6)
    every_host(expect, new_socket, ALL, refused=True)
    expect(REFUSED, kind=TCP6, host="mapped").of(new_socket(*TCP6.triple).bind(inet6(5000, mapped(NEIGHBOUR))))


@behaviour("bind.nonlocal.transparent-privilege", SOURCE_PRIVILEGE)
@pytest.mark.parametrize("capability", ["CAP_NET_RAW", "CAP_NET_ADMIN", "none"])
def test_transparent_privilege(capability, new_socket, expect):
    """IP_TRANSPARENT is for CAP_NET_RAW or CAP_NET_ADMIN, EPERM for others; then bind needs no capability. IP_FREEBIND
    is for everybody.
    """
    namespaces.keep_capabilities([] if capability == "none" else [capability])
    sockets = [(kind, new_socket(*kind.triple)) for kind in (TCP, UDP, TCP6, UDP6)]
    may = -EPERM if capability == "none" else 0
    for kind, socket in sockets:
        option = "IP_TRANSPARENT" if kind in (TCP, UDP) else "IPV6_TRANSPARENT"
        expect(may, kind=kind, option=option).of(socket.setsockopt(OPTIONS[option], value(option), 1))
    namespaces.keep_capabilities([])
    for kind, socket in sockets:
        answer = REFUSED if capability == "none" else 0
        host = NEIGHBOUR if kind in (TCP, UDP) else NEIGHBOUR6
        expect(answer, kind=kind, step="bind").of(socket.bind(kind.address(5000, host)))
        free = new_socket(*kind.triple)
        option = "IP_FREEBIND" if kind in (TCP, UDP) else "IPV6_FREEBIND"
        expect(0, kind=kind, option=option).of(free.setsockopt(OPTIONS[option], value(option), 1))
        expect(0, kind=kind, step="free").of(free.bind(kind.address(5001, host)))


def on_device(new_socket, kind, device):
    """A socket that is bound to a link."""
    socket = new_socket(*kind.triple)
    need(socket.setsockopt(SOL_SOCKET, value("SO_BINDTODEVICE"), device.encode() + b"\0"))
    return socket


@behaviour("bind.device.ipv4", f"{SOURCE_DEVICE}; inet_addr_type_table, inet_addr_type_dev_table")
@pytest.mark.parametrize("device", ["near0", "far0", "lo"])
def test_device_ipv4(device, links, new_socket, expect):
    """A socket with SO_BINDTODEVICE can be bound to the IPv4 addresses of every link, as one without; so can one of
    IPv6 to mapped addresses.
    """
    for host, (text, answer) in HOSTS.items():
        for kind in (*ALL, TCP6, UDP6):
            socket = on_device(new_socket, kind, device)
            address = inet(port_of(kind), host4(text)) if kind in ALL else inet6(5000, mapped(text))
            expect(answer, kind=kind, host=host).of(socket.bind(address))
            need(socket.close())


#: Which of these hosts the links have: of the link, of the machine as a whole, of nobody's scope.
DEVICES6 = {
    "near0": {"::": 0, "::1": REFUSED, LOCAL6: 0, LINK_LOCAL: 0, NEIGHBOUR6: REFUSED},
    "far0": {"::": 0, "::1": REFUSED, LOCAL6: 0, LINK_LOCAL: REFUSED, NEIGHBOUR6: REFUSED},
    "lo": {"::": 0, "::1": 0, LOCAL6: 0, LINK_LOCAL: REFUSED, NEIGHBOUR6: REFUSED},
}


@behaviour("bind.device.ipv6", f"{SOURCE_DEVICE}; ipv6_chk_addr `IFA_LINK | IFA_HOST`; ipv6(7) sin6_scope_id")
def test_device_ipv6(links, new_socket, expect):
    """Over IPv6 a socket with SO_BINDTODEVICE can be bound to global addresses of every link, to link-local and host
    addresses of its own link only; it needs no scope for these.
    """
    for device, hosts in DEVICES6.items():
        for kind in ALL6:
            for host, answer in hosts.items():
                socket = on_device(new_socket, kind, device)
                expect(answer, device=device, kind=kind, host=host).of(socket.bind(inet6(port_of(kind), host6(host))))
                need(socket.close())


@behaviour("bind.device.scope", f"{SOURCE_DEVICE}; `Override any existing binding`; ipv6(7) sin6_scope_id")
def test_device_scope(links, new_socket, expect):
    """The scope of a link-local address binds the socket to that link, which SO_BINDTODEVICE tells, instead of the link
    it was bound to before.
    """
    for kind in ALL6:
        for before in ("none", "far0"):
            socket = new_socket(*kind.triple) if before == "none" else on_device(new_socket, kind, before)
            address = inet6(port_of(kind), host6(LINK_LOCAL), links.near)
            expect(0, kind=kind, before=before).of(socket.bind(address))
            result, told = socket.getsockopt(SOL_SOCKET, value("SO_BINDTODEVICE"), 16)
            expect(b"near0\0", kind=kind, before=before, then="device").of(told, result)
            need(socket.close())


@behaviour("bind.device.gone", f"{SOURCE_DEVICE}; dev_get_by_index_rcu; bind(2) EADDRNOTAVAIL `nonexistent interface`")
def test_device_gone(links, new_socket, expect):
    """A socket whose link is gone can be bound over IPv4 as before; over IPv6 to the any-address, to others ENODEV."""
    sockets = {}
    for kind in (*ALL, *ALL6):
        for host in ("any", "loopback"):
            sockets[kind, host] = on_device(new_socket, kind, "near0")
    links.remove()
    for (kind, host), socket in sockets.items():
        answer = -ENODEV if kind in ALL6 and host != "any" else 0
        expect(answer, kind=kind, host=host).of(socket.bind(kind.address(port_of(kind), host)))
        need(socket.close())
    expect(REFUSED, kind=TCP, host="was-local").of(new_socket(*TCP.triple).bind(inet(5001, host4(LOCAL))))

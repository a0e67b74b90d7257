"""bind to addresses that are not local (IP_FREEBIND, IP_TRANSPARENT, ip_nonlocal_bind), and of sockets with a device."""

from collections.abc import Callable, Iterator, Sequence
from errno import EINVAL, ENODEV, EPERM
from itertools import chain
from socket import IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET

import pytest

from probes.abi.names import value
from probes.entry.calls import Socket
from probes.testing import VersionDifference, behaviour, need, procfs
from probes.testing.socket_kinds import RAW, RAW6, TCP, TCP6, UDP, UDP6, SocketKind
from tests.bind.bind_forms import inet, inet6
from tests.bind.bind_hosts import HOSTS, HOSTS6, NO_LINK, REFUSED, host4, host6, mapped, name_of, port_of
from tests.bind.network_links import LINK_LOCAL, LOCAL, LOCAL6, NEIGHBOUR, NEIGHBOUR6

SOURCE = "inet_can_nonlocal_bind, ipv6_can_nonlocal_bind; S4 3.2 step 5"
SOURCE_FREE = f"ip(7) IP_FREEBIND; {SOURCE}"
SOURCE_SYSCTL = f"ip(7) ip_nonlocal_bind; Documentation/networking/ip-sysctl.rst ip_nonlocal_bind; {SOURCE}"
SOURCE_PRIVILEGE = "capabilities(7) CAP_NET_RAW, CAP_NET_ADMIN `transparent proxying`; ip(7) IP_TRANSPARENT"
SOURCE_DEVICE = "socket(7) SO_BINDTODEVICE; __inet_bind, __inet6_bind, raw_bind, rawv6_bind `sk_bound_dev_if`"
RAW_SINCE = "8ff978b8b222: ipv4/raw: support binding to nonlocal addresses"
#: Options that allow addresses that are not local, with their levels.
OPTIONS = {
    "IP_FREEBIND": IPPROTO_IP, "IP_TRANSPARENT": IPPROTO_IP, "IPV6_FREEBIND": IPPROTO_IPV6,
    "IPV6_TRANSPARENT": IPPROTO_IPV6,
}  # fmt: skip
ALL, ALL6 = (TCP, UDP, RAW), (TCP6, UDP6, RAW6)


def bindings(
    kinds: Sequence[SocketKind], allowed: bool
) -> Iterator[tuple[SocketKind, str, bytes, int | VersionDifference]]:
    """Yields (kind, host, address, result of bind) for every host of each kind's family.

    `allowed` is True where an address need not be local. Hosts on which kernels differ anyway are left out.
    """
    for kind in kinds:
        for host, (text, answer) in (HOSTS if kind in ALL else HOSTS6).items():
            if isinstance(answer, VersionDifference):
                continue
            port = port_of(kind)
            address = inet(port, host4(text)) if kind in ALL else inet6(port, host6(text))
            if not allowed or answer == 0:
                yield kind, host, address, answer
            else:
                yield kind, host, address, VersionDifference("5.17", answer, 0, RAW_SINCE) if kind is RAW else 0


@behaviour("bind.nonlocal.option", f"{SOURCE_FREE}; ip(7) IP_TRANSPARENT")
@pytest.mark.parametrize("option", OPTIONS)
def test_option(option, links, new_socket, expect):
    """With IP_FREEBIND or IP_TRANSPARENT (over IPv6 IPV6_FREEBIND or IPV6_TRANSPARENT) bind accepts any unicast address,
    local or not, and getsockname returns it.
    """
    for kind, host, address, answer in bindings(ALL if option.startswith("IP_") else ALL6, allowed=True):
        socket = new_socket(*kind.triple)
        need(socket.setsockopt(OPTIONS[option], value(option), 1))
        expect(answer, kind=kind, host=host).of(socket.bind(address))
        if answer == 0:
            expect(name_of(kind, address), kind=kind, host=host, then="name").of(socket.sockname())
        need(socket.close())


@behaviour("bind.nonlocal.mapped", f"{SOURCE_FREE}; __inet6_bind `addr_type == IPV6_ADDR_MAPPED`")
@pytest.mark.parametrize("option", OPTIONS)
def test_mapped(option, links, new_socket, expect):
    """On an IPv6 TCP or UDP socket each of IP_FREEBIND, IP_TRANSPARENT, IPV6_FREEBIND and IPV6_TRANSPARENT allows IPv6
    and v4-mapped addresses that are not local; with IPV6_V6ONLY a v4-mapped address still fails with EINVAL.
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
    """With IPV6_FREEBIND bind to a link-local address still fails with EINVAL without a sin6_scope_id, and with ENODEV
    if that is the index of no link.
    """
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
    """With IP_FREEBIND or IPV6_FREEBIND a TCP socket can be bound to an address that is not local, and listen on it."""
    for kind, host, option in ((TCP, NEIGHBOUR, "IP_FREEBIND"), (TCP6, NEIGHBOUR6, "IPV6_FREEBIND")):
        socket = new_socket(*kind.triple)
        need(socket.setsockopt(OPTIONS[option], value(option), 1))
        expect(0, kind=kind, step="bind").of(socket.bind(kind.address(5000, host)))
        expect(0, kind=kind, step="listen").of(socket.listen())


@behaviour("bind.nonlocal.sysctl", SOURCE_SYSCTL)
def test_sysctl(links, new_socket, expect):
    """With net.ipv4.ip_nonlocal_bind 1 bind accepts any IPv4 unicast address, also v4-mapped; IPv6 addresses still have
    to be local.
    """
    procfs.set_sysctl("net.ipv4.ip_nonlocal_bind", 1)
    for kind, host, address, answer in chain(bindings(ALL, allowed=True), bindings(ALL6, allowed=False)):
        socket = new_socket(*kind.triple)
        expect(answer, kind=kind, host=host).of(socket.bind(address))
        if answer == 0:
            expect(name_of(kind, address), kind=kind, host=host, then="name").of(socket.sockname())
        need(socket.close())
    expect(0, kind=TCP6, host="mapped").of(new_socket(*TCP6.triple).bind(inet6(5000, mapped(NEIGHBOUR))))


@behaviour("bind.nonlocal.sysctl-ipv6", SOURCE_SYSCTL)
def test_sysctl_ipv6(links, new_socket, expect):
    """With net.ipv6.ip_nonlocal_bind 1 bind accepts any IPv6 unicast address; IPv4 addresses, also v4-mapped, still have
    to be local.
    """
    procfs.set_sysctl("net.ipv6.ip_nonlocal_bind", 1)
    for kind, host, address, answer in chain(bindings(ALL6, allowed=True), bindings(ALL, allowed=False)):
        socket = new_socket(*kind.triple)
        expect(answer, kind=kind, host=host).of(socket.bind(address))
        if answer == 0:
            expect(name_of(kind, address), kind=kind, host=host, then="name").of(socket.sockname())
        need(socket.close())
    expect(REFUSED, kind=TCP6, host="mapped").of(new_socket(*TCP6.triple).bind(inet6(5000, mapped(NEIGHBOUR))))


@behaviour("bind.nonlocal.transparent-privilege", SOURCE_PRIVILEGE)
@pytest.mark.parametrize("capability", ["CAP_NET_RAW", "CAP_NET_ADMIN", "none"])
def test_transparent_privilege(capability, new_socket, expect, caller):
    """Setting IP_TRANSPARENT needs CAP_NET_RAW or CAP_NET_ADMIN and fails with EPERM without; bind with it set needs
    no capability. IP_FREEBIND needs none.
    """
    caller.keep_capabilities([] if capability == "none" else [capability])
    sockets = [(kind, new_socket(*kind.triple)) for kind in (TCP, UDP, TCP6, UDP6)]
    may = -EPERM if capability == "none" else 0
    for kind, socket in sockets:
        option = "IP_TRANSPARENT" if kind in (TCP, UDP) else "IPV6_TRANSPARENT"
        expect(may, kind=kind, option=option).of(socket.setsockopt(OPTIONS[option], value(option), 1))
    caller.keep_capabilities([])
    for kind, socket in sockets:
        answer = REFUSED if capability == "none" else 0
        host = NEIGHBOUR if kind in (TCP, UDP) else NEIGHBOUR6
        expect(answer, kind=kind, step="bind").of(socket.bind(kind.address(5000, host)))
        free = new_socket(*kind.triple)
        option = "IP_FREEBIND" if kind in (TCP, UDP) else "IPV6_FREEBIND"
        expect(0, kind=kind, option=option).of(free.setsockopt(OPTIONS[option], value(option), 1))
        expect(0, kind=kind, step="free").of(free.bind(kind.address(5001, host)))


def on_device(new_socket: Callable[..., Socket], kind: SocketKind, device: str) -> Socket:
    """Makes a socket with SO_BINDTODEVICE."""
    socket = new_socket(*kind.triple)
    need(socket.setsockopt(SOL_SOCKET, value("SO_BINDTODEVICE"), device.encode() + b"\0"))
    return socket


@behaviour("bind.device.ipv4", f"{SOURCE_DEVICE}; inet_addr_type_table, inet_addr_type_dev_table")
@pytest.mark.parametrize("device", ["near0", "far0", "lo"])
def test_device_ipv4(device, links, new_socket, expect):
    """SO_BINDTODEVICE does not restrict the IPv4 addresses that bind accepts, nor the v4-mapped ones: those of every
    link.
    """
    for host, (text, answer) in HOSTS.items():
        for kind in (*ALL, TCP6, UDP6):
            socket = on_device(new_socket, kind, device)
            address = inet(port_of(kind), host4(text)) if kind in ALL else inet6(5000, mapped(text))
            expect(answer, kind=kind, host=host).of(socket.bind(address))
            need(socket.close())


#: IPv6 hosts by SO_BINDTODEVICE, with the result of bind.
DEVICES6 = {
    "near0": {"::": 0, "::1": REFUSED, LOCAL6: 0, LINK_LOCAL: 0, NEIGHBOUR6: REFUSED},
    "far0": {"::": 0, "::1": REFUSED, LOCAL6: 0, LINK_LOCAL: REFUSED, NEIGHBOUR6: REFUSED},
    "lo": {"::": 0, "::1": 0, LOCAL6: 0, LINK_LOCAL: REFUSED, NEIGHBOUR6: REFUSED},
}


@behaviour("bind.device.ipv6", f"{SOURCE_DEVICE}; ipv6_chk_addr `IFA_LINK | IFA_HOST`; ipv6(7) sin6_scope_id")
def test_device_ipv6(links, new_socket, expect):
    """With SO_BINDTODEVICE bind accepts the global IPv6 addresses of every link, but of link-local addresses and ::1
    only those of the device, without a sin6_scope_id.
    """
    for device, hosts in DEVICES6.items():
        for kind in ALL6:
            for host, answer in hosts.items():
                socket = on_device(new_socket, kind, device)
                expect(answer, device=device, kind=kind, host=host).of(socket.bind(inet6(port_of(kind), host6(host))))
                need(socket.close())


@behaviour("bind.device.scope", f"{SOURCE_DEVICE}; `Override any existing binding`; ipv6(7) sin6_scope_id")
def test_device_scope(links, new_socket, expect):
    """bind to a link-local address with a sin6_scope_id binds the socket to that link, in place of the device that it
    had; SO_BINDTODEVICE returns the link.
    """
    for kind in ALL6:
        for before in ("none", "far0"):
            socket = new_socket(*kind.triple) if before == "none" else on_device(new_socket, kind, before)
            address = inet6(port_of(kind), host6(LINK_LOCAL), links.near)
            expect(0, kind=kind, before=before).of(socket.bind(address))
            device = expect(b"near0\0", kind=kind, before=before, then="device")
            device.of(socket.getsockopt(SOL_SOCKET, value("SO_BINDTODEVICE"), 16))
            need(socket.close())


@behaviour("bind.device.gone", f"{SOURCE_DEVICE}; dev_get_by_index_rcu; bind(2) EADDRNOTAVAIL `nonexistent interface`")
def test_device_gone(links, new_socket, expect):
    """After its SO_BINDTODEVICE link is deleted, an IPv4 socket can be bound as before, an IPv6 socket to the wildcard
    address; other IPv6 addresses fail with ENODEV.
    """
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

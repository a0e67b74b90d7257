"""Which addresses a socket may be bound to: of this machine, of others, of many, of a link."""

from errno import EINVAL, ENODEV
from socket import IPPROTO_IPV6

from probes.abi.names import value
from probes.testing import behaviour, need
from probes.testing.socket_kinds import RAW, RAW6, TCP, TCP6, UDP, UDP6
from tests.bind.bind_forms import inet, inet6
from tests.bind.bind_hosts import HOSTS, HOSTS6, NO_LINK, REFUSED, host4, host6, mapped, name_of, port_of
from tests.bind.bind_links import LINK_LOCAL, LOCAL, LOCAL6, LOOPBACK

SOURCE = "bind(2) EADDRNOTAVAIL; ip(7); __inet_bind, raw_bind inet_addr_valid_or_nonlocal; S4 3.2 steps 4 and 5"
SOURCE6 = "bind(2) EADDRNOTAVAIL; ipv6(7); __inet6_bind, rawv6_bind, ipv6_chk_addr"
SOURCE_SCOPE = "ipv6(7) ENODEV, sin6_scope_id; __inet6_bind, rawv6_bind `__ipv6_addr_needs_scope_id`"
SOURCE_MAPPED = (
    "ipv6(7) v4-mapped; __inet6_bind `addr_type == IPV6_ADDR_MAPPED`, rawv6_bind `Raw sockets are IPv6 only`"
)
MULTICAST6 = {"site": "ff05::1", "organisation": "ff08::1", "global": "ff0e::1"}
#: These are of a link: of a node, of a link.
SCOPED_MULTICAST6 = {"node": "ff01::1", "link": "ff02::1"}


def bound(expect, kind, socket, address, answer, **case):
    """Judges a bind, and the name it gave if it must succeed."""
    expect(answer, kind=kind, **case).of(socket.bind(address))
    if answer == 0:
        result, name = socket.sockname()
        expect(name_of(kind, address), kind=kind, **case, then="name").of(name, result)
    need(socket.close())


@behaviour("bind.address.ipv4", f"{SOURCE}; ip(7) INADDR_ANY, INADDR_LOOPBACK, INADDR_BROADCAST")
def test_ipv4(links, new_socket, expect):
    """A socket can be bound to the any-address, to every address of this machine (all of 127/8 are), to broadcast and
    multicast addresses, and getsockname tells it; to any other address EADDRNOTAVAIL.
    """
    for kind in (TCP, UDP, RAW):
        for host, (text, answer) in HOSTS.items():
            bound(expect, kind, new_socket(*kind.triple), inet(port_of(kind), host4(text)), answer, host=host)


@behaviour("bind.address.ipv6", f"{SOURCE6}; IFA_F_TENTATIVE")
def test_ipv6(links, new_socket, expect):
    """A socket can be bound to the any-address and to every address of this machine, except one that is still being
    checked for duplicates; to any other address EADDRNOTAVAIL.
    """
    for kind in (TCP6, UDP6, RAW6):
        for host, (text, answer) in HOSTS6.items():
            bound(expect, kind, new_socket(*kind.triple), inet6(port_of(kind), host6(text)), answer, host=host)


@behaviour("bind.address.ipv6-multicast", "ipv6(7) multicast; __inet6_bind, rawv6_bind IPV6_ADDR_MULTICAST")
def test_ipv6_multicast(links, new_socket, expect):
    """UDP and raw sockets can be bound to multicast addresses, to those of a link with its scope only; TCP to none:
    EINVAL.
    """
    for kind in (TCP6, UDP6, RAW6):
        tcp = kind is TCP6
        for host, text in MULTICAST6.items():
            address = inet6(port_of(kind), host6(text))
            bound(expect, kind, new_socket(*kind.triple), address, -EINVAL if tcp else 0, host=host)
        for host, text in SCOPED_MULTICAST6.items():
            for scope, index, answer in (("none", 0, -EINVAL), ("link", links.near, 0), ("no-link", NO_LINK, -ENODEV)):
                address = inet6(port_of(kind), host6(text), index)
                answer = -EINVAL if tcp else answer
                case = {"kind": kind, "host": host, "scope": scope}
                expect(answer, **case).of(new_socket(*kind.triple).bind(address))


@behaviour("bind.address.ipv6-link-local", SOURCE_SCOPE)
def test_ipv6_link_local(links, new_socket, expect):
    """A link-local address is bound with the index of its link as scope: without one EINVAL, with one of no link
    ENODEV, with another link's EADDRNOTAVAIL. 24 bytes of address have no scope.
    """
    for kind in (TCP6, UDP6, RAW6):
        answers = {
            "own": (links.near, 0), "none": (0, -EINVAL),
            "no-link": (NO_LINK, -ENODEV), "minus-one": (0xFFFFFFFF, -ENODEV),
            "other-link": (links.far, REFUSED), "loopback": (LOOPBACK, REFUSED),
        }  # fmt: skip
        for scope, (index, answer) in answers.items():
            address = inet6(port_of(kind), host6(LINK_LOCAL), index)
            bound(expect, kind, new_socket(*kind.triple), address, answer, scope=scope)
        address = inet6(port_of(kind), host6(LINK_LOCAL), links.near)
        expect(-EINVAL, kind=kind, scope="cut-off").of(new_socket(*kind.triple).bind(address, 24))


@behaviour("bind.address.ipv6-scope-ignored", "ipv6(7) sin6_scope_id `only for link-local addresses`; __inet6_bind")
def test_ipv6_scope_ignored(links, new_socket, expect):
    """The scope of an address that is not link-local is not looked at, nor is the flow information."""
    for kind in (TCP6, UDP6, RAW6):
        for host in ("::", "::1", LOCAL6):
            for scope in (NO_LINK, links.far):
                socket = new_socket(*kind.triple)
                name = "far" if scope == links.far else "no-link"
                address = inet6(port_of(kind), host6(host), scope)
                address = address[:4] + b"\x0f\xff\xff\xff" + address[8:]
                expect(0, kind=kind, host=host, scope=name).of(socket.bind(address))
                result, told = socket.sockname()
                plain = name_of(kind, inet6(port_of(kind), host6(host)))
                expect(plain, kind=kind, host=host, scope=name, then="name").of(told, result)
                need(socket.close())


@behaviour("bind.address.mapped", SOURCE_MAPPED)
def test_mapped(links, new_socket, expect):
    """TCP and UDP over IPv6 can be bound to IPv4 addresses mapped into IPv6, to the same as a socket of IPv4."""
    for kind in (TCP6, UDP6):
        for host, (text, answer) in HOSTS.items():
            bound(expect, kind, new_socket(*kind.triple), inet6(5000, mapped(text)), answer, host=host)


@behaviour("bind.address.mapped-refused", f"{SOURCE_MAPPED}; ipv6(7) IPV6_V6ONLY")
def test_mapped_refused(links, new_socket, expect):
    """With IPV6_V6ONLY a socket cannot be bound to an IPv4 address, EINVAL, whether anybody has that address or not."""
    for kind in (TCP6, UDP6):
        for host, (text, _) in HOSTS.items():
            socket = new_socket(*kind.triple)
            need(socket.setsockopt(IPPROTO_IPV6, value("IPV6_V6ONLY"), 1))
            expect(-EINVAL, kind=kind, host=host).of(socket.bind(inet6(5000, mapped(text))))
            need(socket.close())


@behaviour("bind.address.mapped-raw", SOURCE_MAPPED)
def test_mapped_raw(links, new_socket, expect):
    """A raw socket of IPv6 cannot be bound to an IPv4 address: EADDRNOTAVAIL."""
    for host, (text, _) in HOSTS.items():
        expect(REFUSED, host=host).of(new_socket(*RAW6.triple).bind(inet6(0, mapped(text))))


@behaviour("bind.address.v6only-follows", "ipv6(7) IPV6_V6ONLY; __inet6_bind `sk->sk_ipv6only = 1`")
def test_v6only_follows(links, new_socket, expect):
    """A socket that was bound to an address of IPv6 is for IPv6 only: IPV6_V6ONLY says 1. One bound to the any-address
    or a mapped one keeps what it said.
    """
    for kind in (TCP6, UDP6):
        hosts = {"any": bytes(16), "mapped": mapped(LOCAL), "loopback": host6("::1"), "local": host6(LOCAL6)}
        for host, raw in hosts.items():
            socket = new_socket(*kind.triple)
            need(socket.bind(inet6(5000, raw)))
            result, told = socket.getsockopt(IPPROTO_IPV6, value("IPV6_V6ONLY"))
            only = host in ("loopback", "local")
            expect(int(only).to_bytes(4, "little"), kind=kind, host=host).of(told, result)
            need(socket.close())

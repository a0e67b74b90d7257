"""Addresses that bind accepts or refuses: local, wildcard, broadcast, multicast, link-local and v4-mapped ones."""

from errno import EINVAL, ENODEV
from socket import IPPROTO_IPV6

from probes.abi.names import value
from probes.testing import behaviour, need
from probes.testing.socket_kinds import RAW, RAW6, TCP, TCP6, UDP, UDP6
from tests.bind.bind_forms import inet, inet6
from tests.bind.bind_hosts import HOSTS, HOSTS6, NO_LINK, REFUSED, host4, host6, mapped, name_of, port_of
from tests.bind.network_links import LINK_LOCAL, LOCAL, LOCAL6, LOOPBACK

SOURCE = "bind(2) EADDRNOTAVAIL; ip(7); __inet_bind, raw_bind inet_addr_valid_or_nonlocal; S4 3.2 steps 4 and 5"
SOURCE6 = "bind(2) EADDRNOTAVAIL; ipv6(7); __inet6_bind, rawv6_bind, ipv6_chk_addr"
SOURCE_SCOPE = "ipv6(7) ENODEV, sin6_scope_id; __inet6_bind, rawv6_bind `__ipv6_addr_needs_scope_id`"
SOURCE_MAPPED = (
    "ipv6(7) v4-mapped; __inet6_bind `addr_type == IPV6_ADDR_MAPPED`, rawv6_bind `Raw sockets are IPv6 only`"
)
MULTICAST6 = {"site": "ff05::1", "organisation": "ff08::1", "global": "ff0e::1"}
#: Multicast addresses of interface-local and link-local scope: they need a sin6_scope_id.
SCOPED_MULTICAST6 = {"node": "ff01::1", "link": "ff02::1"}


@behaviour("bind.address.ipv4", f"{SOURCE}; ip(7) INADDR_ANY, INADDR_LOOPBACK, INADDR_BROADCAST")
def test_ipv4(links, new_socket, expect):
    """bind accepts the IPv4 wildcard address, every local address (all of 127/8 are), broadcast and multicast
    addresses, and getsockname returns them; any other address fails with EADDRNOTAVAIL.
    """
    for kind in (TCP, UDP, RAW):
        for host, (text, answer) in HOSTS.items():
            socket, address = new_socket(*kind.triple), inet(port_of(kind), host4(text))
            expect(answer, kind=kind, host=host).of(socket.bind(address))
            if answer == 0:
                expect(name_of(kind, address), kind=kind, host=host, then="name").of(socket.sockname())
            need(socket.close())


@behaviour("bind.address.ipv6", f"{SOURCE6}; IFA_F_TENTATIVE")
def test_ipv6(links, new_socket, expect):
    """bind accepts the IPv6 wildcard address and every local address that is not tentative (under duplicate address
    detection); any other address fails with EADDRNOTAVAIL.
    """
    for kind in (TCP6, UDP6, RAW6):
        for host, (text, answer) in HOSTS6.items():
            socket, address = new_socket(*kind.triple), inet6(port_of(kind), host6(text))
            expect(answer, kind=kind, host=host).of(socket.bind(address))
            if answer == 0:
                expect(name_of(kind, address), kind=kind, host=host, then="name").of(socket.sockname())
            need(socket.close())


@behaviour("bind.address.ipv6-multicast", "ipv6(7) multicast; __inet6_bind, rawv6_bind IPV6_ADDR_MULTICAST")
def test_ipv6_multicast(links, new_socket, expect):
    """bind of a UDP or raw socket accepts IPv6 multicast addresses, those of link scope with a sin6_scope_id only; bind
    of a TCP socket to one fails with EINVAL.
    """
    for kind in (TCP6, UDP6, RAW6):
        tcp = kind is TCP6
        for host, text in MULTICAST6.items():
            socket, address = new_socket(*kind.triple), inet6(port_of(kind), host6(text))
            expect(-EINVAL if tcp else 0, kind=kind, host=host).of(socket.bind(address))
            if not tcp:
                expect(name_of(kind, address), kind=kind, host=host, then="name").of(socket.sockname())
            need(socket.close())
        for host, text in SCOPED_MULTICAST6.items():
            for scope, index, answer in (("none", 0, -EINVAL), ("link", links.near, 0), ("no-link", NO_LINK, -ENODEV)):
                address = inet6(port_of(kind), host6(text), index)
                check = expect(-EINVAL if tcp else answer, kind=kind, host=host, scope=scope)
                check.of(new_socket(*kind.triple).bind(address))


@behaviour("bind.address.ipv6-link-local", SOURCE_SCOPE)
def test_ipv6_link_local(links, new_socket, expect):
    """A link-local address needs the index of its link as sin6_scope_id: bind fails with EINVAL for 0 or an address of
    24 bytes, which has no scope, with ENODEV for an unknown index, with EADDRNOTAVAIL for another link.
    """
    for kind in (TCP6, UDP6, RAW6):
        answers = {
            "own": (links.near, 0), "none": (0, -EINVAL),
            "no-link": (NO_LINK, -ENODEV), "minus-one": (0xFFFFFFFF, -ENODEV),
            "other-link": (links.far, REFUSED), "loopback": (LOOPBACK, REFUSED),
        }  # fmt: skip
        for scope, (index, answer) in answers.items():
            socket, address = new_socket(*kind.triple), inet6(port_of(kind), host6(LINK_LOCAL), index)
            expect(answer, kind=kind, scope=scope).of(socket.bind(address))
            if answer == 0:
                expect(name_of(kind, address), kind=kind, scope=scope, then="name").of(socket.sockname())
            need(socket.close())
        address = inet6(port_of(kind), host6(LINK_LOCAL), links.near)
        expect(-EINVAL, kind=kind, scope="cut-off").of(new_socket(*kind.triple).bind(address, 24))


@behaviour("bind.address.ipv6-scope-ignored", "ipv6(7) sin6_scope_id `only for link-local addresses`; __inet6_bind")
def test_ipv6_scope_ignored(links, new_socket, expect):
    """bind ignores sin6_scope_id of an address that is not link-local, and sin6_flowinfo; getsockname returns 0 for
    both.
    """
    for kind in (TCP6, UDP6, RAW6):
        for host in ("::", "::1", LOCAL6):
            for scope, index in {"no-link": NO_LINK, "far": links.far}.items():
                socket, address = new_socket(*kind.triple), inet6(port_of(kind), host6(host), index)
                dirty = address[:4] + b"\x0f\xff\xff\xff" + address[8:]
                expect(0, kind=kind, host=host, scope=scope).of(socket.bind(dirty))
                clean = name_of(kind, inet6(port_of(kind), host6(host)))
                expect(clean, kind=kind, host=host, scope=scope, then="name").of(socket.sockname())
                need(socket.close())


@behaviour("bind.address.mapped", SOURCE_MAPPED)
def test_mapped(links, new_socket, expect):
    """bind of an IPv6 TCP or UDP socket accepts the v4-mapped addresses whose IPv4 address an IPv4 socket can be bound
    to, and fails with EADDRNOTAVAIL for others.
    """
    for kind in (TCP6, UDP6):
        for host, (text, answer) in HOSTS.items():
            socket, address = new_socket(*kind.triple), inet6(5000, mapped(text))
            expect(answer, kind=kind, host=host).of(socket.bind(address))
            if answer == 0:
                expect(address, kind=kind, host=host, then="name").of(socket.sockname())
            need(socket.close())


@behaviour("bind.address.mapped-refused", f"{SOURCE_MAPPED}; ipv6(7) IPV6_V6ONLY")
def test_mapped_refused(links, new_socket, expect):
    """With IPV6_V6ONLY, bind to a v4-mapped address fails with EINVAL, whether the IPv4 address is local or not."""
    for kind in (TCP6, UDP6):
        for host, (text, _) in HOSTS.items():
            socket = new_socket(*kind.triple)
            need(socket.setsockopt(IPPROTO_IPV6, value("IPV6_V6ONLY"), 1))
            expect(-EINVAL, kind=kind, host=host).of(socket.bind(inet6(5000, mapped(text))))
            need(socket.close())


@behaviour("bind.address.mapped-raw", SOURCE_MAPPED)
def test_mapped_raw(links, new_socket, expect):
    """bind of an IPv6 raw socket to a v4-mapped address fails with EADDRNOTAVAIL."""
    for host, (text, _) in HOSTS.items():
        expect(REFUSED, host=host).of(new_socket(*RAW6.triple).bind(inet6(0, mapped(text))))


@behaviour("bind.address.v6only-follows", "ipv6(7) IPV6_V6ONLY; __inet6_bind `sk->sk_ipv6only = 1`")
def test_v6only_follows(links, new_socket, expect):
    """bind to an IPv6 address sets IPV6_V6ONLY to 1; bind to the wildcard or a v4-mapped address leaves it at 0."""
    for kind in (TCP6, UDP6):
        hosts = {"any": bytes(16), "mapped": mapped(LOCAL), "loopback": host6("::1"), "local": host6(LOCAL6)}
        for host, raw in hosts.items():
            socket = new_socket(*kind.triple)
            need(socket.bind(inet6(5000, raw)))
            only = int(host in ("loopback", "local")).to_bytes(4, "little")
            expect(only, kind=kind, host=host).of(socket.getsockopt(IPPROTO_IPV6, value("IPV6_V6ONLY")))
            need(socket.close())

"""Two sockets on one port: whether the second gets it, for every pair of addresses, options, devices, users and states.

What is expected is what the model of conflict_rules.py, conflict_connect.py and conflict_model.py says, which never asks
the kernel. A check has hundreds of members: its value is a mapping of rows (see conflict_table.py), each with what came
of the second socket without options, with SO_REUSEADDR, with SO_REUSEPORT and with both: "ok", or the calls that failed.
All members are played over the first entry, every seventh row over the others and for UDP-Lite, which has the code of UDP;
the first and the last member of each check and those that surprise are traced.
"""

from errno import EADDRINUSE

import pytest

from probes.entry.calls import Calls
from probes.entry.gate import Gate
from probes.sandbox import namespaces
from probes.testing import VersionDifference, behaviour, need, not_applicable
from probes.testing.fixtures import reference
from probes.testing.procfs import protocols
from probes.testing.socket_kinds import TCP, TCP6
from tests.bind.bind_links import pair
from tests.bind.conflict_meetings import meeting_checks
from tests.bind.conflict_play import Player
from tests.bind.conflict_rules import WILDCARDS_MENDED
from tests.bind.conflict_table import (
    STATES,
    UDP_STATES,
    apart_checks,
    device_checks,
    option_checks,
    three_checks,
    user_checks,
)

SOURCE = "socket(7) SO_REUSEADDR, SO_REUSEPORT; ip(7); bind(2) EADDRINUSE"
SOURCE_TCP = f"{SOURCE}; tcp(7); inet_csk_get_port, inet_csk_bind_conflict, inet_bind_conflict, inet_rcv_saddr_equal"
SOURCE_UDP = f"{SOURCE}; udp(7); udp_lib_get_port, udp_lib_lport_inuse, inet_rcv_saddr_equal"
SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY = 1, 2, 15, 41, 26
#: UDP-Lite went with 7.1; where it is, it shares its rules with UDP and its ports with nobody.
NAMES = {"tcp": "TCP", "udp": "UDP", "udp-lite": "UDP-Lite"}


@pytest.fixture
def play(request, entry, calls, memory):
    """Plays the checks of a table: all their members over the first entry, a sample over the others."""
    if "TCPv6" not in protocols():
        not_applicable("IPv6")
    quiet = Calls(Gate(entry.gate, quiet=True), entry.route, memory)
    whole = (entry.route, entry.gate) == ("socketcall", "int80")
    return Player(quiet, calls, reference(request.config).version, whole)


def present(protocol):
    """Not applicable without the protocol."""
    if NAMES[protocol] not in protocols():
        not_applicable(NAMES[protocol])


@behaviour("bind.conflict.tcp", SOURCE_TCP)
@pytest.mark.parametrize("state", STATES)
def test_tcp(state, play, expect):
    """A TCP socket is refused the port of another one with EADDRINUSE if their addresses meet, unless both have
    SO_REUSEADDR and the other does not listen, or both have SO_REUSEPORT; a listener asks once more.
    """
    for check in option_checks(state, "tcp"):
        play.check(expect, check)


@behaviour("bind.conflict.udp", SOURCE_UDP)
@pytest.mark.parametrize("state", UDP_STATES)
@pytest.mark.parametrize("protocol", ["udp", "udp-lite"])
def test_udp(protocol, state, play, expect):
    """A UDP or UDP-Lite socket is refused the port of another one with EADDRINUSE if their addresses meet, unless both
    have SO_REUSEADDR, or both have SO_REUSEPORT.
    """
    present(protocol)
    play.whole = play.whole and protocol == "udp"
    for check in option_checks(state, protocol):
        play.check(expect, check)


@behaviour("bind.conflict.device", f"{SOURCE_TCP}; udp_lib_lport_inuse; socket(7) SO_BINDTODEVICE")
@pytest.mark.parametrize(
    ("protocol", "state"),
    [*(("tcp", state) for state in ("bound", "listening", "connected", "time-wait", "accepted")), ("udp", "bound")],
)
def test_device(protocol, state, play, links, expect):
    """Sockets that are bound to two different devices do not conflict; one that is bound to none conflicts with any."""
    play.prepare = pair
    for check in device_checks(state, protocol, "near0"):
        play.check(expect, check)


@behaviour("bind.conflict.users", f"{SOURCE_TCP}; udp_lib_lport_inuse uid_eq")
@pytest.mark.sandbox(ids=2)
@pytest.mark.parametrize(
    ("protocol", "state"),
    [("tcp", "bound"), ("tcp", "listening"), ("tcp", "connected"), ("tcp", "time-wait"), ("udp", "bound")],
)
def test_users(protocol, state, play, expect):
    """SO_REUSEPORT lets sockets of one user share a port, SO_REUSEADDR those of any; a connection in TIME_WAIT belongs
    to nobody.
    """
    play.users = True
    for check in user_checks(state, protocol, namespaces.OTHER_IDS[0]):
        play.check(expect, check)


@behaviour("bind.conflict.three", f"{SOURCE_TCP}; inet_csk_update_fastreuse; udp_lib_lport_inuse, sk_add_node_rcu")
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_three(protocol, play, expect):
    """A third socket meets both that are there; UDP asks them one by one, and the first with SO_REUSEPORT decides."""
    for check in three_checks(protocol):
        play.check(expect, check)


@behaviour("bind.conflict.apart", f"{SOURCE_TCP}; {SOURCE_UDP}; tcp_prot, udp_prot, udplite_prot")
def test_apart(play, expect):
    """Each protocol has ports of its own, which IPv4 and IPv6 share; sockets on different ports never conflict."""
    there = [protocol for protocol, name in NAMES.items() if name in protocols()]
    for check in apart_checks(there):
        play.check(expect, check)


@behaviour(
    "bind.conflict.connect", "connect(2); tcp_v4_connect, tcp_v6_connect, __inet_stream_connect; ip6_datagram_connect"
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_connect(protocol, play, links, expect):
    """connect gives an unbound socket a port and one on the wildcard an address; what it was not bound to it loses again
    if nobody listens.
    """
    play.prepare = pair
    for check in meeting_checks(protocol):
        play.check(expect, check)


def second(new_socket, option, port, first, host):
    """What the bind of a second socket with an option answers, when the first had it at its bind and has lost it."""
    a, b = new_socket(*TCP.triple), new_socket(*TCP.triple)
    need(a.setsockopt(SOL_SOCKET, option, 1))
    need(a.bind(TCP.address(port, first)))
    need(a.setsockopt(SOL_SOCKET, option, 0))
    need(b.setsockopt(SOL_SOCKET, option, 1))
    return b.bind(TCP.address(port, host))


@behaviour("bind.conflict.remembered", f"{SOURCE_TCP}; inet_csk_update_fastreuse, sk_reuseport_match")
def test_remembered(new_socket, expect):
    """A port remembers the option that its first socket had at its bind, when that has lost it: since Linux 6.8 only
    SO_REUSEPORT, and for the same address only.
    """
    gone = VersionDifference(
        "6.8", before=0, after=-EADDRINUSE, cite="822fb91fc724 tcp: Check hlist_empty(&tb->bhash2)"
    )
    for port, host in enumerate(("127.0.0.1", "0.0.0.0"), 5000):
        same = host == "127.0.0.1"
        expect(0 if same else gone, option="SO_REUSEPORT", second=host).of(
            second(new_socket, SO_REUSEPORT, port, "127.0.0.1", host)
        )
        expect(gone, option="SO_REUSEADDR", second=host).of(
            second(new_socket, SO_REUSEADDR, port + 10, "127.0.0.1", host)
        )


@behaviour("bind.conflict.mapped-wildcard", f"{SOURCE_TCP}; inet_bind2_bucket_match_addr_any")
def test_mapped_wildcard(new_socket, expect):
    """A v4-mapped address conflicts with the v4-mapped wildcard, and with 0.0.0.0; the stable Linux 6.1 from 6.1.168 on
    overlooks the v4-mapped wildcard, and 0.0.0.0 if it came to a port that had that.
    """
    later = VersionDifference(
        "6.2", before=0, after=-EADDRINUSE, cite="56f3e3f01f81 tcp: Save address type in inet_bind2_bucket"
    )
    cite = "5e07e672412b tcp: Use bhash2 for v4-mapped-v6 non-wildcard address, in 6.1.168 without what followed in 6.8"
    mistaken = VersionDifference("6.1.168", before=-EADDRINUSE, after=later, cite=cite)
    first = new_socket(*TCP6.triple)
    need(first.bind(TCP6.address(5000, "::ffff:0.0.0.0")))
    expect(mistaken, second="mapped").of(new_socket(*TCP6.triple).bind(TCP6.address(5000, "::ffff:127.0.0.1")))
    expect(-EADDRINUSE, second="ipv4").of(new_socket(*TCP.triple).bind(TCP.address(5000, "127.0.0.1")))
    wildcards = [(TCP, "0.0.0.0"), (TCP6, "::ffff:0.0.0.0")]
    for port, order in enumerate((wildcards, wildcards[::-1]), 5001):
        came = []
        for kind, host in order:
            came.append(new_socket(*kind.triple))
            need(came[-1].setsockopt(SOL_SOCKET, SO_REUSEADDR, 1))
            need(came[-1].bind(kind.address(port, host)))
        need(came[0].close())
        left = order[1][0]
        announced = expect(mistaken if left is TCP else -EADDRINUSE, left=left)
        announced.of(new_socket(*TCP6.triple).bind(TCP6.address(port, "::ffff:127.0.0.1")))


@behaviour("bind.conflict.several-wildcards", f"{SOURCE_TCP}; inet_bhash2_addr_any_conflict; ipv6(7) IPV6_V6ONLY")
def test_several_wildcards(new_socket, expect):
    """An address conflicts with each wildcard that has the port, whichever came last; Linux from 6.1 on only saw the last
    one, until that was mended.
    """
    cite = "d91ef1e1b55f tcp: Fix bind() regression for v6-only wildcard and v4(-mapped-v6) non-wildcard addresses"
    mended = VersionDifference(WILDCARDS_MENDED, before=0, after=-EADDRINUSE, cite=cite)
    last = VersionDifference("6.1", before=-EADDRINUSE, after=mended, cite="28044fc1d495 net: Add a bhash2 table")
    for port, (first, second) in enumerate([(TCP, TCP6), (TCP6, TCP)], 5000):
        for kind in (first, second):
            wildcard = new_socket(*kind.triple)
            if kind is TCP6:
                need(wildcard.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1))
            need(wildcard.bind(kind.address(port, "any")))
        announced = expect(last if second is TCP6 else -EADDRINUSE, last=second)
        announced.of(new_socket(*TCP.triple).bind(TCP.address(port)))

"""Two sockets on one port: every pair of addresses, options, devices, users and states that conflicts, and none other.

The expected outcomes are those that the model of conflict_model.py predicts, which makes no call. A check has hundreds of
members: its value maps the rows of a table (conflict_table.py) to what came of the second socket without options, with
SO_REUSEADDR, with SO_REUSEPORT and with both: "ok", or the calls that failed. The rows are a balanced part of all
combinations (see conflict_table.py). All rows are played over the first entry, every seventh row over the others and for
UDP-Lite, which has the code of UDP. The first and the last member of each table and those with an unexpected outcome are
traced.
"""

from collections.abc import Callable
from errno import EADDRINUSE

import pytest

from probes.entry.calls import Calls, Socket
from probes.entry.gate import Gate
from probes.entry.memory import Memory
from probes.sandbox import namespaces
from probes.testing import VersionDifference, behaviour, need, not_applicable
from probes.testing.caller import Caller
from probes.testing.fixtures import Entry, reference
from probes.testing.procfs import protocols
from probes.testing.ranges import Ranges
from probes.testing.socket_kinds import TCP, TCP6
from tests.bind.conflict_meetings import meeting_tables
from tests.bind.conflict_play import Player, judge_tables
from tests.bind.conflict_rules import WILDCARDS_MENDED
from tests.bind.conflict_states import PASSING, STATES, UDP_STATES
from tests.bind.conflict_table import apart_tables, device_tables, option_tables, three_tables, user_tables
from tests.bind.network_links import make_pair

SOURCE = "socket(7) SO_REUSEADDR, SO_REUSEPORT; ip(7); bind(2) EADDRINUSE"
SOURCE_TCP = f"{SOURCE}; tcp(7); inet_csk_get_port, inet_csk_bind_conflict, inet_bind_conflict, inet_rcv_saddr_equal"
SOURCE_UDP = f"{SOURCE}; udp(7); udp_lib_get_port, udp_lib_lport_inuse, inet_rcv_saddr_equal"
SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY = 1, 2, 15, 41, 26
#: Names in /proc/net/protocols. Linux 7.1 removed UDP-Lite; before, it has the rules of UDP and ports of its own.
NAMES = {"tcp": "TCP", "udp": "UDP", "udp-lite": "UDP-Lite"}


@pytest.fixture
def player(
    request: pytest.FixtureRequest,
    caller: Caller,
    entry: Entry,
    the_gate: Gate,
    calls: Calls,
    memory: Memory,
    ranges: Ranges,
) -> Player:
    """Plays tables: all rows over the first entry, a sample of them over the others."""
    if "TCPv6" not in protocols():
        not_applicable("IPv6")
    quiet = Calls(the_gate.quieted(), entry.route, memory)
    return Player(caller, quiet, calls, reference(request.config).version, ranges.whole)


@behaviour("bind.conflict.tcp", SOURCE_TCP)
@pytest.mark.parametrize("state", STATES)
def test_tcp(state, player, expect):
    """bind of a TCP socket to a port fails with EADDRINUSE if another socket has it and their addresses are equal or one
    is the wildcard, unless both have SO_REUSEADDR and the other does not listen, or both have SO_REUSEPORT; listen
    checks the port again.
    """
    judge_tables(expect, player, option_tables(state, "tcp"))


@behaviour("bind.conflict.passing-states", f"{SOURCE_TCP}; RFC 9293 3.3.2")
@pytest.mark.parametrize("state", PASSING)
@pytest.mark.routes("socketcall")
def test_passing_states(state, player, expect):
    """A TCP socket that connects, or whose connection ends, keeps its port as a connected one does: in SYN_SENT, FIN_WAIT2,
    CLOSE_WAIT, and in LAST_ACK when its descriptor is closed.
    """
    player.whole = False
    judge_tables(expect, player, option_tables(state, "tcp"))


@behaviour("bind.conflict.udp", SOURCE_UDP)
@pytest.mark.parametrize("state", UDP_STATES)
@pytest.mark.parametrize("protocol", ["udp", "udp-lite"])
def test_udp(protocol, state, player, expect):
    """bind of a UDP or UDP-Lite socket to a port fails with EADDRINUSE if another socket has it and their addresses are
    equal or one is the wildcard, unless both have SO_REUSEADDR, or both have SO_REUSEPORT.
    """
    if NAMES[protocol] not in protocols():
        not_applicable(NAMES[protocol])
    player.whole = player.whole and protocol == "udp"
    judge_tables(expect, player, option_tables(state, protocol))


@behaviour("bind.conflict.device", f"{SOURCE_TCP}; udp_lib_lport_inuse; socket(7) SO_BINDTODEVICE")
@pytest.mark.parametrize(
    ("protocol", "state"),
    [*(("tcp", state) for state in ("bound", "listening", "connected", "time-wait", "accepted")), ("udp", "bound")],
)
def test_device(protocol, state, player, links, expect):
    """Sockets with SO_BINDTODEVICE for two different devices do not conflict; a socket without a device conflicts with
    those of every device.
    """
    player.prepare = make_pair
    judge_tables(expect, player, device_tables(state, protocol, "near0"))


@behaviour("bind.conflict.users", f"{SOURCE_TCP}; udp_lib_lport_inuse uid_eq")
@pytest.mark.sandbox(ids=2)
@pytest.mark.parametrize(
    ("protocol", "state"),
    [("tcp", "bound"), ("tcp", "listening"), ("tcp", "connected"), ("tcp", "time-wait"), ("udp", "bound")],
)
def test_users(protocol, state, player, expect):
    """SO_REUSEPORT lets sockets of one user share a port, SO_REUSEADDR sockets of any users; a connection in TIME_WAIT
    has no user.
    """
    player.users = True
    judge_tables(expect, player, user_tables(state, protocol, namespaces.OTHER_IDS[0]))


@behaviour(
    "bind.conflict.three",
    f"{SOURCE_TCP}; inet_csk_update_fastreuse; udp_lib_lport_inuse, sk_add_node_rcu",
    tag="implementation",
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_three(protocol, player, expect):
    """bind of a third socket is checked against both sockets that have the port; UDP stops at the first one that shares
    the port by SO_REUSEPORT.
    """
    judge_tables(expect, player, three_tables(protocol))


@behaviour("bind.conflict.apart", f"{SOURCE_TCP}; {SOURCE_UDP}; tcp_prot, udp_prot, udplite_prot")
def test_apart(player, expect):
    """Each protocol has ports of its own, which IPv4 and IPv6 share; sockets on different ports do not conflict."""
    present = [protocol for protocol, name in NAMES.items() if name in protocols()]
    judge_tables(expect, player, apart_tables(present))


@behaviour(
    "bind.conflict.connect", "connect(2); tcp_v4_connect, tcp_v6_connect, __inet_stream_connect; ip6_datagram_connect"
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_connect(protocol, player, links, expect):
    """connect gives an unbound socket a port and a socket on the wildcard a source address; if the connection is
    refused the socket keeps only what it was bound to.
    """
    player.prepare = make_pair
    judge_tables(expect, player, meeting_tables(protocol))


def prepare_second(new_socket: Callable[..., Socket], option: int, port: int, first: str) -> Socket:
    """Binds a socket that has an option and clears the option. Returns a second socket, which has the option."""
    a, b = new_socket(*TCP.triple), new_socket(*TCP.triple)
    need(a.setsockopt(SOL_SOCKET, option, 1))
    need(a.bind(TCP.address(port, first)))
    need(a.setsockopt(SOL_SOCKET, option, 0))
    need(b.setsockopt(SOL_SOCKET, option, 1))
    return b


@behaviour(
    "bind.conflict.remembered", f"{SOURCE_TCP}; inet_csk_update_fastreuse, sk_reuseport_match", tag="implementation"
)
def test_remembered(new_socket, expect):
    """The option that the first socket of a port had at bind still counts after the socket has cleared it: since Linux
    6.8 only SO_REUSEPORT, and only for the same address.
    """
    gone = VersionDifference(
        "6.8", before=0, after=-EADDRINUSE, cite="822fb91fc724 tcp: Check hlist_empty(&tb->bhash2)"
    )
    for port, host in enumerate(("127.0.0.1", "0.0.0.0"), 5000):
        second = prepare_second(new_socket, SO_REUSEPORT, port, "127.0.0.1")
        kept = 0 if host == "127.0.0.1" else gone
        expect(kept, option="SO_REUSEPORT", second=host).of(second.bind(TCP.address(port, host)))
        second = prepare_second(new_socket, SO_REUSEADDR, port + 10, "127.0.0.1")
        expect(gone, option="SO_REUSEADDR", second=host).of(second.bind(TCP.address(port + 10, host)))


@behaviour("bind.conflict.mapped-wildcard", f"{SOURCE_TCP}; inet_bind2_bucket_match_addr_any")
def test_mapped_wildcard(new_socket, expect):
    """A v4-mapped address conflicts with the v4-mapped wildcard and with 0.0.0.0; stable Linux 6.1 from 6.1.168 on
    misses the v4-mapped wildcard, and 0.0.0.0 if that was bound after the v4-mapped wildcard.
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
        bound = []
        for kind, host in order:
            bound.append(new_socket(*kind.triple))
            need(bound[-1].setsockopt(SOL_SOCKET, SO_REUSEADDR, 1))
            need(bound[-1].bind(kind.address(port, host)))
        need(bound[0].close())
        left = order[1][0]
        check = expect(mistaken if left is TCP else -EADDRINUSE, left=left)
        check.of(new_socket(*TCP6.triple).bind(TCP6.address(port, "::ffff:127.0.0.1")))


@behaviour("bind.conflict.several-wildcards", f"{SOURCE_TCP}; inet_bhash2_addr_any_conflict; ipv6(7) IPV6_V6ONLY")
def test_several_wildcards(new_socket, expect):
    """An address conflicts with each wildcard socket on the port, in whatever order they were bound; Linux from 6.1 on
    checked only the last one, until d91ef1e1b55f.
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
        check = expect(last if second is TCP6 else -EADDRINUSE, last=second)
        check.of(new_socket(*TCP.triple).bind(TCP.address(port)))

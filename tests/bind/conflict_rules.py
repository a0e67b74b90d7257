"""When two sockets cannot have the same port: the rules, each restating a kernel function, none asking the kernel.

Every rule is a question with the answer yes or no. `Rules(flipped="same_user")` turns one round: what nothing then
notices was not tested. Function names are those of Linux 6.1 and later (net/ipv4, net/ipv6); 5.10 has the same rules in
fewer functions, before inet_bhash2.
"""

import functools
from dataclasses import dataclass, field

from probes.testing.reference import Reference

ANY4, ANY6 = "0.0.0.0", "::"
MAPPED = "::ffff:"
#: What a native IPv6 address counts as where IPv4 addresses are compared (include/net/ipv6.h LOOPBACK4_IPV6).
NATIVE = "127.0.0.6"
#: The states of a socket that matter here.
CLOSED, LISTENING, CONNECTED, TIME_WAIT = "closed", "listening", "connected", "time-wait"
#: The links there are, and the one that loopback addresses belong to.
LOOPBACK_LINK = "lo"
#: Since when a port of TCP has its sockets by address only (struct inet_bind2_bucket).
BHASH2_ONLY = (6, 8)
#: Since when a port of TCP asks all of its wildcards (d91ef1e1b55f), in stable kernels too (ChangeLog-6.1.85, …).
WILDCARDS_MENDED = "6.9, 6.8.5, 6.6.26, 6.1.85"
#: tb->fastreuseport
NO, ANY_ADDRESS, STRICT = 0, 1, 2


@dataclass(eq=False)
class Sock:
    """A socket, or what is left of one in TIME_WAIT. `host4` is its local address as IPv4 sockets see it, `host6` as
    IPv6 sockets do, None for an IPv4 socket. A negative port is one that the kernel chose."""

    protocol: str
    family: int
    user: int = 0
    reuse: bool = False
    reuseport: bool = False
    v6only: bool = False
    device: str = ""
    host4: str = ANY4
    host6: str | None = None
    port: int = 0
    port_locked: bool = False
    address_locked: bool = False
    state: str = CLOSED
    remote: tuple[str, int] | None = None
    other: "Sock | None" = None
    #: It was refused by IPv4, and talks IPv4 ever after (see Connections.connect).
    stuck_in_ipv4: bool = False

    def put(self, host):
        """Takes a local address."""
        if self.family == 4:
            self.host4 = host
        else:
            self.host6 = host
            self.host4 = host.removeprefix(MAPPED) if host.startswith(MAPPED) else ANY4 if host == ANY6 else NATIVE

    def copy(self, **changes):
        """A socket like this one."""
        return Sock(**{**self.__dict__, **changes})

    @property
    def local(self):
        """Its end of a connection: IPv4 where it talks IPv4."""
        return (self.host4 if self.host6 is None or self.host6.startswith(MAPPED) else self.host6), self.port


@dataclass(eq=False)
class Bucket:
    """The sockets that have a port, in the order in which they are asked, and what the kernel remembers of them (struct
    inet_bind_bucket)."""

    owners: list[Sock] = field(default_factory=list)
    fastreuse: bool = False
    fastreuseport: int = NO
    #: The socket that set fastreuseport, as it was then: fastuid, fast_v6_rcv_saddr, fast_ipv6_only, …
    fast: Sock | None = None
    #: The families of those that came with 0.0.0.0 or the v4-mapped wildcard, which share an inet_bind2_bucket.
    zeros: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Rule:
    """What a rule says, which function of the kernel says it, and the version from which on it has nothing to say."""

    statement: str
    source: str
    until: tuple[int, ...] | None


#: Every rule of the model by name.
RULES: dict[str, Rule] = {}


def rule(source, until=None):
    """Makes a method a rule, by its name: its docstring is the statement. The answer is the contrary if it is flipped."""

    def mark(function):
        name = function.__name__
        RULES[name] = Rule(function.__doc__, source, until)

        @functools.wraps(function)
        def ask(self, *args):
            return function(self, *args) != (self.flipped == name)

        return ask

    return mark


class Rules:
    """The rules about two sockets and a port, as a kernel of some version has them."""

    def __init__(self, version, flipped=None):
        if flipped is not None and flipped not in RULES:
            raise ValueError(f"no rule is called {flipped}")
        self.version, self.flipped = version, flipped

    # Addresses.

    @rule("ipv4_rcv_saddr_equal")
    def same_ipv4(self, a, b):
        """The same IPv4 address meets itself."""
        return a.host4 == b.host4

    @rule("ipv4_rcv_saddr_equal match_wildcard")
    def any_ipv4(self, s):
        """0.0.0.0 meets every IPv4 address."""
        return s.host4 == ANY4

    @rule("ipv6_rcv_saddr_equal ipv6_addr_equal")
    def same_ipv6(self, a, b):
        """The same IPv6 address meets itself."""
        return a.host6 == b.host6

    @rule("ipv6_rcv_saddr_equal match_wildcard")
    def any_ipv6(self, s):
        """:: meets every IPv6 address, and every IPv4 address."""
        return s.host6 == ANY6

    @rule("ipv6_rcv_saddr_equal addr_type == IPV6_ADDR_MAPPED")
    def counts_as_ipv4(self, s):
        """A v4-mapped address is an IPv4 address."""
        return s.host6 is None or s.host6.startswith(MAPPED)

    @rule("ipv4_rcv_saddr_equal, ipv6_rcv_saddr_equal ipv6only; __inet_bhash2_conflict")
    def hidden_from_ipv4(self, s):
        """A socket with IPV6_V6ONLY meets no IPv4 address."""
        return s.v6only

    def addresses_meet(self, a, b, b_any=True):
        """inet_rcv_saddr_equal: whether a binder's address meets that of a socket that is there (`b_any`: also if only
        the second is the wildcard)."""
        if a.host6 is None or (self.counts_as_ipv4(a) and self.counts_as_ipv4(b)):
            wild = self.any_ipv4(a) or (b_any and self.any_ipv4(b))
            return not self.hidden_from_ipv4(b) and (wild or self.same_ipv4(a, b))
        if b_any and self.any_ipv6(b) and not (self.counts_as_ipv4(a) and self.hidden_from_ipv4(b)):
            return True
        if self.any_ipv6(a) and not (self.counts_as_ipv4(b) and self.hidden_from_ipv4(a)):
            return True
        return b.host6 is not None and self.same_ipv6(a, b)

    # Two sockets.

    @rule("inet_bind_conflict, udp_lib_lport_inuse sk_bound_dev_if")
    def devices_meet(self, a, b):
        """Sockets bound to two different devices never conflict; one without a device meets every device."""
        return not a.device or not b.device or a.device == b.device

    @rule("inet_bind_conflict, udp_lib_lport_inuse sk_reuse")
    def both_reuse(self, a, b):
        """SO_REUSEADDR on both sides lets them share."""
        return a.reuse and b.reuse

    @rule("inet_bind_conflict, inet_csk_get_port `sk_state != TCP_LISTEN`")
    def listens(self, s):
        """SO_REUSEADDR is of no use to or against a listener."""
        return s.state == LISTENING

    @rule("inet_bind_conflict, udp_lib_lport_inuse sk_reuseport")
    def both_reuseport(self, a, b):
        """SO_REUSEPORT on both sides lets them share."""
        return a.reuseport and b.reuseport

    @rule("inet_bind_conflict, udp_lib_lport_inuse, sk_reuseport_match uid_eq")
    def same_user(self, a, b):
        """SO_REUSEPORT works among the sockets of one user."""
        return a.user == b.user

    @rule("inet_bind_conflict `sk_state != TCP_TIME_WAIT`")
    def has_no_user(self, s):
        """What is left in TIME_WAIT belongs to nobody: SO_REUSEPORT works whoever comes."""
        return s.state == TIME_WAIT

    def conflict(self, a, b):
        """inet_bind_conflict with relax and reuseport_ok: whether TCP refuses a port because of a socket that has it."""
        if not self.devices_meet(a, b) or (self.both_reuse(a, b) and not self.listens(b)):
            return False
        if self.both_reuseport(a, b) and (self.has_no_user(b) or self.same_user(a, b)):
            return False
        return self.addresses_meet(a, b) and not self.overlooks(a, b)

    @rule("inet_bind2_bucket_match_addr_any; 6.1.168 has 5e07e672412b of 6.8 without the commits that follow it there")
    def overlooks(self, a, b):
        """The stable 6.1 does not see the v4-mapped wildcard when it binds another v4-mapped address, by mistake."""
        return self.may_overlook(a) and b.host6 == MAPPED + ANY4

    def may_overlook(self, a):
        """Whether a binder is of that kind."""
        mapped = a.host6 is not None and a.host6.startswith(MAPPED) and a.host4 != ANY4
        return mapped and (6, 1, 168) <= self.version < (6, 2)

    def hides_a_wildcard(self, a, bucket):
        """Whether TCP asks some wildcards on the port and not others, for reasons that the model does not follow: it says
        nothing of such a call. inet_bhash2_addr_any_conflict from 6.1 to d91ef1e1b55f asks the newest of several; where the
        v4-mapped wildcard is overlooked, so is a 0.0.0.0 that came after it, but neither if a 0.0.0.0 came first."""
        kernel = Reference("", self.version)
        if self.may_overlook(a) and len(bucket.zeros) > 1:
            return True
        if not kernel.has("6.1") or kernel.has(WILDCARDS_MENDED) or not self.counts_as_ipv4(a) or a.host4 == ANY4:
            return False
        return len({(owner.family, owner.host6) for owner in bucket.owners if owner.host4 == ANY4}) > 1

    # A port of TCP.

    @rule("inet_csk_get_port `tb->fastreuse > 0 && reuse`")
    def fast_reuse(self, bucket, s):
        """A port that only had binders with SO_REUSEADDR is given to another without asking them, even if they have
        lost the option since."""
        return bucket.fastreuse and s.reuse and not self.listens(s)

    @rule("sk_reuseport_match")
    def fast_reuseport(self, bucket, s):
        """A port whose last binder had SO_REUSEPORT is given to another of that user without asking anybody, even if
        they have lost the option since."""
        if bucket.fastreuseport == NO or not s.reuseport or not self.same_user(bucket.fast, s):
            return False
        return not self.is_strict(bucket) or self.addresses_meet(bucket.fast, s, b_any=self.wildcard_fits())

    @rule("sk_reuseport_match FASTREUSEPORT_ANY, FASTREUSEPORT_STRICT")
    def is_strict(self, bucket):
        """That is for the address of that binder only, unless it was the first on the port."""
        return bucket.fastreuseport == STRICT

    @rule("sk_reuseport_match match_sk2_wildcard")
    def wildcard_fits(self):
        """A binder on the wildcard does not get a port that way if the last one had an address."""
        return False

    @rule("inet_csk_update_fastreuse hlist_empty; since 6.8 (822fb91fc724) inet_bind2_bucket_create precedes it")
    def is_first(self, bucket):
        """Until 6.8 the first binder of a port is known as that; since then there is none, by mistake: the port has
        the address of the binder already when it is asked whether it has any. SO_REUSEADDR is never remembered then."""
        return not bucket.owners and self.version < BHASH2_ONLY

    @rule("inet_csk_update_fastreuse `if (!reuse) tb->fastreuse = 0`", until=BHASH2_ONLY)
    def ends_fast_reuse(self, s):
        """A binder without SO_REUSEADDR, or a new listener, makes a port ask its owners again."""
        return not s.reuse or self.listens(s)

    @rule("inet_csk_update_fastreuse `tb->fastreuseport = 0`")
    def ends_fast_reuseport(self, s):
        """So does one without SO_REUSEPORT, for that option."""
        return not s.reuseport

    def take_tcp(self, s, bucket):
        """inet_csk_get_port for a given port: whether the socket gets it. Called by bind, and again by listen."""
        if bucket.owners:
            fast = self.fast_reuse(bucket, s) or self.fast_reuseport(bucket, s)
            if not fast and any(self.conflict(s, owner) for owner in bucket.owners if owner is not s):
                return False
        if self.is_first(bucket):
            bucket.fastreuse = s.reuse
            bucket.fastreuseport, bucket.fast = (ANY_ADDRESS, s.copy()) if s.reuseport else (NO, None)
            return True
        if self.ends_fast_reuse(s):
            bucket.fastreuse = False
        if self.ends_fast_reuseport(s):
            bucket.fastreuseport = NO
        elif not self.fast_reuseport(bucket, s):
            bucket.fastreuseport, bucket.fast = STRICT, s.copy()
        return True

    # A port of UDP and UDP-Lite.

    @rule("udp_lib_get_port, sk_add_node_rcu hlist_add_head_rcu")
    def newest_first(self):
        """UDP asks the sockets that have the port one by one, the newest first."""
        return True

    @rule("sk_add_node_rcu hlist_add_tail_rcu")
    def asked_last(self, s):
        """IPv6 sockets that were bound with SO_REUSEPORT are asked last."""
        return s.family == 6 and s.reuseport

    @rule("udp_lib_lport_inuse `if (!bitmap) return 0`")
    def mate_decides(self):
        """The first that shares by SO_REUSEPORT ends the search: the others are not asked."""
        return True

    def take_udp(self, s, bucket):
        """udp_lib_get_port for a given port: whether the socket gets it."""
        for owner in bucket.owners:
            if self.both_reuse(s, owner) or not self.devices_meet(s, owner) or not self.addresses_meet(s, owner):
                continue
            if not (self.both_reuseport(s, owner) and self.same_user(s, owner)):
                return False
            if self.mate_decides():
                return True
        return True

    def goes_first(self, s):
        """Where a new socket of UDP comes in the order in which they are asked."""
        return self.newest_first() and not self.asked_last(s)

"""When two sockets cannot be bound to the same port: rules that restate kernel functions and make no call.

Every rule is a method that returns True or False. `Rules(version, inverted="same_user")` inverts the result of one: if no
check deviates then, that rule is not tested. Function names are those of Linux 6.1 and later (net/ipv4, net/ipv6); 5.10
has the same rules in fewer functions, before inet_bhash2.
"""

from __future__ import annotations

import functools

from probes.testing.reference import Reference
from probes.testing.rules import Rulebook
from tests.bind.conflict_sockets import (
    ANY4,
    ANY6,
    ANY_ADDRESS,
    LISTENING,
    MAPPED,
    NO,
    STRICT,
    TIME_WAIT,
    Bucket,
    Sock,
)

#: From this version on the conflict check of TCP goes by address only (struct inet_bind2_bucket).
BHASH2_ONLY = (6, 8)
#: From these versions on TCP checks all wildcard sockets of a port (d91ef1e1b55f; ChangeLog-6.1.85, …).
WILDCARDS_MENDED = "6.9, 6.8.5, 6.6.26, 6.1.85"


rule = Rulebook()
#: Every rule of the model by name.
RULES = rule.rules


@functools.cache
def checks_last_wildcard(version: tuple[int, ...]) -> bool:
    """Returns True for a kernel that checks only the newest of several wildcard sockets of a port."""
    kernel = Reference("", version)
    return kernel.has("6.1") and not kernel.has(WILDCARDS_MENDED)


class Rules:
    """The rules about two sockets and a port, for a version of the kernel."""

    def __init__(self, version: tuple[int, ...], inverted: str | None = None) -> None:
        rule.check(inverted)
        self.version, self.inverted = version, inverted

    # Addresses.

    @rule("ipv4_rcv_saddr_equal")
    def same_ipv4(self, a: Sock, b: Sock) -> bool:
        """An IPv4 address conflicts with itself."""
        return a.host4 == b.host4

    @rule("ipv4_rcv_saddr_equal match_wildcard")
    def any_ipv4(self, s: Sock) -> bool:
        """0.0.0.0 conflicts with every IPv4 address."""
        return s.host4 == ANY4

    @rule("ipv6_rcv_saddr_equal ipv6_addr_equal")
    def same_ipv6(self, a: Sock, b: Sock) -> bool:
        """An IPv6 address conflicts with itself."""
        return a.host6 == b.host6

    @rule("ipv6_rcv_saddr_equal match_wildcard")
    def any_ipv6(self, s: Sock) -> bool:
        """:: conflicts with every IPv6 and every IPv4 address."""
        return s.host6 == ANY6

    @rule("ipv6_rcv_saddr_equal addr_type == IPV6_ADDR_MAPPED")
    def counts_as_ipv4(self, s: Sock) -> bool:
        """A v4-mapped address is compared as an IPv4 address."""
        return s.host6 is None or s.is_mapped

    @rule("ipv4_rcv_saddr_equal, ipv6_rcv_saddr_equal ipv6only; __inet_bhash2_conflict")
    def hidden_from_ipv4(self, s: Sock) -> bool:
        """A socket with IPV6_V6ONLY conflicts with no IPv4 address."""
        return s.v6only

    def addresses_match(self, a: Sock, b: Sock, b_any: bool = True) -> bool:
        """Compares the address of a binder with that of a bound socket (inet_rcv_saddr_equal).

        Without `b_any` the wildcard address of the second one does not match every address.
        """
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
    def devices_match(self, a: Sock, b: Sock) -> bool:
        """Sockets bound to two different devices do not conflict; one without a device conflicts with any."""
        return not a.device or not b.device or a.device == b.device

    @rule("inet_bind_conflict, udp_lib_lport_inuse sk_reuse")
    def both_reuse(self, a: Sock, b: Sock) -> bool:
        """SO_REUSEADDR on both sockets lets them share a port."""
        return a.reuse and b.reuse

    @rule("inet_bind_conflict, inet_csk_get_port `sk_state != TCP_LISTEN`")
    def listens(self, s: Sock) -> bool:
        """SO_REUSEADDR has no effect on or against a listening socket."""
        return s.state == LISTENING

    @rule("inet_bind_conflict, udp_lib_lport_inuse sk_reuseport")
    def both_reuseport(self, a: Sock, b: Sock) -> bool:
        """SO_REUSEPORT on both sockets lets them share a port."""
        return a.reuseport and b.reuseport

    @rule("inet_bind_conflict, udp_lib_lport_inuse, sk_reuseport_match uid_eq")
    def same_user(self, a: Sock, b: Sock) -> bool:
        """SO_REUSEPORT works between sockets of one user."""
        return a.user == b.user

    @rule("inet_bind_conflict `sk_state != TCP_TIME_WAIT`")
    def has_no_user(self, s: Sock) -> bool:
        """A connection in TIME_WAIT has no user: SO_REUSEPORT works for every user."""
        return s.state == TIME_WAIT

    def conflict(self, a: Sock, b: Sock) -> bool:
        """Returns True if TCP refuses a port because of a bound socket (inet_bind_conflict, relax and reuseport_ok)."""
        if not self.devices_match(a, b) or (self.both_reuse(a, b) and not self.listens(b)):
            return False
        if self.both_reuseport(a, b) and (self.has_no_user(b) or self.same_user(a, b)):
            return False
        return self.addresses_match(a, b) and not self.overlooks(a, b)

    @rule("inet_bind2_bucket_match_addr_any; 6.1.168 has 5e07e672412b of 6.8 without the commits that follow it there")
    def overlooks(self, a: Sock, b: Sock) -> bool:
        """Linux 6.1.168 and later 6.1 miss the v4-mapped wildcard when another v4-mapped address is bound: a bug."""
        return self.may_overlook(a) and b.host6 == MAPPED + ANY4

    def may_overlook(self, a: Sock) -> bool:
        """Returns True for a kernel and a binder that this bug can concern."""
        return a.is_mapped and a.host4 != ANY4 and (6, 1, 168) <= self.version < (6, 2)

    def hides_a_wildcard(self, a: Sock, bucket: Bucket) -> bool:
        """Returns True if TCP checks some wildcard sockets of the port and not others; the model then predicts nothing.

        From 6.1 to d91ef1e1b55f inet_bhash2_addr_any_conflict checks the newest of several. Where the v4-mapped
        wildcard is missed, so is a 0.0.0.0 that came after it, but neither if a 0.0.0.0 came first.
        """
        if self.may_overlook(a) and len(bucket.zeros) > 1:
            return True
        if not checks_last_wildcard(self.version) or not self.counts_as_ipv4(a) or a.host4 == ANY4:
            return False
        return len({(owner.family, owner.host6) for owner in bucket.owners if owner.host4 == ANY4}) > 1

    # A port of TCP.

    @rule("inet_csk_get_port `tb->fastreuse > 0 && reuse`")
    def fast_reuse(self, bucket: Bucket, s: Sock) -> bool:
        """A port whose binders all had SO_REUSEADDR is given to another such one unchecked, though they may have
        cleared the option.
        """
        return bucket.fastreuse and s.reuse and not self.listens(s)

    @rule("sk_reuseport_match")
    def fast_reuseport(self, bucket: Bucket, s: Sock) -> bool:
        """A port whose last binder had SO_REUSEPORT is given to another such one of that user unchecked, though the
        option may have been cleared.
        """
        if bucket.fastreuseport == NO or bucket.fast is None or not s.reuseport or not self.same_user(bucket.fast, s):
            return False
        return not self.is_strict(bucket) or self.addresses_match(bucket.fast, s, b_any=self.wildcard_fits())

    @rule("sk_reuseport_match FASTREUSEPORT_ANY, FASTREUSEPORT_STRICT")
    def is_strict(self, bucket: Bucket) -> bool:
        """The port is given so for the address of that binder only, unless it was the first binder of the port."""
        return bucket.fastreuseport == STRICT

    @rule("sk_reuseport_match match_sk2_wildcard")
    def wildcard_fits(self) -> bool:
        """A binder to the wildcard address does not get a port so if the last binder had another address."""
        return False

    @rule("inet_csk_update_fastreuse hlist_empty; since 6.8 (822fb91fc724) inet_bind2_bucket_create precedes it")
    def is_first(self, bucket: Bucket) -> bool:
        """Until 6.8 the first binder of a port is treated as such; since then none is, so fastreuse is never set: the
        bucket of its address exists already when inet_csk_update_fastreuse checks that there is none.
        """
        return not bucket.owners and self.version < BHASH2_ONLY

    @rule("inet_csk_update_fastreuse `if (!reuse) tb->fastreuse = 0`", until=BHASH2_ONLY)
    def ends_fast_reuse(self, s: Sock) -> bool:
        """A binder without SO_REUSEADDR, or a new listener, clears fastreuse."""
        return not s.reuse or self.listens(s)

    @rule("inet_csk_update_fastreuse `tb->fastreuseport = 0`")
    def ends_fast_reuseport(self, s: Sock) -> bool:
        """A binder without SO_REUSEPORT clears fastreuseport."""
        return not s.reuseport

    def take_tcp(self, s: Sock, bucket: Bucket) -> bool:
        """Returns True if TCP gives the socket a port (inet_csk_get_port), in bind and once more in listen."""
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
    def newest_first(self) -> bool:
        """UDP checks the sockets of a port one by one, the newest first."""
        return True

    @rule("sk_add_node_rcu hlist_add_tail_rcu")
    def checked_last(self, s: Sock) -> bool:
        """IPv6 sockets that were bound with SO_REUSEPORT are checked last."""
        return s.family == 6 and s.reuseport

    @rule("udp_lib_lport_inuse `if (!bitmap) return 0`")
    def mate_decides(self) -> bool:
        """The first socket that shares the port by SO_REUSEPORT ends the search: no other is checked."""
        return True

    def take_udp(self, s: Sock, bucket: Bucket) -> bool:
        """Returns True if UDP gives the socket a port (udp_lib_get_port)."""
        for owner in bucket.owners:
            if self.both_reuse(s, owner) or not self.devices_match(s, owner) or not self.addresses_match(s, owner):
                continue
            if not (self.both_reuseport(s, owner) and self.same_user(s, owner)):
                return False
            if self.mate_decides():
                return True
        return True

    def goes_first(self, s: Sock) -> bool:
        """Returns True if a new UDP socket goes to the head of the list of its port."""
        return self.newest_first() and not self.checked_last(s)

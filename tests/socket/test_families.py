"""The family argument of socket(2): out of range, without sockets, of the initial network namespace, present, absent.

__sock_create compares the family, as a signed number, with AF_MAX before it looks at the type: one sweep of 65,536 families
over one entry, and a sample with each type over each, tell a wrong comparison or another order from the right one.
"""

from errno import EAFNOSUPPORT, EINVAL

import pytest

from probes.entry.calls import Calls
from probes.entry.sweep import Sweep
from probes.testing import VersionDifference, behaviour, need, not_applicable, procfs
from probes.testing.socket_model import (
    FAMILIES,
    FAMILY_MAX,
    INITIAL_ONLY,
    LAST_FAMILY,
    LOWEST,
    NEVER,
    STREAM,
    TYPE_MASK,
    TYPE_MAX,
    with_descriptor,
)

SOURCE = "socket(2) EAFNOSUPPORT; __sock_create `family < 0 || family >= NPROTO`; S4 2.2 step 1"
SOURCE_TYPE = "socket(2) EINVAL; __sock_create `type < 0 || type >= SOCK_MAX`; S4 2.2 step 1"
SOURCE_ABSENT = "socket(2) EAFNOSUPPORT; __sock_create `pf = net_families[family]`; S4 2.2 steps 5 and 6"
#: Types that do not exist, and that the four bits of the type can hold.
NO_TYPES = range(TYPE_MAX, TYPE_MASK + 1)


def family_sweep(calls: Calls, type: int) -> Sweep:
    """Returns a sweep of socket() over families, with protocol 0."""
    sweep = Sweep(calls)
    sweep.call("socket", sweep.value, type, 0, judged=True)
    return sweep


def type_sweep(calls: Calls, family: int) -> Sweep:
    """Returns a sweep of socket() over types, with protocol 0."""
    sweep = Sweep(calls)
    sweep.call("socket", family, sweep.value, 0, judged=True)
    return sweep


@behaviour("socket.family.out-of-range", SOURCE)
def test_out_of_range(calls, ranges, expect):
    """socket with a negative family, or one from AF_MAX on, fails with EAFNOSUPPORT, whether or not the type exists."""
    for type in range(TYPE_MASK + 1):
        families = ranges.sample((-(2**31), -1), (FAMILY_MAX, 2**31 - 1))
        expect(-EAFNOSUPPORT, type=type, families="sample").of(family_sweep(calls, type).run(families))
    name, families = ranges.of(FAMILY_MAX, 65535)
    expect(-EAFNOSUPPORT, families=name).of(family_sweep(calls, STREAM).run(families))


@behaviour("socket.family.type-out-of-range", f"{SOURCE_TYPE}; {SOURCE}")
def test_type_out_of_range(calls, expect):
    """socket with a type from 11 to 15 fails with EINVAL for every family in range, present or not."""
    for type in NO_TYPES:
        in_range = range(LAST_FAMILY)
        expect(-EINVAL, type=type, families=f"0..{in_range[-1]}").of(family_sweep(calls, type).run(in_range))
        last = VersionDifference(
            "5.15", before=-EAFNOSUPPORT, after=-EINVAL, cite="include/linux/socket.h AF_MAX with AF_MCTP"
        )
        expect(last, type=type, family=LAST_FAMILY).of(calls.socket(LAST_FAMILY, type, 0))


@behaviour("socket.family.without-sockets", SOURCE_ABSENT)
def test_without_sockets(calls, expect):
    """socket with a family that no kernel implements (AF_UNSPEC, AF_IPX, …) fails with EAFNOSUPPORT for every type."""
    for number, name in NEVER.items():
        expect(-EAFNOSUPPORT, family=name).of(type_sweep(calls, number).run(range(TYPE_MAX)))


@behaviour(
    "socket.family.initial-namespace", f"{SOURCE_ABSENT}; `net_eq(net, &init_net)` in ax25_create, atalk_create, …"
)
def test_initial_namespace(calls, expect, request):
    """socket with a family of the initial network namespace only fails with EAFNOSUPPORT in any other namespace.

    It does for every type, whether or not the kernel has the family.
    """
    if request.config.getoption("isolation") == "none":
        not_applicable("a network namespace of the sandbox's own")
    for number, name in INITIAL_ONLY.items():
        expect(-EAFNOSUPPORT, family=name).of(type_sweep(calls, number).run(range(TYPE_MAX)))


@behaviour("socket.family.types", f"{SOURCE_ABSENT}; socket(2) Some socket types may not be implemented; …_create")
@pytest.mark.parametrize("number", FAMILIES, ids=lambda number: FAMILIES[number].name)
def test_types(number, calls, expect):
    """socket with a family that the kernel has succeeds for the types that the family documents and fails for others.

    With a family that the kernel does not have, by /proc/net/protocols, it fails with EAFNOSUPPORT for every type.
    """
    family = FAMILIES[number]
    present = family.present(number)
    (free,) = procfs.lowest()
    for type in range(TYPE_MAX):
        answer = family.answer(type) if present else -EAFNOSUPPORT
        if answer is None:
            continue
        check = expect(with_descriptor(answer, LOWEST), type=type)
        result = calls.socket(number, type, 0)
        check.of(LOWEST if result == free else int(result), result)
        if result >= 0:
            need(calls.close(result))

"""The family word: out of range, without sockets, of the initial network namespace, present or absent."""

from errno import EAFNOSUPPORT, EINVAL

import pytest

from probes.entry.sweep import Sweep
from probes.testing import VersionDifference, behaviour, need, not_applicable
from probes.testing import procfs as witness
from tests.socket.socket_model import (
    FAMILIES,
    FAMILY_MAX,
    INITIAL_ONLY,
    LAST_FAMILY,
    LOWEST,
    NEVER,
    STREAM,
    TYPE_MASK,
    TYPE_MAX,
    told,
)

SOURCE = "socket(2) EAFNOSUPPORT; __sock_create `family < 0 || family >= NPROTO`; S4 2.2 step 1"
SOURCE_TYPE = "socket(2) EINVAL; __sock_create `type < 0 || type >= SOCK_MAX`; S4 2.2 step 1"
SOURCE_ABSENT = "socket(2) EAFNOSUPPORT; __sock_create `pf = net_families[family]`; S4 2.2 steps 5 and 6"
#: Types that are none, and that the four bits can spell.
NO_TYPES = range(TYPE_MAX, TYPE_MASK + 1)


def families(calls, type):
    """A sweep over families."""
    sweep = Sweep(calls)
    sweep.call("socket", sweep.value, type, 0, judged=True)
    return sweep


def types(calls, family):
    """A sweep over types."""
    sweep = Sweep(calls)
    sweep.call("socket", family, sweep.value, 0, judged=True)
    return sweep


@behaviour("socket.family.out-of-range", SOURCE)
def test_out_of_range(calls, expect):
    """A family that is negative or beyond the last one fails with EAFNOSUPPORT, whether the type is good or not."""
    for type in range(TYPE_MASK + 1):
        for family in (-1, -(2**31), -2, 0x10001, 0x7FFFFFFF):
            expect(-EAFNOSUPPORT, type=type, family=family).of(calls.socket(family, type, 0))
        above, below = range(FAMILY_MAX, 4096), range(-4096, 0)
        expect(-EAFNOSUPPORT, type=type, families=f"{FAMILY_MAX}..4095").of(families(calls, type).run(above))
        expect(-EAFNOSUPPORT, type=type, families="-4096..-1").of(families(calls, type).run(below))
    expect(-EAFNOSUPPORT, families="4096..65535").of(families(calls, STREAM).run(range(4096, 65536)))


@behaviour("socket.family.type-out-of-range", f"{SOURCE_TYPE}; {SOURCE}")
def test_type_out_of_range(calls, expect):
    """The types 11 to 15 do not exist: EINVAL for every family in range, present or not."""
    for type in NO_TYPES:
        expect(-EINVAL, type=type, families=f"0..{LAST_FAMILY - 1}").of(families(calls, type).run(range(LAST_FAMILY)))
        last = VersionDifference(
            "5.15", before=-EAFNOSUPPORT, after=-EINVAL, cite="include/linux/socket.h AF_MAX with AF_MCTP"
        )
        expect(last, type=type, family=LAST_FAMILY).of(calls.socket(LAST_FAMILY, type, 0))


@behaviour("socket.family.without-sockets", SOURCE_ABSENT)
def test_without_sockets(calls, expect):
    """A family in range of which no kernel has sockets fails with EAFNOSUPPORT, whatever the type."""
    for number, name in NEVER.items():
        expect(-EAFNOSUPPORT, family=name).of(types(calls, number).run(range(TYPE_MAX)))


@behaviour(
    "socket.family.initial-namespace", f"{SOURCE_ABSENT}; `net_eq(net, &init_net)` in ax25_create, atalk_create, …"
)
def test_initial_namespace(calls, expect, request):
    """A family that the kernel keeps to the initial network namespace fails with EAFNOSUPPORT in another one, be it
    there or not, whatever the type.
    """
    if request.config.getoption("isolation") == "none":
        not_applicable("a network namespace of the sandbox's own")
    for number, name in INITIAL_ONLY.items():
        expect(-EAFNOSUPPORT, family=name).of(types(calls, number).run(range(TYPE_MAX)))


@behaviour("socket.family.types", f"{SOURCE_ABSENT}; socket(2) Some socket types may not be implemented; …_create")
@pytest.mark.parametrize("number", FAMILIES, ids=lambda number: FAMILIES[number].name)
def test_types(number, calls, expect):
    """A family that the kernel has, by its list of protocols, makes a socket of each type that it documents and refuses
    the others; one that it does not have answers EAFNOSUPPORT for every type.
    """
    family = FAMILIES[number]
    present = family.present(number)
    for type in range(TYPE_MAX):
        expected = family.answer(type) if present else -EAFNOSUPPORT
        if expected is None:
            continue
        (free,) = witness.lowest()
        announced = expect(told(expected, LOWEST), type=type)
        result = calls.socket(number, type, 0)
        announced.of(LOWEST if result == free else int(result), result)
        if result >= 0:
            need(calls.close(result))

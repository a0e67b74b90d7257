"""The tables that convert keys of checks of earlier suite versions."""

import pytest

from probes.errors import CommandError
from probes.installation import checkout
from probes.report.check import Key
from probes.report.references import stored
from probes.testing.behaviours import registered
from tools import keys

FIRST, SECOND = TABLES = sorted((checkout() / "docs" / "keys").glob("*.tsv"))


def key(id: str, case: str, route: str, gate: str = "int80") -> Key:
    return Key(id, case, route, gate, 64)


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_rule_names_a_registered_behaviour(table):
    """A rule about an id that never existed would convert nothing."""
    assert {rule.id for rule in keys.read_table(table)} <= set(registered(checkout() / "tests"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("state=tcp words=address over=direct", "socketcall"), ("state=tcp words=address", "direct")),
        (("state=tcp words=address over=socketcall", "socketcall"), ("state=tcp words=address", "socketcall")),
        (("state=tcp words=address left=the-same", "socketcall"), ("state=tcp words=address left=the-same", "both")),
    ],
)
def test_the_dispatch_tables_have_the_route_of_their_calls(old, new):
    """The case loses `over=`, which is the route; that both routes leave the same has route `both`."""
    rules = keys.read_table(FIRST)
    id = "multiplexer.dispatch.bind"
    assert keys.convert(key(id, *old), rules) == key(id, *new)


def test_a_key_without_a_rule_stays():
    """A key that no rule matches is the same in both versions."""
    same = key("bind.rebind.bound", "kind=tcp second=same", "direct")
    assert keys.convert(same, keys.read_table(FIRST)) == same


@pytest.mark.parametrize(
    ("id", "old", "new"),
    [
        ("bind.port.capability", ("kind=tcp ports=1..65535", "direct", "int80"), ("kind=tcp ports=sample", "direct")),
        ("bind.port.capability", ("kind=tcp ports=1..65535", "socketcall", "vdso"), ("kind=tcp ports=sample", "socketcall")),
        ("bind.port.capability", ("kind=tcp ports=1..65535", "socketcall", "int80"),
         ("kind=tcp ports=1..1023", "socketcall")),
        ("socket.type.two-bits", ("family=AF_UNIX bits=0+31", "direct", "int80"), ("family=AF_UNIX bits=unknown", "direct")),
        ("socket.type.two-bits", ("family=AF_UNIX bits=3+11", "direct", "int80"), ("family=AF_UNIX bits=3+11", "direct")),
        ("bind.order.words", ("fd=none form=tcp length=-1 address=unreadable", "direct", "int80"),
         ("fd=none form=tcp", "direct")),
    ],
)  # fmt: skip
def test_keys_of_ranges_become_those_of_their_checks(id, old, new):
    """A range swept over another entry becomes a sample; members that one check judges together lose their words."""
    assert keys.convert(key(id, *old), keys.read_table(SECOND)) == key(id, *new, old[2])


def test_stored_runs_have_todays_cases():
    """docs/references was converted: no case names a route."""
    assert [name for run in stored() for name in run.answers if "over=" in name] == []


OLD = [key("a.b.c", "x=1 over=direct", "socketcall"), key("a.b.c", "x=1 over=socketcall", "socketcall"),
       key("a.b.d", "", "socketcall"), key("a.b.d", "", "direct")]  # fmt: skip
NEW = [key("a.b.c", "x=1", "direct"), key("a.b.c", "x=1", "socketcall"), key("a.b.d", "", "direct")]


def test_rules_are_derived_and_verified():
    """The rules derived from two runs convert the one into the other, exactly."""
    rules = keys.derive(OLD, NEW)
    assert rules == [
        keys.Rule("a.b.c", "*over=socketcall*", "socketcall", "socketcall"),
        keys.Rule("a.b.c", "*over=direct*", "socketcall", "direct"),
        keys.Rule("a.b.d", "*", "socketcall", "direct"),
    ]
    assert keys.verify(OLD, NEW, rules) == []
    assert keys.verify(OLD, NEW[1:], rules) == [f"{OLD[0]} became {NEW[0]}, which the new run lacks"]
    assert keys.verify(OLD, [*NEW, key("a.b.e", "", "direct")], rules) == ["a.b.e direct int80 64 is new"]
    with pytest.raises(CommandError, match="no key of the new run stands for"):
        keys.derive([key("a.b.f", "", "direct")], NEW)


@pytest.mark.parametrize("text", ["a.b.c\t*\tdirect\n", "\udcff"])
def test_a_damaged_table_is_named(text, tmp_path):
    """A line that is no rule, or a file that is not UTF-8: one line that names it."""
    path = tmp_path / "table.tsv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CommandError, match=r"table\.tsv"):
        keys.read_table(path)

"""The text of a failure: values as people read them, and the command that runs a check again."""

import shlex
import struct

import pytest

from probes.report.check import Check, Key
from probes.report.failure import Rerun, comparison, host_of, rerun_of, value

#: Bytes by hand, and what a person reads; the hexadecimal form stays beside a decoded address.
VALUES = {
    "an error": (-13, "-13 EACCES"),
    "a value": (3, "3"),
    "an address": (struct.pack("<H", 2) + bytes([0, 80, 127, 0, 0, 1]) + bytes(8), "{AF_INET 127.0.0.1:80} "),
    "an IPv6 address": (struct.pack("<H", 10) + b"\x13\x88" + bytes(19) + b"\1" + bytes(4), "{AF_INET6 [::1]:5000} "),
    "a UNIX name": (struct.pack("<H", 1) + b"name\0", '{AF_UNIX "name"} '),
    "a packet address": (struct.pack("<H", 17) + bytes(18),
                         "{AF_PACKET protocol=0 ifindex=0 hatype=0 pkttype=0 halen=0 addr=} "),
    "a cut address": (struct.pack("<H", 2) + bytes([0, 80, 127]), ""),
    "text": (b"abc", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values_are_readable(name):
    """Errors have their names, socket addresses are decoded, other bytes are hexadecimal."""
    found, shown = VALUES[name]
    if isinstance(found, bytes):
        assert value({"bytes": found.hex()}) == shown + found.hex()
    else:
        assert value(found) == shown


def test_large_tables_show_what_differs():
    """Of a table with 130 entries only the entries that differ are shown, and how many are as expected."""
    expected = {f"row {number}": "ok ok ok ok" for number in range(130)}
    actual = {**expected, "row 7": "ok ok ok bind:EADDRINUSE"}
    text = comparison(Check(Key("a.b.c", "", "direct", "int80", 64), "deviates", expected, actual))
    assert text == "expected row 7: ok ok ok ok, actual row 7: ok ok ok bind:EADDRINUSE (129 are as expected)"


AGAIN = {
    "local": (("socketcall", "check"), "local", "direct",
              "socketcall check a.b.c --case k=1 --route direct --gate int80 --seed 5"),
    "both routes": (("socketcall", "check"), "local", "both", "socketcall check a.b.c --case k=1 --gate int80 --seed 5"),
    "a target": (("socketcall", "target", "run", "i386", "--"), "i386", "direct",
                 "socketcall target run i386 -- a.b.c --case k=1 --route direct --gate int80 --seed 5"),
    "a host": (("socketcall", "check"), "ssh:vm", "direct",
               "socketcall check a.b.c --case k=1 --route direct --gate int80 --seed 5  # on ssh:vm"),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAIN)
def test_the_command_runs_the_check_again(name):
    """The facts of the run say how a check is repeated; agreement of both routes needs both."""
    again, target, route, line = AGAIN[name]
    rerun = rerun_of({"seed": 5, "target": {"name": target, "again": again}})
    assert rerun == Rerun(again, 5, host_of(target))
    callers = [{"word": 64, "options": ["--caller", "python"]}, {"word": 32, "options": ["--caller", "agent"]}]
    both = rerun_of({"seed": 5, "target": {"name": target, "again": again, "callers": callers}})
    for one in callers:
        chosen = both.command(Key("a.b.c", "k=1", route, "int80", one["word"]))
        assert chosen == line.replace("a.b.c", f"{' '.join(one['options'])} a.b.c")
    assert rerun.command(Key("a.b.c", "k=1", route, "int80", 64)) == line
    assert shlex.split(line, comments=True)[: len(again)] == list(again)

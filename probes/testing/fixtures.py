"""What tests ask for by name."""

from __future__ import annotations

import importlib.util
import os
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from probes.abi.numbers import ROUTES
from probes.entry.calls import Calls, Socket
from probes.entry.gate import Gate, gate, gate_names
from probes.entry.memory import Memory
from probes.plugin.item import CHANNEL
from probes.sandbox import namespaces
from probes.sandbox.wire import Wire
from probes.testing.behaviours import behaviour_of
from probes.testing.blocking import Meanwhile
from probes.testing.expect import Expect, need, not_applicable
from probes.testing.reference import Reference, local, parse


@dataclass(frozen=True)
class Entry:
    """How a test's calls reach the kernel: a route and a gate."""

    route: str
    gate: str

    @property
    def name(self) -> str:
        """As it reads in a test's id."""
        return f"{self.route}-{self.gate}"


def entries(config: pytest.Config, routes: tuple[str, ...]) -> list[Entry]:
    """The entries of this process that the options --route and --gate leave over."""
    wanted_route, wanted_gate = config.getoption("route"), config.getoption("gate")
    return [
        Entry(route, name)
        for route in ROUTES
        for name in gate_names()
        if route in routes and wanted_route in (None, route) and wanted_gate in (None, name)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that makes calls runs once for each entry; `@pytest.mark.routes("socketcall")` narrows that."""
    if "entry" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("routes")
        chosen = entries(metafunc.config, mark.args if mark else ROUTES)
        metafunc.parametrize("entry", chosen, ids=[entry.name for entry in chosen])


@pytest.fixture
def the_gate(entry: Entry) -> Gate:
    """The gate of this test's calls."""
    return gate(entry.gate)


@pytest.fixture
def memory() -> Memory:
    """Memory that calls may point to."""
    return Memory()


@pytest.fixture
def calls(entry: Entry, the_gate: Gate, memory: Memory) -> Calls:
    """The operations, over this test's route and gate."""
    return Calls(the_gate, entry.route, memory)


@pytest.fixture
def new_socket(calls: Calls) -> Callable[..., Socket]:
    """Makes sockets: new_socket(family, type, protocol=0). Broke if the kernel refuses one."""

    def make(family: int, type: int, protocol: int = 0) -> Socket:
        return Socket(calls, need(calls.socket(family, type, protocol), "a socket to test with"))

    return make


@pytest.fixture
def expect(request: pytest.FixtureRequest, entry: Entry) -> Iterator[Expect]:
    """The only way to judge; see Expect. At the end of the test, something must have been judged."""
    item = request.node
    this = behaviour_of(item)
    if this is None:
        raise pytest.UsageError(f"{item.nodeid} judges without being a @behaviour")
    only = item.config.getoption("case")
    against = reference(item.config)
    judge = Expect(item.config.stash[CHANNEL], this.id, parameters_of(item), entry.route, entry.gate, against, only)
    item.stash[EXPECT] = judge
    yield judge


def reference(config: pytest.Config) -> Reference:
    """What the run is judged against. Raises UsageError for a --reference that is none."""
    text = config.getoption("reference")
    try:
        return parse(text) if text else local()
    except ValueError as error:
        raise pytest.UsageError(f"--reference: {error}") from error


EXPECT: pytest.StashKey[Expect] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """After the body, in the same phase: a test that judged nothing, or left a check open, broke."""
    result = yield
    judge = pyfuncitem.stash.get(EXPECT, None)
    if judge is not None:
        judge.close()
    return result


def parameters_of(item: pytest.Item) -> dict[str, object]:
    """The parameters of a test that belong to its cases: all but its entry."""
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else {name: value for name, value in callspec.params.items() if name != "entry"}


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Random values that --seed repeats, others for each test."""
    name = request.node.nodeid.encode()
    return random.Random(request.config.getoption("seed") ^ zlib.crc32(name))


@pytest.fixture
def meanwhile() -> Meanwhile:
    """What happens to this process while it is blocked in a call: see Meanwhile."""
    return Meanwhile()


@pytest.fixture
def wire() -> Wire:
    """The frames on the links of this sandbox, from here on. Not applicable without scapy."""
    if importlib.util.find_spec("scapy") is None:
        not_applicable("Python module scapy")
    return Wire()


@pytest.fixture
def unprivileged() -> None:
    """Gives up every capability, for the rest of the test."""
    namespaces.keep_capabilities(())


@pytest.fixture(params=["no-capability", pytest.param("other-user", marks=pytest.mark.sandbox(ids=2))])
def nobody(request: pytest.FixtureRequest) -> None:
    """Somebody without any capability: the first user, who gave them up, or a second user. A part of the case."""
    if request.param == "no-capability":
        namespaces.keep_capabilities(())
    else:
        namespaces.become(namespaces.OTHER_IDS[0])


def started_as_root() -> bool:
    """Whether the run belongs to root, as seen before any sandbox."""
    return _ROOT


_ROOT = os.geteuid() == 0

"""Fixtures: gates, memory, calls, sockets, expect, and what a test needs around a call."""

from __future__ import annotations

import importlib.util
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest

from probes.abi.operations import ROUTES
from probes.entry.calls import Calls, Output, SetUpRefused, Socket
from probes.entry.gate import Gate, Result
from probes.entry.memory import Memory
from probes.report.check import BOTH
from probes.sandbox import namespaces
from probes.sandbox.channel import Channel
from probes.sandbox.wire import Wire
from probes.testing import procfs
from probes.testing.behaviours import behaviour_of
from probes.testing.blocking import Meanwhile
from probes.testing.caller import Caller
from probes.testing.callers import CallerKind, caller_of, callers
from probes.testing.children import Children
from probes.testing.expect import Expect, Expectation, need, not_applicable
from probes.testing.frames import FrameExpect
from probes.testing.ranges import WHOLE, Ranges
from probes.testing.readiness import Readiness
from probes.testing.reference import Reference, local, of_another, of_kernel, parse
from probes.testing.states import Prepare
from probes.testing.via import LINUX

#: The channel to the parent, and whether a tracer watches: set inside a sandbox only.
CHANNEL: pytest.StashKey[Channel] = pytest.StashKey()
OBSERVED: pytest.StashKey[bool] = pytest.StashKey()
#: Whether an agent gets the filter that stops its calls for the tracer.
STOPPED: pytest.StashKey[bool] = pytest.StashKey()
#: When the test's time is over (time.monotonic), None under a debugger; set inside a sandbox only.
UNTIL: pytest.StashKey[float | None] = pytest.StashKey()
#: The i386 table, and include/uapi/linux/time.h.
_CLOCK_GETTIME64, _CLOCK_REALTIME = 403, 0


@dataclass(frozen=True)
class Entry:
    """How a test's calls reach the kernel: a route, a gate, and the name of the caller.

    Route "both" is that of a test that makes calls over several routes itself; its set-up goes over socketcall.
    """

    route: str
    gate: str
    caller: str = "python"

    @property
    def name(self) -> str:
        """As it reads in a test's id, which is the same whether a run has other callers or not."""
        return f"{self.route}-{self.gate}" + ("" if self.caller == "python" else f"-{self.caller}")


def entries(config: pytest.Config, routes: tuple[str, ...], kinds: Iterable[CallerKind]) -> list[Entry]:
    """Returns the entries of some callers that the options --route and --gate select."""
    wanted_route, wanted_gate = config.getoption("route"), config.getoption("gate")
    return [
        Entry(route, name, kind.name)
        for kind in kinds
        for route in (*ROUTES, BOTH)
        for name in kind.gate_names
        if route in routes and (wanted_route in (None, route) or route == BOTH) and wanted_gate in (None, name)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every test that makes calls once for each entry; `@pytest.mark.routes("socketcall")` narrows that."""
    if "entry" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("routes")
        kinds = callers(metafunc.config).of_test(metafunc.definition)
        chosen = entries(metafunc.config, mark.args if mark else ROUTES, kinds)
        metafunc.parametrize("entry", chosen, ids=[entry.name for entry in chosen])


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> Caller:
    """Returns the process that makes this test's calls: see probes/testing/caller.py."""
    config = request.config
    started = caller_of(request.node).start(config.stash.get(STOPPED, False), config.stash[UNTIL])
    procfs.of_caller(started.files, lambda: started.process)
    return started


@pytest.fixture
def the_gate(entry: Entry, caller: Caller) -> Gate:
    """Returns the gate of this test's calls."""
    return caller.gate(entry.gate)


@pytest.fixture
def memory(caller: Caller) -> Memory:
    """Memory that calls may point to."""
    return caller.memory()


@pytest.fixture
def calls(entry: Entry, the_gate: Gate, memory: Memory) -> Calls:
    """Returns the operations, over this test's route and gate."""
    return Calls(the_gate, "socketcall" if entry.route == BOTH else entry.route, memory)


@pytest.fixture
def new_socket(calls: Calls) -> Callable[..., Socket]:
    """Makes sockets: new_socket(family, type, protocol=0). The test broke if the kernel refuses one."""

    def make(family: int, type: int, protocol: int = 0) -> Socket:
        return Socket(calls, need(calls.socket(family, type, protocol), "a socket to test with"))

    return make


@pytest.fixture
def prepare(calls: Calls) -> Prepare:
    """Makes sockets in named states, prepare("connected", TCP), over this test's route; these calls are not traced."""
    return Prepare(Calls(calls.gate.quieted(), calls.route, calls.memory))


@pytest.fixture
def expect(request: pytest.FixtureRequest, entry: Entry) -> Expect:
    """Returns the only way to judge; see Expect. At the end of the test, something must have been judged."""
    item = request.node
    this = behaviour_of(item)
    if this is None:
        raise pytest.UsageError(f"{item.nodeid} judges without being a @behaviour")
    stash = item.config.stash
    only = item.config.getoption("case")
    against = reference(item.config)
    judge = Expect(stash[CHANNEL], this.id, parameters_of(item), against, only, stash[OBSERVED])
    item.stash[EXPECT] = judge
    return judge


@dataclass(frozen=True)
class SetUp:
    """Stands for an Expectation whose call is set-up in this run: `of` insists on the value and judges nothing."""

    value: int | list[object]

    def of(self, done: Result | Output) -> None:
        """Raises SetUpRefused if the result is another one, or what the call wrote where that is judged with it."""
        why = f"a call that returns {self.value!r}"
        if not isinstance(self.value, list):
            need(done, why, returns=self.value)
        elif isinstance(done, Output) and done.actual != self.value:
            raise SetUpRefused(done.result, why)


@pytest.fixture
def expect_direct(entry: Entry, expect: Expect) -> Callable[..., Expectation | SetUp]:
    """Returns `expect` for the result of a call of one form (close, read, …), in a test that judges operations as well.

    Such a call is the same in the runs over both routes. The run over `direct` judges it, in the other it is set-up.
    """
    return expect if entry.route == "direct" else lambda value, **_: SetUp(value)


def reference(config: pytest.Config) -> Reference:
    """Returns the kernel that the run is judged against. Raises UsageError: a malformed --reference."""
    text = config.getoption("reference")
    via = callers(config).via
    try:
        if text:
            return parse(text)
        if via is None:
            return local()
        if via.kernel and via.implementation.partition("-")[0] == LINUX:
            return of_kernel(via.kernel)
        return local() if via.runs_here else of_another(via.hosted)
    except ValueError as error:
        raise pytest.UsageError(f"--reference: {error}") from error


EXPECT: pytest.StashKey[Expect] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Fails, in the same phase as its body, a test that judged nothing or left an announced check open."""
    result = yield
    judge = pyfuncitem.stash.get(EXPECT, None)
    if judge is not None:
        judge.close()
    return result


def parameters_of(item: pytest.Item) -> dict[str, object]:
    """Returns the parameters of a test that belong to its cases: all but its entry."""
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else {name: value for name, value in callspec.params.items() if name != "entry"}


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Returns a random generator that --seed repeats, seeded differently for each test."""
    name = request.node.nodeid.encode()
    return random.Random(request.config.getoption("seed") ^ zlib.crc32(name))


@pytest.fixture
def ranges(request: pytest.FixtureRequest, entry: Entry, seeded: random.Random) -> Ranges:
    """Returns the values of ranges that are swept whole over one entry: see Ranges."""
    return Ranges((entry.route, entry.gate) == WHOLE and caller_of(request.node).sweeps_whole, seeded)


@pytest.fixture
def meanwhile(caller: Caller) -> Meanwhile:
    """Steps taken while the caller is blocked in a call: see Meanwhile."""
    return Meanwhile(caller.signals())


@pytest.fixture
def clock(calls: Calls, memory: Memory) -> Callable[[], int]:
    """Reads CLOCK_REALTIME in nanoseconds by an untraced call of the caller (clock_gettime(2)). Raises SetUpRefused."""
    quiet, block = calls.gate.quieted(), memory.alloc(16)

    def now() -> int:
        need(quiet.enter(_CLOCK_GETTIME64, _CLOCK_REALTIME, block.address), "clock_gettime64")
        seconds, nanoseconds = struct.unpack("<qq", block.read())
        return int(seconds) * 10**9 + int(nanoseconds)

    return now


@pytest.fixture
def children(calls: Calls) -> Children:
    """Children of the caller: see Children."""
    return Children(Calls(calls.gate.quieted(), calls.route, calls.memory))


@pytest.fixture
def readiness(calls: Calls) -> Readiness:
    """Waits for descriptors by select, poll and epoll: see Readiness."""
    return Readiness(calls)


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Wire:
    """Records the frames on this sandbox's links from now on. Not applicable without scapy, or on another machine."""
    _require_here(request, "frames on links")
    if request.config.getoption("isolation") == "none":
        # The links would have the frames of others too.
        not_applicable("a network namespace of the test's own")
    if importlib.util.find_spec("scapy") is None:
        not_applicable("Python module scapy")
    return Wire()


@pytest.fixture
def expect_frames(expect: Expect, wire: Wire) -> FrameExpect:
    """Announces frames in the layers of scapy, and judges them: see FrameExpect."""
    return FrameExpect(expect, wire)


@pytest.fixture
def shared_files(request: pytest.FixtureRequest) -> None:
    """Requires that the caller and this process have the same files and current directory."""
    _require_here(request, "files")


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> None:
    """Processes of this machine can be beside the caller, in its kernel. Not applicable where they cannot."""
    _require_here(request, "processes beside the caller")


@pytest.fixture
def own_kernel(request: pytest.FixtureRequest) -> None:
    """Requires that the caller has a kernel of its own, whose limits a test may reach, not that of this machine."""
    via = caller_of(request.node).via
    if via is None or via.hosted:
        not_applicable("a kernel of the caller's own")


def _require_here(request: pytest.FixtureRequest, what: str) -> None:
    via = caller_of(request.node).via
    if via is not None and not via.hosted:
        not_applicable(f"{what} of {via.implementation} that this process can reach")


@pytest.fixture
def unprivileged(caller: Caller) -> None:
    """Drops every capability for the rest of the test."""
    caller.keep_capabilities(())


@pytest.fixture(params=["no-capability", pytest.param("other-user", marks=pytest.mark.sandbox(ids=2))])
def nobody(request: pytest.FixtureRequest, caller: Caller) -> None:
    """Runs the test without capabilities: same uid with capabilities dropped, or another uid. A part of the case."""
    if request.param == "no-capability":
        caller.keep_capabilities(())
    else:
        caller.become(namespaces.OTHER_IDS[0])


def started_as_root() -> bool:
    """Returns True if the process that started the run had effective uid 0."""
    return _ROOT


_ROOT = os.geteuid() == 0

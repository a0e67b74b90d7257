"""A run by pytest-xdist, on one machine or on many: docs/machines.md.

Every worker tells the controller, over a channel of its own (execnet), what it is and what it is to run, before it runs
anything; pytest-xdist brings the reports. With `--dist each` every machine has a run of its own, else all workers share
one. What only the controller has, the worker is told: the seed, the lines of --expect, the paths to collect.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from probes.installation import TARGET
from probes.plugin.run_facts import planned, run_facts
from probes.plugin.run_report import EXPECTATIONS, RunReport
from probes.plugin.xdist_args import arguments, is_elsewhere
from probes.report.check import Key
from probes.report.expectations import Expectations, ExpectedDeviations
from probes.report.machine_run import MachineRun
from probes.report.writer import PartDirectory

#: The names in a worker's input, which pytest-xdist hands over.
_INPUT, _CHANNEL = "socketcall", "socketcall_channel"
#: In what the workers of one run must be alike.
_ALIKE = ("kernel", "word", "abi", "implementation", "privileges")


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def distributes(config: pytest.Config) -> bool:
    """Whether this is a controller of pytest-xdist, which runs nothing itself."""
    mode = getattr(config.option, "dist", "no")
    return not is_worker(config) and mode != "no" and bool(config.option.tx) and not config.option.collectonly


class XdistReport(RunReport):
    """The controller's account. Nodes, specs, gateways and channels are pytest-xdist's and execnet's."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._each = config.option.dist == "each"
        self._names: dict[int, str] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._channels: list[Any] = []
        self._by_name: dict[str, MachineRun] = {}
        self._aside: PartDirectory | None = None
        self._given = config.invocation_params
        if config.option.maxworkerrestart is None and (self._each or not _local(config.option.tx)):
            # A machine that went does not come back; pytest-xdist would try, and end the run if it cannot.
            config.option.maxworkerrestart = 0

    # Before the workers

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None]:
        """Brings the machines up. Raises UsageError: one cannot be reached."""
        import execnet

        folder = self._config.getoption("report")
        if folder and self._each:
            try:
                self._aside = PartDirectory(Path(folder).absolute())
            except OSError as error:
                raise pytest.UsageError(f"cannot write to {folder}: {error.strerror}; give another --report") from error
        try:
            yield
        except pytest.UsageError:
            self.close(False)
            raise
        except (execnet.HostNotFound, execnet.RemoteError, EOFError, OSError) as error:
            self.close(False)
            name = list(self._names.values())[len(self._told)] if len(self._told) < len(self._names) else "a machine"
            raise pytest.UsageError(f"{name} cannot be reached: {_last_line(error)}; see its --tx") from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Names the machines, and reads what is expected of them. Raises UsageError: two of one name."""
        for spec in specs:
            name = re.sub(r"[^\w.-]|^\.|\.(?=(part|old)$)", "_", spec.id)
            if name in self._names.values():
                raise pytest.UsageError(f"two machines are called {name!r}: give each --tx another id=")
            self._names[id(spec)] = name
        for name in set(self._names.values() if self._each else [""]):
            self.expectations(name)
        if any(map(self._elsewhere, specs)):
            # XdistReport have a checkout and a pytest of their own: pytest-xdist would copy ours into their checkout.
            config.pluginmanager.get_plugin("dsession").nodemanager.roots.clear()  # type: ignore[union-attr]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Puts the arguments that this machine understands where pytest-xdist takes them from."""
        if self._elsewhere(gateway.spec):
            args, _ = arguments(self._config, self._given.args)
            given = self._given
            self._config.invocation_params = type(given)(args=args, plugins=given.plugins, dir=given.dir)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a worker what it needs to know, and opens the way back."""
        self._config.invocation_params = self._given
        known = self.expectations(self._name(node)).known
        told = self._told[node.gateway.id] = {}
        channel = node.gateway.newchannel()
        channel.setcallback(lambda text: told.update(json.loads(text)))
        self._channels.append(channel)
        paths = arguments(self._config, self._given.args)[1] if self._elsewhere(node.gateway.spec) else None
        spec = node.gateway.spec
        tells = {"seed": self._config.getoption("seed"), "paths": paths}
        if not spec.popen:
            tells["target"] = f"ssh:{(spec.ssh or node.gateway.id).split()[-1]}"
        if known is not None:
            tells |= {"expect": str(known.path), "known": known.texts}
        node.workerinput[_INPUT] = json.dumps(tells)
        node.workerinput[_CHANNEL] = channel

    def _elsewhere(self, spec: Any) -> bool:
        """Whether a machine has a checkout of its own; to whom --rsyncdir copies one, pytest-xdist says where."""
        return is_elsewhere(spec) and not self._config.getoption("rsyncdir")

    def _name(self, node: Any) -> str:
        """The machine of a node, "" if all share one run. Of a node that replaces another, the same."""
        return self._names[id(node.gateway.spec)] if self._each else ""

    # What workers tell

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """A worker began: what it is. Raises UsageError: it is no worker for this run."""
        self._hear_trouble(node)
        facts = self._told[node.gateway.id].get("facts")
        name = self._name(node)
        if facts is None:
            raise pytest.UsageError(f"{node.gateway.id}: no suite there: chdir= has to be its checkout")
        if (mine := self._by_name.get(name)) is not None:
            _hold_alike(mine.facts, facts, node.gateway.id)
            return
        within = self._aside.part / name if self._aside else None
        self._by_name[name] = MachineRun(facts, self.expectations(name), self.writer(facts, within), name)
        self.runs = [self._by_name[name] for name in [*self._names.values(), ""] if name in self._by_name]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """A worker collected: what it is to run."""
        tests = self._told[node.gateway.id]["tests"]
        self._by_name[self._name(node)].plan({test: Key.of_json(key) for test, key in tests.items()})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """A worker ended. Raises UsageError: before it could begin."""
        self._hear_trouble(node)
        name, told = node.gateway.id, self._told[node.gateway.id]
        if "tests" not in told:
            why = "without a word" if error is None else _last_line(error)
            raise pytest.UsageError(f"{name} ended before it told what it would run: {why}")
        if error is None:
            return
        told["gone"] = f"machine {name} is gone: {_last_line(error)}"
        if self._config.option.maxworkerrestart == 0:
            self._by_name[self._name(node)].gone(told["gone"])

    def _hear_trouble(self, node: Any) -> None:
        """Raises UsageError if the worker met one."""
        trouble = self._told[node.gateway.id].get("trouble")
        if trouble is not None:
            raise pytest.UsageError(f"{self._name(node)}: {trouble}" if self._each else trouble)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Runs it. -x ends it as without pytest-xdist, which makes a keyboard interrupt of it. Raises Session.Failed."""
        self._began = True
        try:
            return (yield)
        except KeyboardInterrupt as stop:
            if str(stop).startswith("stopping after"):
                raise session.Failed(str(stop)) from stop
            raise

    def run_of(self, report: pytest.TestReport) -> MachineRun:
        """The run of the machine that a report comes from."""
        return self._by_name[self._name(report.node)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """A worker went while it was at a test."""
        why = self._told[report.node.gateway.id]["gone"]
        self.run_of(report).lose(crashitem, why)

    def close(self, kept: bool) -> None:
        """The folders of the machines go into place as one."""
        if self._aside is not None and kept and self.runs:
            self._aside.keep()
        elif self._aside is not None:
            self._aside.discard()


def _hold_alike(first: Mapping[str, Any], other: Mapping[str, Any], name: str) -> None:
    pairs = [(what, first["target"][what], other["target"][what]) for what in _ALIKE]
    pairs += [(what, first[what], other[what]) for what in ("reference", "suite_version")]
    for what, one, another in pairs:
        if one != another:
            differ = f"{_short(one)} and {_short(another)}"
            raise pytest.UsageError(
                f"{name} has another {what} than the first worker ({differ}): one run is about one; use --dist each"
            )


def _local(specs: list[str]) -> bool:
    return all("popen" in spec.rpartition("*")[2].split("//") for spec in specs)


def _short(value: Any) -> str:
    return " ".join(value.values()) if isinstance(value, dict) else str(value)


def _last_line(error: object) -> str:
    if str(error) == "Not properly terminated":
        return "its connection or its Python ended"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class Worker:
    """The worker's side."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        source: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
        told = json.loads(source[_INPUT])
        self._channel = source[_CHANNEL]
        config.option.seed = told["seed"]
        if "target" in told:
            os.environ.setdefault(TARGET, told["target"])
        if told["paths"] is not None:
            config.args = [str(config.rootpath / path) for path in told["paths"]]
        known = ExpectedDeviations(Path(told["expect"]), told["known"]) if "known" in told else None
        config.stash[EXPECTATIONS] = Expectations(known, None, None)

    def _tell(self, **what: Any) -> None:
        self._channel.send(json.dumps(what))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None]:
        """Tells what this machine is, or why it cannot judge, before pytest-xdist says that it is ready."""
        try:
            self._tell(facts=run_facts(self._config))
        except pytest.UsageError as error:
            self._tell(trouble=str(error))
        yield

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Tells what is wrong with what was asked for. Raises UsageError, having told it."""
        try:
            return (yield)
        except pytest.UsageError as error:
            self._tell(trouble=str(error))
            raise

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tells what is to run, before pytest-xdist says that it is collected."""
        self._tell(tests={test: key.as_json() for test, key in planned(session).items()})

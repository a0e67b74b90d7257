"""Runs the suite by pytest-xdist, on one machine or on many: docs/machines.md.

Every worker sends the controller, over an execnet channel of its own, its facts and the tests that it is going to run,
before it runs anything; pytest-xdist carries the reports. With `--dist each` every machine has a run of its own, else
all workers share one. The controller sends each worker what only it has: the seed, the lines of --expect, the paths.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from probes.errors import CommandError
from probes.installation import TARGET
from probes.plugin.run_facts import planned, run_facts, sandboxes
from probes.plugin.run_report import EXPECTATIONS, RunReport
from probes.plugin.shard import Shard
from probes.plugin.xdist_args import arguments, is_remote
from probes.report.check import Key
from probes.report.directory import ReportDirectory
from probes.report.expectations import Expectations, ExpectedDeviations
from probes.report.machine_run import MachineRun
from probes.testing.callers import callers

#: The names in a worker's input, which pytest-xdist hands over.
_INPUT, _CHANNEL = "socketcall", "socketcall_channel"
#: Target properties that must be equal on all workers of one run.
_EQUAL = ("kernel", "callers", "abi", "implementation", "privileges", "isolation", "traced")


def is_worker(config: pytest.Config) -> bool:
    """Returns True if this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def distributes(config: pytest.Config) -> bool:
    """Returns True if this process is a controller of pytest-xdist, which runs no test itself."""
    mode = getattr(config.option, "dist", "no")
    return not is_worker(config) and mode != "no" and bool(config.option.tx) and not config.option.collectonly


def cpu_of(config: pytest.Config) -> int | None:
    """Returns the CPU of a process that is one of several on its machine, another for each; None for other processes.

    They are the workers that pytest-xdist numbers, gw0, gw1, …, and the parts of a run that are streamed.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if numbered := re.fullmatch("gw([0-9]+)", getattr(config, "workerinput", {}).get("workerid", "")):
        return cpus[int(numbered[1]) % len(cpus)]
    part: Shard | None = config.getoption("shard")
    if part is None or config.getoption("stream") is None:
        return None
    return cpus[(part.number - 1) * len(cpus) // part.count]


class XdistReport(RunReport):
    """The controller's report. Nodes, specs, gateways and channels are pytest-xdist's and execnet's."""

    def __init__(self, config: pytest.Config) -> None:
        """Reads the options of pytest-xdist."""
        super().__init__(config)
        self._each = config.option.dist == "each"
        self._names: dict[int, str] = {}
        self._sent: dict[str, dict[str, Any]] = {}
        self._channels: list[Any] = []
        self._by_name: dict[str, MachineRun] = {}
        self._aside: ReportDirectory | None = None
        self._given = config.invocation_params
        if config.option.maxworkerrestart is None and (self._each or not _all_local(config.option.tx)):
            # A machine that is gone does not come back; pytest-xdist would restart it, and end the run if it cannot.
            config.option.maxworkerrestart = 0

    # Before the workers

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None]:
        """Connects to the machines. Raises UsageError: one cannot be reached."""
        import execnet

        folder = self._config.getoption("report")
        if folder and self._each:
            try:
                self._aside = ReportDirectory(Path(folder).absolute())
            except CommandError as error:
                raise pytest.UsageError(str(error)) from error
        try:
            yield
        except pytest.UsageError:
            self.close(False)
            raise
        except (execnet.HostNotFound, execnet.RemoteError, EOFError, OSError) as error:
            self.close(False)
            name = list(self._names.values())[len(self._sent)] if len(self._sent) < len(self._names) else "a machine"
            raise pytest.UsageError(f"{name} cannot be reached: {_last_line(error)}; see its --tx") from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Names the machines, and reads what is expected of each. Raises UsageError: two have one name."""
        for spec in specs:
            name = re.sub(r"[^\w.-]|^\.|\.(?=(part|old)$)", "_", spec.id)
            if name in self._names.values():
                raise pytest.UsageError(f"two machines have the name {name!r}: give each --tx another id=")
            self._names[id(spec)] = name
        for name in set(self._names.values() if self._each else [""]):
            self.expectations(name)
        if any(map(self._is_remote, specs)):
            # XdistReport have a checkout and a pytest of their own: pytest-xdist would copy ours into their checkout.
            config.pluginmanager.get_plugin("dsession").nodemanager.roots.clear()  # type: ignore[union-attr]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Rewrites the arguments for a machine that has its own checkout, where pytest-xdist reads them."""
        if self._is_remote(gateway.spec):
            args, _ = arguments(self._config, self._given.args)
            given = self._given
            self._config.invocation_params = type(given)(args=args, plugins=given.plugins, dir=given.dir)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Sends a worker its input, and opens the channel on which it answers."""
        self._config.invocation_params = self._given
        known = self.expectations(self._name(node)).known
        sent = self._sent[node.gateway.id] = {}
        channel = node.gateway.newchannel()
        channel.setcallback(lambda text: sent.update(json.loads(text)))
        self._channels.append(channel)
        paths = arguments(self._config, self._given.args)[1] if self._is_remote(node.gateway.spec) else None
        spec = node.gateway.spec
        given = {"seed": self._config.getoption("seed"), "paths": paths}
        if not spec.popen:
            given["target"] = f"ssh:{(spec.ssh or node.gateway.id).split()[-1]}"
        if known is not None:
            given |= {"expect": str(known.path), "known": known.texts}
        node.workerinput[_INPUT] = json.dumps(given)
        node.workerinput[_CHANNEL] = channel

    def _is_remote(self, spec: Any) -> bool:
        """True if a machine has its own checkout; with --rsyncdir pytest-xdist copies one and knows its path."""
        return is_remote(spec) and not self._config.getoption("rsyncdir")

    def _name(self, node: Any) -> str:
        """Returns the machine's name, "" if all share one run. A node that replaces another keeps its name."""
        return self._names[id(node.gateway.spec)] if self._each else ""

    # What workers send

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Takes the facts of a worker that began. Raises UsageError: it does not fit into this run."""
        self._raise_error_of(node)
        facts = self._sent[node.gateway.id].get("facts")
        name = self._name(node)
        if facts is None:
            raise pytest.UsageError(f"{node.gateway.id}: the suite is not there: chdir= has to be its checkout")
        if (mine := self._by_name.get(name)) is not None:
            _require_equal(mine.facts, facts, node.gateway.id)
            return
        if lacks := self._sent[node.gateway.id]["lacks"]:
            at = f"{name}: " if name else ""
            self._config.get_terminal_writer().line(f"socketcall: {at}{lacks}")
        within = self._aside.part / name if self._aside else None
        self._by_name[name] = MachineRun(facts, self.expectations(name), self.writer(facts, within), name)
        self.runs = [self._by_name[name] for name in [*self._names.values(), ""] if name in self._by_name]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Takes the keys of the tests that a worker is going to run."""
        tests = self._sent[node.gateway.id]["tests"]
        self._by_name[self._name(node)].plan({test: Key.of_json(key) for test, key in tests.items()})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Takes the end of a worker. Raises UsageError: it ended before it began."""
        self._raise_error_of(node)
        name, sent = node.gateway.id, self._sent[node.gateway.id]
        if "tests" not in sent:
            why = "without an error" if error is None else _last_line(error)
            raise pytest.UsageError(f"{name} ended before it sent what it would run: {why}")
        if error is None:
            return
        sent["gone"] = f"machine {name} is gone: {_last_line(error)}"
        if self._config.option.maxworkerrestart == 0:
            self._by_name[self._name(node)].gone(sent["gone"])

    def _raise_error_of(self, node: Any) -> None:
        """Raises UsageError if the worker sent one."""
        error = self._sent[node.gateway.id].get("error")
        if error is not None:
            raise pytest.UsageError(f"{self._name(node)}: {error}" if self._each else error)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Ends -x as without pytest-xdist, which raises KeyboardInterrupt for it. Raises Session.Failed."""
        self._began = True
        try:
            return (yield)
        except KeyboardInterrupt as stop:
            if str(stop).startswith("stopping after"):
                raise session.Failed(str(stop)) from stop
            raise

    def run_of(self, report: pytest.TestReport) -> MachineRun:
        """Returns the run of the machine that a report comes from."""
        return self._by_name[self._name(report.node)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Gives the test at which a worker ended the verdict `lost`."""
        why = self._sent[report.node.gateway.id]["gone"]
        self.run_of(report).lose(crashitem, why)

    def close(self, kept: bool) -> None:
        """Moves the directories of all machines into place as one."""
        if self._aside is not None and kept and self.runs:
            self._aside.keep()
        elif self._aside is not None:
            self._aside.discard()


def _require_equal(first: Mapping[str, Any], other: Mapping[str, Any], name: str) -> None:
    pairs = [(what, first["target"][what], other["target"][what]) for what in _EQUAL]
    pairs += [(what, first[what], other[what]) for what in ("reference", "suite_version")]
    for what, one, another in pairs:
        if one != another:
            differ = f"{_short(one)} and {_short(another)}"
            raise pytest.UsageError(
                f"{name} has another {what} than the first worker ({differ}): one run has one; use --dist each"
            )


def _all_local(specs: list[str]) -> bool:
    return all("popen" in spec.rpartition("*")[2].split("//") for spec in specs)


def _short(value: Any) -> str:
    return " ".join(value.values()) if isinstance(value, dict) else str(value)


def _last_line(error: object) -> str:
    if str(error) == "Not properly terminated":
        return "its connection or its Python ended"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class Worker:
    """The side of the worker."""

    def __init__(self, config: pytest.Config) -> None:
        """Takes the input that the controller sent."""
        self._config = config
        source: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
        sent = json.loads(source[_INPUT])
        self._channel = source[_CHANNEL]
        config.option.seed = sent["seed"]
        if "target" in sent:
            os.environ.setdefault(TARGET, sent["target"])
        if sent["paths"] is not None:
            config.args = [str(config.rootpath / path) for path in sent["paths"]]
        known = ExpectedDeviations(Path(sent["expect"]), sent["known"]) if "known" in sent else None
        config.stash[EXPECTATIONS] = Expectations(known, None, None)

    def _send(self, **what: Any) -> None:
        self._channel.send(json.dumps(what))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None]:
        """Sends the facts of this machine, or why it cannot judge, before pytest-xdist reports it ready."""
        try:
            found, made = sandboxes(self._config), callers(self._config)
            lacks = [str(found)] * bool(found.lacks) + [str(made)] * bool(made.missing)
            self._send(facts=run_facts(self._config), lacks="; ".join(lacks))
        except pytest.UsageError as error:
            self._send(error=str(error))
        yield

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Sends a UsageError of the collection to the controller, and raises it."""
        try:
            return (yield)
        except pytest.UsageError as error:
            self._send(error=str(error))
            raise

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Makes what a report carries a text of JSON, before pytest-xdist sends the report: execnet has no large numbers."""
        if (judged := getattr(report, "socketcall", None)) is not None:
            report.socketcall = json.dumps(judged.as_json())  # type: ignore[attr-defined]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Sends the keys of the tests, before pytest-xdist reports them collected."""
        self._send(tests={test: key.as_json() for test, key in planned(session).items()})

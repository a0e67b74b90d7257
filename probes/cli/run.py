"""What the commands do: check, behaviours, doctor."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from probes import targets
from probes.cli import doctor as examination
from probes.entry import gate
from probes.errors import CommandError
from probes.installation import checkout, suite, write_no_bytecode
from probes.report.diff import as_json, compare, text
from probes.report.reader import read
from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.messages import SandboxFailed
from probes.sandbox.sandbox import CannotSandbox, CannotTrace, SandboxSpec
from probes.targets import i386, store

#: Those options of check that choose tests.
_CHOOSING = ("route", "gate", "shard")
#: Options of check that go to the plugin under the same name.
_PASSED_ON = (
    *_CHOOSING, "case", "seed", "report", "reference", "isolation", "deadline", "expect", "write_expect", "stream",
)  # fmt: skip


def check(args: argparse.Namespace) -> int:
    """Judges behaviours. Raises CommandError if it cannot start."""
    if args.list:
        return _list(args)
    can_start(args.isolation or "full")
    options = _given(args, _PASSED_ON)
    if args.require is not None:
        options.append(f"--require={args.require}" if args.require else "--require")
    if args.fail_fast:
        options.append("-x")
    if not sys.stdout.isatty():
        options.append("--no-progress")
    listener = _Listener()
    code = pytest.main([*_common(args), "-q", "--no-header", *options, *args.rest], plugins=[listener])
    if code == pytest.ExitCode.USAGE_ERROR:
        return 2
    if code == pytest.ExitCode.INTERRUPTED and not listener.failed_collection:
        return 130
    if listener.run is None or code == pytest.ExitCode.INTERNAL_ERROR or listener.failed_collection:
        return 3
    status: int = listener.run.status
    if status == 3 and not listener.run.counts.all["conforms"]:
        print("socketcall: nothing could be judged; see the reasons in results.jsonl", file=sys.stderr)
    return status


def _given(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name in names if (value := getattr(args, name, None)) is not None]


class _Listener:
    """Hears from pytest what the exit status needs."""

    run: Any = None
    failed_collection = False

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.run = session.config.pluginmanager.get_plugin("socketcall")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed_collection |= report.failed


class _Collector:
    """Keeps what pytest collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.errors: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")


def _common(args: argparse.Namespace) -> list[str]:
    write_no_bytecode()
    root = suite()
    tests = Path(args.tests).absolute() if args.tests else root / "tests"
    if not tests.is_dir():
        raise CommandError(f"--tests: {tests} is no folder; name one that holds folder/test_*.py")
    plugins = ["-p", "probes.testing.fixtures", "-p", "probes.plugin.plugin", "-p", "no:cacheprovider"]
    where = ["-c", str(root / "pyproject.toml"), f"--rootdir={tests.parent}", f"--ignore={tests / 'instruments'}"]
    globs = [f"--behaviour={glob}" for glob in getattr(args, "ids", ())]
    return [str(tests), *plugins, *where, *globs]


def collected(args: argparse.Namespace) -> list[pytest.Item]:
    """The tests of behaviours that a check would run. Raises CommandError if they cannot be collected."""
    collector = _Collector()
    chosen = _given(args, _CHOOSING)
    code = pytest.main([*_common(args), *chosen, "--collect-only", "-p", "no:terminal"], plugins=[collector])
    if collector.errors:
        raise CommandError(f"cannot collect {collector.errors[0]}")
    if code == pytest.ExitCode.USAGE_ERROR:
        sys.exit(2)
    return collector.items


def diff(args: argparse.Namespace) -> int:
    """Prints what changed between two runs; 1 if something did. Raises CommandError for files that are not whole."""
    found = compare(read(Path(args.old)), read(Path(args.new)))
    print(json.dumps(as_json(found), indent=1) if args.json else text(found), end="\n" if args.json else "")
    return 1 if found else 0


def views(args: argparse.Namespace) -> int:
    """Writes the other formats of a run again. Raises CommandError for files that are not whole."""
    from probes.report.writer import write_views

    write_views(Path(args.folder))
    return 0


def _list(args: argparse.Namespace) -> int:
    items = collected(args)
    # Only now: pytest rewrites the assertions of a plugin that it imports first.
    from probes.plugin.run_facts import key_of

    for item in items:
        key = key_of(item)
        print(" ".join(filter(None, (key.id, key.case and f"[{key.case}]", key.route, key.gate))))
    return 0


def behaviours(args: argparse.Namespace) -> int:
    """Prints the catalogue."""
    args.tests = None
    items = collected(args)
    from probes.report import references
    from probes.testing.behaviours import catalogue, register, registered

    tests = suite() / "tests"
    if args.register:
        register(checkout() / "tests", catalogue(items))
        return 0
    since, differ = registered(tests), references.by_behaviour(references.stored())
    for id, found in sorted(catalogue(items).items()):
        line: dict[str, Any] = {"id": id, "statement": found.statement, "source": found.source, "folder": found.folder}
        line |= {"test": found.test, "routes": found.routes, "tag": found.tag}
        line["since"] = since[id].since if id in since else "unregistered"
        line["references"] = differ.get(id, {})
        if args.json:
            print(json.dumps(line, ensure_ascii=False))
        else:
            print(f"{id}\n    {found.statement}\n    {found.source}")
    return 0


def can_start(isolation: str) -> None:
    """Raises CommandError if no test could run here: no IA32 entry, no namespaces, ptrace forbidden."""
    how = gate.dies()
    if how:
        raise CommandError(
            f"{how}: this kernel has no IA32 entry; boot one with CONFIG_IA32_EMULATION and no ia32_emulation=0"
        )
    if not Path("/proc/self").exists() or str(Path("/proc/self").readlink()) != str(os.getpid()):
        raise CommandError("/proc shows other processes than ours: mount one that belongs to this pid namespace")
    with tempfile.TemporaryDirectory(prefix="socketcall-") as work:
        try:
            outcome = sandbox.run(lambda: None, SandboxSpec(isolation=isolation), Channel(1 << 16), Path(work), 30)
        except CannotTrace as error:
            raise CommandError(f"{error}; allow ptrace (kernel.yama.ptrace_scope, the container's profile)") from error
        except CannotSandbox as error:
            raise CommandError(f"no sandbox: {error}; {_NAMESPACES}") from error
    for message in outcome.messages:
        if isinstance(message, SandboxFailed):
            raise CommandError(f"no sandbox: {message.why}; {_NAMESPACES}")


_NAMESPACES = "run as root, allow user namespaces (user.max_user_namespaces), or pass --isolation net|none"


def target_list(_: argparse.Namespace) -> int:
    """Prints targets and artefacts."""
    for name, recipe in targets.TARGETS.items():
        print(f"target   {name:20} {recipe.what if recipe else 'this machine as it is'}")
    for name, recipe in targets.RECIPES.items():
        print(f"artefact {name:20} {recipe.what}: {store.have(recipe) or 'not built'}")
    return 0


def target_build(args: argparse.Namespace) -> int:
    """Builds an artefact and prints where it is. Raises CommandError."""
    recipe = targets.RECIPES.get(args.name) or targets.TARGETS.get(args.name)
    if recipe is None:
        raise CommandError(f"nothing to build is called {args.name!r}: {', '.join(targets.RECIPES)}")
    print(store.make(recipe, _say))
    return 0


def target_clean(_: argparse.Namespace) -> int:
    """Removes artefacts that no recipe makes any more, and the VMs made of them, and prints them. For a time when nothing
    runs in them."""
    # Only now: pytest rewrites the assertions of a plugin that it imports first.
    from probes.targets import vagrant

    for path in [*vagrant.outdated(), *store.outdated(targets.RECIPES.values())]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(path)
    return 0


def target_run(args: argparse.Namespace) -> int:
    """Runs a check on a target and returns its exit status. Raises CommandError."""
    kind, _, kernel = args.name.partition(":")
    if args.name not in targets.TARGETS:
        raise CommandError(f"no target is called {args.name!r}: {', '.join(targets.TARGETS)}")
    if kind == "vagrant":
        # Only now: pytest rewrites the assertions of a plugin that it imports first.
        from probes.targets import vagrant

        return vagrant.run(kernel, args.check, _say)
    if kind == "i386":
        return i386.run(args.rest, checkout(), _say)
    return subprocess.run([sys.executable, "-m", "probes.cli.main", "check", *args.rest], check=False).returncode


def _say(line: str) -> None:
    print(f"socketcall: {line}", file=sys.stderr)


def doctor(_: argparse.Namespace) -> int:
    """Prints what this machine can do; 2 if check could not start here."""
    return examination.show(can_start)

"""Is a pytest plugin that judges mutants in place of a session's tests.

The variable SOCKETCALL_MUTANTS has its settings as JSON: `output`, the file that it writes; `seed`; `cpus`: on each it has a
process; `populations`, "A", "B" or "AB"; `names`, globs; `sample`, how many mutants of each population, 0 for all; `until`,
when the last begins (time.monotonic).
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from probes.plugin.plugin import Run
from probes.trace import ptrace
from tools.mutants import abi, observed
from tools.mutants.mutant import Mutant
from tools.mutants.runner import Runner

VARIABLE = "SOCKETCALL_MUTANTS"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Judges the mutants."""
    if VARIABLE not in os.environ or session.config.option.collectonly:
        return None
    # What started this process does not wait for what it no longer reads.
    ptrace.prctl(ptrace.PR_SET_PDEATHSIG, signal.SIGTERM)
    settings: dict[str, Any] = json.loads(os.environ[VARIABLE])
    run = next(plugin for plugin in session.config.pluginmanager.get_plugins() if isinstance(plugin, Run))
    runner = Runner(run, session.items, settings["seed"], bool(settings["sample"]), settings["cpus"])
    ids = _behaviours(runner, settings) if "A" in settings["populations"] else []
    controls = runner.control(sorted(runner.items) if "B" in settings["populations"] else ids)
    mutants = _observed(runner, ids, settings)
    if "B" in settings["populations"]:
        mutants += _sampled(abi.population(runner.seen(runner.items)), settings)
    found = {"outcomes": runner.judge_all(mutants, settings["until"]), "controls": controls, "of": len(mutants)}
    Path(settings["output"]).write_text(json.dumps(found))
    return True


def _behaviours(runner: Runner, settings: dict[str, Any]) -> list[str]:
    """Return those whose mutants of population A are judged: of a sample so many, drawn by the seed."""
    drawn = random.Random(settings["seed"]).sample(sorted(runner.items), len(runner.items))
    return drawn[: settings["sample"] or None]


def _observed(runner: Runner, ids: Sequence[str], settings: dict[str, Any]) -> list[Mutant]:
    """Return population A of these behaviours: of a sample, one mutant of each."""
    chosen: list[Mutant] = []
    for id in ids:
        all = observed.mutants(id, [*runner.seen([id])])
        mutants = [mutant for mutant in all if _is_named(mutant, settings)]
        if settings["sample"] and mutants:
            mutants = [random.Random(f"{settings['seed']} {id}").choice(mutants)]
        chosen += mutants
    return chosen


def _is_named(mutant: Mutant, settings: dict[str, Any]) -> bool:
    return any(fnmatch(mutant.name, glob) for glob in settings["names"])


def _sampled(mutants: Sequence[Mutant], settings: dict[str, Any]) -> list[Mutant]:
    """Return a sample of population B, each mutant by its name alone: the others do not change which are drawn."""
    chosen = [mutant for mutant in mutants if _is_named(mutant, settings)]
    drawn = sorted(chosen, key=lambda mutant: crc32(f"{settings['seed']} {mutant.name}".encode()))
    return drawn[: settings["sample"] or None]

"""Is a pytest plugin that judges mutants in place of a session's tests.

The variable SOCKETCALL_MUTANTS has its settings as JSON: `output`, the file that it writes; `seed`; `share` [k, n]: this
process has the mutants k, k + n, …; `populations`, "A", "B" or "AB"; `sample`, how many mutants of each, 0 for all.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from probes.plugin.plugin import Run
from tools.mutants import abi
from tools.mutants.mutant import Mutant, Outcome
from tools.mutants.runner import Runner

VARIABLE = "SOCKETCALL_MUTANTS"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Judges the mutants of this process's share."""
    if VARIABLE not in os.environ or session.config.option.collectonly:
        return None
    settings: dict[str, Any] = json.loads(os.environ[VARIABLE])
    run = next(plugin for plugin in session.config.pluginmanager.get_plugins() if isinstance(plugin, Run))
    runner = Runner(run, session.items, settings["seed"])
    outcomes: list[Outcome] = []
    if "A" in settings["populations"]:
        outcomes += _observed(runner, settings)
    if "B" in settings["populations"]:
        mutants = _sampled(abi.population(), settings)
        outcomes += [runner.judge(mutant) for mutant in mutants]
    lines = [_line(outcome) for outcome in outcomes]
    Path(settings["output"]).write_text(json.dumps({"outcomes": lines, "controls": runner.wrong_controls}))
    return True


def _observed(runner: Runner, settings: dict[str, Any]) -> list[Outcome]:
    """Judges population A: of a sample, one mutant of each of as many behaviours, drawn by the seed."""
    k, n = settings["share"]
    drawing = random.Random(settings["seed"])
    ids = drawing.sample(sorted(runner.items), len(runner.items))
    if settings["sample"]:
        ids = ids[: settings["sample"]]
    outcomes = []
    for id in ids[k::n]:
        runner.control([id])
        mutants = runner.mutants_of(id)
        if settings["sample"] and mutants:
            mutants = [random.Random(f"{settings['seed']} {id}").choice(mutants)]
        outcomes += [runner.judge(mutant) for mutant in mutants]
    return outcomes


def _sampled(mutants: list[Mutant], settings: dict[str, Any]) -> list[Mutant]:
    k, n = settings["share"]
    if settings["sample"]:
        mutants = random.Random(settings["seed"]).sample(mutants, min(len(mutants), settings["sample"]))
    return mutants[k::n]


def _line(outcome: Outcome) -> dict[str, Any]:
    mutant = outcome.mutant
    fields = ("population", "name", "of", "operator", "operation", "behaviours", "folder")
    line = {name: value for name, value in vars(outcome).items() if name != "mutant"}
    return {**{name: getattr(mutant, name) for name in fields}, **line}

"""Facts that the files of a run carry: its target, its user, its reference, the keys of its tests."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import pytest

from probes import VERSION
from probes.errors import CommandError
from probes.installation import again_words, implementation, target
from probes.report.check import Key
from probes.sandbox import trial
from probes.sandbox.trial import Found
from probes.testing.behaviours import behaviour_of
from probes.testing.callers import caller_of, callers, entry_of
from probes.testing.expect import case_text
from probes.testing.fixtures import parameters_of, reference
from probes.testing.reference import local

_FOUND: pytest.StashKey[Found] = pytest.StashKey()


def sandboxes(config: pytest.Config) -> Found:
    """Returns the sandboxes that work in this process, found once. Raises UsageError: none does.

    From then on the value of --isolation is what was found.
    """
    found = config.stash.get(_FOUND, None)
    if found is None:
        try:
            calls = callers(config).via is None
            found = config.stash[_FOUND] = trial.find(config.getoption("isolation"), calls)
        except CommandError as error:
            raise pytest.UsageError(str(error)) from error
        config.option.isolation = found.isolation
    return found


def run_facts(config: pytest.Config) -> dict[str, Any]:
    """Returns the target, the privileges there, the reference and the seed of this run."""
    host, found, via = platform.uname(), sandboxes(config), callers(config).via
    facts = {
        "name": target(),
        "kernel": (via and via.kernel) or {"release": host.release, "version": host.version, "machine": host.machine},
        "callers": [kind.as_json() for kind in callers(config).kinds],
        "abi": local().abi if via is None else reference(config).abi,
        "implementation": config.getoption("implementation") or (via.implementation if via else implementation()),
        **(via.facts if via else {}),
        # The launcher of a target gives the command itself.
        "again": [*again_words(), *(via.words if via and target() == "local" else [])],
        "privileges": "root" if os.geteuid() == 0 else "user",
        "isolation": (via.isolation if via else "") or found.isolation,
        "traced": found.trace != "none",
        **({"seccomp_filter": found.filter} if found.filter else {}),
        "modules": _modules(),
    }
    seed = config.getoption("seed")
    return {"suite_version": VERSION, "seed": seed, "reference": str(reference(config)), "target": facts}


def _modules() -> list[str]:
    """Returns the kernel modules loaded now: they decide which protocols exist."""
    listed = Path("/proc/modules")
    return sorted(line.split()[0] for line in listed.read_text().splitlines()) if listed.exists() else []


def key_of(item: pytest.Item) -> Key:
    """Returns the key of a whole test."""
    this = behaviour_of(item)
    entry = entry_of(item)
    case = case_text(parameters_of(item))
    word = caller_of(item).word
    return Key(this.id if this else "", case, entry.route if entry else "", entry.gate if entry else "", word)


def planned(session: pytest.Session) -> dict[str, Key]:
    """Returns the keys of the tests of behaviours that a session is going to run, by node id."""
    return {item.nodeid: key_of(item) for item in session.items if behaviour_of(item)}

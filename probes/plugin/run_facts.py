"""What a run is, and what each of its tests is about: facts that the files carry."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import pytest

from probes import VERSION
from probes.entry.gate import WORD
from probes.installation import target
from probes.plugin.verdicts import Subject
from probes.testing.behaviours import behaviour_of
from probes.testing.expect import case_text
from probes.testing.fixtures import parameters_of, reference
from probes.testing.reference import local


def run_facts(config: pytest.Config) -> dict[str, Any]:
    """The target, who we are on it, and what we judge against."""
    host = platform.uname()
    facts = {
        "name": target(),
        "kernel": {"release": host.release, "version": host.version, "machine": host.machine},
        "word": WORD,
        "abi": local().abi,
        "implementation": "linux",
        "privileges": "root" if os.geteuid() == 0 else "user",
        "modules": _modules(),
    }
    seed = config.getoption("seed")
    return {"suite_version": VERSION, "seed": seed, "reference": str(reference(config)), "target": facts}


def _modules() -> list[str]:
    """The kernel's modules that are loaded now: they decide which protocols a run meets."""
    listed = Path("/proc/modules")
    return sorted(line.split()[0] for line in listed.read_text().splitlines()) if listed.exists() else []


def subject_of(item: pytest.Item, observed: bool = True) -> Subject:
    """The key of a whole test."""
    this = behaviour_of(item)
    callspec = getattr(item, "callspec", None)
    entry = callspec.params.get("entry") if callspec else None
    return Subject(
        this.id if this else "", case_text(parameters_of(item)),
        entry.route if entry else "", entry.gate if entry else "", WORD, observed,
    )  # fmt: skip

"""Reads the stored runs on genuine kernels (docs/references/*.json): what each answered where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from probes.installation import suite
from probes.report.check import Json


@dataclass(frozen=True)
class Answer:
    """What a kernel answered where genuine kernels differ.

    `of` is "entry" for a difference of native and compat entry, "version" for one of kernel versions; `cite` names the
    commit.
    """

    cite: str
    actual: Json
    of: str


@dataclass(frozen=True)
class StoredRun:
    """What is stored of a whole run on a genuine kernel.

    `reference` is "i386 6.1.176"; `kernel` has release, machine and abi; `counts` the checks by verdict; `answers` the
    differences by "id case".
    """

    reference: str
    kernel: Mapping[str, str]
    counts: Mapping[str, int]
    answers: Mapping[str, Answer]

    def as_json(self) -> dict[str, Json]:
        """Return the object that the file has."""
        answers = {name: dict(answer.__dict__) for name, answer in self.answers.items()}
        return {**self.__dict__, "kernel": dict(self.kernel), "counts": dict(self.counts), "answers": answers}

    @classmethod
    def of_json(cls, line: Mapping[str, Json]) -> StoredRun:
        """Read the object of a file."""
        answers = {name: Answer(**answer) for name, answer in line["answers"].items()}
        return cls(line["reference"], line["kernel"], line["counts"], answers)


def directory() -> Path:
    """Return the directory of the stored runs."""
    return suite() / "docs" / "references"


def stored() -> list[StoredRun]:
    """Return the stored runs: native before compat, old before new."""
    found = [StoredRun.of_json(json.loads(path.read_text())) for path in directory().glob("*.json")]
    return sorted(found, key=lambda one: (one.kernel["abi"] != "i386", version_numbers(one.reference)))


def version_numbers(reference: str) -> list[int]:
    """Return [6, 1, 176] of "i386 6.1.176"."""
    return [int(number) for number in re.findall(r"\d+", reference.rpartition(" ")[2])]


def by_behaviour(runs: Iterable[StoredRun]) -> dict[str, dict[str, dict[str, Json]]]:
    """Return, for each behaviour with a difference, {case: {kernel: what it answered}}."""
    found: dict[str, dict[str, dict[str, Json]]] = {}
    for one in runs:
        for name, answer in one.answers.items():
            id, _, case = name.partition(" ")
            found.setdefault(id, {}).setdefault(case, {})[one.reference] = answer.actual
    return found

"""Implements `socketcall behaviours`: lists the catalogue, and registers new ids."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from probes.cli.collection import collected
from probes.installation import checkout, suite
from probes.report import references

if TYPE_CHECKING:
    from probes.report.check import Json
    from probes.testing.behaviours import Behaviour


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="as JSON lines: also folder, test, routes, tag, since, references, python (why an agent cannot judge it)",
    )
    parser.add_argument("--register", action="store_true", help="append new ids to tests/ids.txt")


def main(args: argparse.Namespace) -> int:
    """Prints the catalogue, or registers its new ids. Raises CommandError: the tests cannot be collected."""
    # Each behaviour once is enough.
    items = collected(args, ["--caller=python"])
    # Not before pytest has imported the plugin, whose assertions it rewrites.
    from probes.testing.behaviours import catalogue, register, registered

    found = catalogue(items)
    if args.register:
        register(checkout() / "tests", found)
        return 0
    since = {id: one.since for id, one in registered(suite() / "tests").items()}
    answers = references.by_behaviour(references.stored())
    for id, behaviour in sorted(found.items()):
        if args.json:
            line = _line(behaviour, since.get(id, "unregistered"), answers.get(id, {}))
            print(json.dumps(line, ensure_ascii=False))
        else:
            print(f"{id}\n    {behaviour.statement}\n    {behaviour.source}")
    return 0


def _line(behaviour: Behaviour, since: str, answers: dict[str, dict[str, Json]]) -> dict[str, Json]:
    return {
        "id": behaviour.id, "statement": behaviour.statement, "source": behaviour.source, "folder": behaviour.folder,
        "test": behaviour.test, "routes": behaviour.routes, "tag": behaviour.tag, "since": since, "references": answers,
        "python": behaviour.python,
    }  # fmt: skip

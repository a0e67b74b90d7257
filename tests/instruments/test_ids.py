"""Compares ids.txt, which is append-only, with the catalogue and with its history."""

import json
import subprocess
from pathlib import Path

from probes.installation import checkout
from probes.report import references
from probes.testing.behaviours import IDS, registered
from tests.instruments.support import installed, run_command


def test_catalogue_and_list_agree(tmp_path: Path) -> None:
    """Every behaviour has an id that is not retired, and every id that is not retired has a behaviour."""
    run = run_command(tmp_path, "behaviours", "--json")
    lines = [json.loads(line) for line in run.out.splitlines()]
    catalogue = {line["id"] for line in lines}
    with_references = {line["id"] for line in lines if line["references"]}
    assert with_references == set(references.by_behaviour(references.stored()))
    current = {id for id, line in registered(checkout() / "tests").items() if not line.retired}
    assert catalogue - current == set(), "run `socketcall behaviours --register`"
    assert current - catalogue == set(), "an id without a test keeps its line, with the version that retired it"


def test_no_id_was_ever_removed() -> None:
    """Every id that any commit added or removed is in the list."""
    installed("git")
    log = ["git", "log", "--format=", "--unified=0", "-p", "--", f"tests/{IDS}"]
    changes = subprocess.run(log, cwd=checkout(), capture_output=True, text=True, check=True, timeout=60).stdout
    ever = {line[1:].split()[0] for line in changes.splitlines() if line[:1] in "+-" and line[1:2].islower()}
    assert ever <= set(registered(checkout() / "tests"))

"""ids.txt: every id that was ever given, for ever."""

import json
import subprocess

from probes.installation import checkout
from probes.testing.behaviours import IDS, registered
from tests.instruments.support import installed, run_command
from tools import references


def test_catalogue_and_list_agree(tmp_path):
    """Every behaviour is registered and not retired; every id that is not retired has its behaviour."""
    run = run_command(tmp_path, "behaviours", "--json")
    lines = [json.loads(line) for line in run.out.splitlines()]
    catalogue = {line["id"] for line in lines}
    differ = {line["id"] for line in lines if line["references"]}
    assert differ == set(references.by_behaviour(references.stored()))
    alive = {id for id, line in registered(checkout() / "tests").items() if not line.retired}
    assert catalogue - alive == set(), "run `socketcall behaviours --register`"
    assert alive - catalogue == set(), "an id that is gone keeps its line, with the version that retired it"


def test_nothing_was_ever_removed():
    """No commit took an id away, or gave one back a past."""
    installed("git")
    log = ["git", "log", "--format=", "--unified=0", "-p", "--", f"tests/{IDS}"]
    changes = subprocess.run(log, cwd=checkout(), capture_output=True, text=True, check=True, timeout=60).stdout
    ever = {line[1:].split()[0] for line in changes.splitlines() if line[:1] in "+-" and line[1:2].islower()}
    assert ever <= set(registered(checkout() / "tests"))

"""Tests the command of the benchmarks, and that docs/performance.md has the figures of the data beside it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import document
from bench.growth import Curve, weighted_line
from bench.measure import CannotMeasure, Row
from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE, installed


def bench(*words: str, module: str = "bench") -> subprocess.CompletedProcess[str]:
    """Runs `python -m bench` with some words."""
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(
        command, cwd=checkout(), capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_page_has_the_figures_of_its_data() -> None:
    page = document.PAGE.read_text()
    filled = document.render(page, document.load("ratios"), document.load("growth"))
    assert page == filled, "run `python -m bench.document`"


def test_the_page_shows_every_curve() -> None:
    """Each thing that grows has a table and a plot on the page, and each plot is there."""
    page = document.PAGE.read_text()
    names = {curve.name for curve in document.curves_of(document.load("growth"))}
    assert names == {"checks", "calls", "workers"}
    assert names <= set(re.findall(r"<!-- ([a-z]+) -->", page))
    plots = re.findall(r"!\[.*\]\((performance/.*\.png)\)", page)
    assert sorted(plots) == sorted(f"performance/{name}.png" for name in names)
    assert [plot for plot in plots if not (document.PAGE.parent / plot).is_file()] == []


def test_a_figure_that_was_changed_by_hand_is_found() -> None:
    page = document.PAGE.read_text()
    ratios, growth = document.load("ratios"), document.load("growth")
    ratios["rows"][0]["ours"] = [2 * value for value in ratios["rows"][0]["ours"]]
    assert document.render(page, ratios, growth) != page


def test_the_data_do_not_name_the_machine() -> None:
    """They have its kind: these fields, and no other."""
    fields = {"suite", "kernel", "machine", "hypervisor", "cpus", "memory", "python", "load", "rounds"}
    assert set(document.load("ratios")["machine"]) == fields == set(document.load("growth")["machine"])


BAD: dict[str, tuple[Sequence[str], str]] = {
    "an unknown name": (["frob"], "'frob' is not measured; choose from test, call"),
    "a growth's name": (["checks"], "'checks' is not measured; choose from test, call"),
    "a ratio's name": (["--growth", "{tmp}", "loop"], "'loop' is not measured by --growth"),
    "an unknown option": (["--frob"], "unrecognized arguments: --frob"),
    "no round": (["--rounds", "0"], "'0' is not a number of rounds"),
    "rounds in words": (["--rounds", "two"], "'two' is not a number of rounds"),
    "ltp without its directory": (["ltp"], "ltp needs --ltp DIR"),
    "a directory that is missing": (["--ltp", "{tmp}/none"], "no such directory"),
    "a directory without programs": (["--ltp", "{tmp}"], "no i386 program is named after a socket call"),
    "two kinds of output": (["--growth", "{tmp}", "--json", "{tmp}/file"], "--growth DIR measures no ratio"),
    "a file that cannot be written": (["loop", "--json", "{tmp}/none/file"], "No such file or directory"),
    "a directory that is a file": (["--growth", "/dev/null"], ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_status_2_and_one_line(name: str, tmp_path: Path) -> None:
    words, why = BAD[name]
    done = bench(*(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bench: ")
    assert why in line


def test_an_option_that_the_page_does_not_have() -> None:
    done = bench("--frob", module="bench.document")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{}]}', '{"rows": [{"name": 1}]}'])
def test_data_that_are_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "ratios.json").write_text(text)
    with pytest.raises(CannotMeasure, match=r"`python -m bench --json docs/performance/ratios.json` writes it"):
        document.rows_of(document.load("ratios", tmp_path))


def test_a_ratio_is_the_median_of_its_pairs() -> None:
    """Pairs are compared one by one: what slows both sides of a pair does not change the ratio."""
    row = Row("a / b", "ms", 2, [2.0, 30.0, 6.0], [1.0, 10.0, 3.0])
    assert row.cells() == ["a / b", "2.00 (2.00 to 3.00)", "2", "yes", "6000 ms", "3000 ms"]
    assert not Row("a / b", "ms", 1.9, row.ours, row.bare).is_held
    assert Row.of_json(json.loads(json.dumps(row.as_json()))) == row


def test_the_line_through_points_is_found() -> None:
    one, none = weighted_line([(size, 0.5 + 0.002 * size) for size in (10**3, 10**4, 10**5, 10**6)])
    assert (round(one, 9), round(none, 9)) == (0.002, 0.5)
    curve = Curve("calls", "a sweep", "s", [(10, [0.3, 0.1, 0.2]), (20, [0.4])])
    assert curve.medians == [(10, 0.2), (20, 0.4)]
    assert Curve.of_json(json.loads(json.dumps(curve.as_json()))) == curve


def test_the_loop_is_measured(tmp_path: Path) -> None:
    """A group that takes a second prints its row, writes its pairs, and has the status of its bound."""
    installed("gcc")
    output = tmp_path / "ratios.json"
    done = bench("loop", "--rounds", "3", "--json", str(output))
    rows = document.rows_of(json.loads(output.read_text()))
    assert [len(row.ours) for row in rows] == [3]
    assert done.returncode == (0 if rows[0].is_held else 1), done.stderr
    assert done.stdout.splitlines()[2].split("|")[1].strip() == rows[0].name


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    """Without gcc the rows that need it are missing, and one line says so."""
    here = tmp_path / "bin"
    here.mkdir()
    env = shutil.which("env")
    assert env is not None
    command = [env, f"PATH={here}", sys.executable, "-m", "bench", "loop"]
    done = subprocess.run(
        command, cwd=checkout(), capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "bench: loop: loop.c needs gcc; apt-get install gcc libc6-dev"

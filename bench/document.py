"""Fills the tables of docs/performance.md from the measurements in docs/performance/: `python -m bench.document`.

`--plots` draws the plots again too. Exits with 2 if a file is missing or is not what `python -m bench` writes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import plots
from bench.growth import Curve
from bench.measure import TITLES, CannotMeasure, Row, table
from probes.installation import checkout

DIRECTORY = checkout() / "docs" / "performance"
PAGE = checkout() / "docs" / "performance.md"
COMMANDS = {
    "ratios": "python -m bench --json docs/performance/ratios.json",
    "growth": "python -m bench --growth docs/performance",
}
"""The command that writes each file."""

_BLOCK = re.compile(r"(<!-- ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def load(name: str, directory: Path = DIRECTORY) -> dict[str, Any]:
    """Reads ratios.json or growth.json. Raises CannotMeasure."""
    path = directory / f"{name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise CannotMeasure(f"{path}: {why}; `{COMMANDS[name]}` writes it") from error
    return found


def curves_of(growth: Mapping[str, Any]) -> list[Curve]:
    """Returns the curves of growth.json. Raises CannotMeasure: it is something else."""
    try:
        return [Curve.of_json(line) for line in growth["curves"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CannotMeasure(f"growth.json: no curves in it; `{COMMANDS['growth']}` writes it") from error


def rows_of(ratios: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of ratios.json. Raises CannotMeasure: it is something else."""
    try:
        return [Row.of_json(line) for line in ratios["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CannotMeasure(f"ratios.json: no rows in it; `{COMMANDS['ratios']}` writes it") from error


def render(page: str, ratios: Mapping[str, Any], growth: Mapping[str, Any]) -> str:
    """Returns the page with its blocks filled. Raises CannotMeasure: a block has no such table."""
    blocks = dict(_blocks(ratios, curves_of(growth), growth["machine"]))

    def filled(match: re.Match[str]) -> str:
        if match[2] not in blocks:
            raise CannotMeasure(f"{PAGE.name}: there is no table {match[2]!r}; choose from {', '.join(blocks)}")
        return f"{match[1]}{blocks[match[2]]}\n{match[3]}"

    return _BLOCK.sub(filled, page)


def _blocks(ratios: Mapping[str, Any], curves: Sequence[Curve], about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "machine", _machine(ratios["machine"])
    yield "ratios", table([TITLES, *(row.cells() for row in rows_of(ratios))])
    yield "grown", _machine(about)
    for name in dict.fromkeys(curve.name for curve in curves):
        these = [curve for curve in curves if curve.name == name]
        yield name, table([these[0].titles(), *(curve.cells() for curve in these)])


def _machine(about: Mapping[str, Any]) -> str:
    guest = ", a virtual machine" if about["hypervisor"] else ""
    return (
        f"Linux {about['kernel']} on {about['machine']}{guest}; {about['cpus']} CPUs, {about['memory'] / 2**30:.0f} GB; "
        f"Python {about['python']};\nload when it began {about['load']:.1f}; rounds: {about['rounds']}; "
        f"suite {about['suite']}."
    )


def main(words: Sequence[str]) -> int:
    """Fills the page, draws the plots, and returns the exit status."""
    try:
        if [*words] not in ([], ["--plots"]):
            raise CannotMeasure(f"{' '.join(words)[:40]!r} is not an option; the only one is --plots")
        ratios, growth = load("ratios"), load("growth")
        PAGE.write_text(render(PAGE.read_text(), ratios, growth))
        if words:
            plots.draw(curves_of(growth), DIRECTORY)
    except CannotMeasure as why:
        print(f"bench.document: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

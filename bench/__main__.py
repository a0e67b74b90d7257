"""Measures what the suite costs, as ratios within one run: `python -m bench`.

Exits with 0 if every ratio keeps its bound, 1 if one does not, 2 if something cannot be measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench import captured, fixed_cost, ltp, memory, plots, side_by_side, starting, swept_call, traced_call, whole
from bench.growth import GROWTHS, Curve
from bench.measure import TITLES, CannotMeasure, Row, machine, table

GROUPS: dict[str, Callable[[int, Path], Iterator[Row]]] = {
    "test": fixed_cost.measure,
    "call": traced_call.measure,
    "loop": swept_call.measure,
    "start": starting.measure,
    "capture": captured.measure,
    "workers": side_by_side.measure,
    "memory": memory.measure,
    "whole": whole.measure,
}
"""What is measured, by its name on the command line."""


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Raises CannotMeasure."""
        raise CannotMeasure(f"{message}; see `python -m bench --help`")


def _rounds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1000 and len(text) <= 4):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of rounds from 1 to 1000")
    return int(text)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parses the command line. Raises CannotMeasure."""
    parser = _Parser(prog="python -m bench", description=__doc__)
    names = f"{', '.join(GROUPS)}, ltp; with --growth {', '.join(GROWTHS)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure (default: all): {names}")
    parser.add_argument("--rounds", type=_rounds, default=5, metavar="N", help="pairs of each ratio (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the pairs of every ratio there")
    parser.add_argument("--ltp", type=Path, metavar="DIR", help="measure also beside LTP's socket tests (-m32) there")
    parser.add_argument(
        "--growth", type=Path, metavar="DIR", help="measure how costs grow instead, and write data and plots there"
    )
    args = parser.parse_args(words)
    known = [*GROWTHS] if args.growth else [*GROUPS, "ltp"]
    for name in args.names:
        if name not in known:
            raise CannotMeasure(
                f"{name[:40]!r} is not measured{' by --growth' if args.growth else ''}; choose from {', '.join(known)}"
            )
    if "ltp" in args.names and not args.ltp:
        raise CannotMeasure("ltp needs --ltp DIR, the directory of LTP's socket tests, built with -m32")
    if args.growth and (args.json or args.ltp):
        raise CannotMeasure("--growth DIR measures no ratio; run it without --json and --ltp")
    return args


def _ratios(args: argparse.Namespace, directory: Path) -> int:
    """Measures ratios, prints them as a table, and returns the exit status."""
    groups = dict(GROUPS)
    if args.ltp:
        ltp.passing(args.ltp)
        groups["ltp"] = lambda rounds, work: ltp.measure(rounds, work, args.ltp)
    if args.json:
        _require_writable(args.json)
    about, rows, lacking = {**machine(), "rounds": args.rounds}, list[Row](), list[str]()
    for name in args.names or groups:
        _progress(name)
        work = directory / name
        work.mkdir(exist_ok=True)
        try:
            rows += groups[name](args.rounds, work)
        except CannotMeasure as why:
            lacking.append(f"{name}: {why}")
    if rows:
        print(table([TITLES, *(row.cells() for row in rows)]))
    if args.json:
        _write(args.json, {"machine": about, "rows": [row.as_json() for row in rows]})
    if lacking:
        raise CannotMeasure("; ".join(lacking))
    return 0 if all(row.is_held for row in rows) else 1


def _growth(args: argparse.Namespace, directory: Path) -> int:
    """Measures how costs grow, writes data and plots, and returns the exit status."""
    plots.require()
    args.growth.mkdir(parents=True, exist_ok=True)
    file = args.growth / "growth.json"
    _require_writable(file)
    about, curves = {**machine(), "rounds": args.rounds}, list[Curve]()
    for name in args.names or GROWTHS:
        _progress(name)
        work = directory / name
        work.mkdir(exist_ok=True)
        curves += GROWTHS[name](args.rounds, work)
    _write(file, {"machine": about, "curves": [curve.as_json() for curve in curves]})
    for path in (file, *plots.draw(curves, args.growth)):
        print(path)
    return 0


def _progress(name: str) -> None:
    print(f"bench: {name}", file=sys.stderr, flush=True)


def _require_writable(path: Path) -> None:
    """Raises OSError before anything is measured if the result could not be written. It leaves what is there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n")


def main(words: Sequence[str]) -> int:
    """Measures, prints, and returns the exit status."""
    # With it each start would compile every module again, which no user's does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        args = _arguments(words)
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            return (_growth if args.growth else _ratios)(args, Path(directory))
    except CannotMeasure as why:
        print(f"bench: {why}", file=sys.stderr)
    except OSError as error:
        name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        print(f"bench: {name}{error.strerror}; nothing could be written there", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

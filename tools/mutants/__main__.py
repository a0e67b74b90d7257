"""Judges wrong kernels by the suite, and says which of them no behaviour finds.

    python -m tools.mutants [ID-GLOB…] [--population A|B|AB] [--mutants GLOB]… [--sample N] [--seed S] [-n N] [--json FILE]
        [--document] [--survivors N] [--seconds S]

Exit status: 0 every held rate holds, 1 one does not, a control deviates, or mutants were left without --seconds, 2 it could
not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probes.errors import CommandError
from probes.installation import checkout
from tools.command import run
from tools.mutants import document, tables
from tools.mutants.plugin import VARIABLE

#: Seconds after which no further mutant is begun, and after which, from then on, a run is ended.
_PATIENCE, _GRACE = 3300.0, 300.0


def main(words: list[str]) -> int:
    """Judges mutants, prints the rates and the survivors. Raises CommandError."""
    args = _arguments(words)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        outcomes, controls, of = _run(args, Path(directory))
    host = os.uname()
    found = {
        "kernel": f"Linux {host.release.partition('-')[0]} {host.machine}", "seed": args.seed,
        "seconds": time.monotonic() - began, "sample": args.sample, "outcomes": outcomes,
    }  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
    if args.document:
        document.PAGE.write_text(document.text(found))
    print(*tables.rates(outcomes), sep="\n")
    print(*tables.survivors(outcomes, args.survivors), *tables.misattributed(outcomes), sep="\n")
    print(*(f"control deviates: {line}" for line in controls), sep="\n", end="")
    missed = tables.missed(outcomes, sampled=bool(args.sample))
    print(*missed, sep="\n", end="\n" if missed else "")
    print(f"{len(outcomes)} mutants of {of}, seed {args.seed}, {time.monotonic() - began:.0f} s")
    cut_off = args.seconds is None and len(outcomes) < of
    if cut_off:
        print(f"{of - len(outcomes)} mutants were not begun within {_PATIENCE:.0f} s: give --seconds")
    return 1 if missed or controls or cut_off or not outcomes else 0


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", allow_abbrev=False)
    parser.add_argument("glob", nargs="*", metavar="ID-GLOB")
    parser.add_argument("--population", choices=("A", "B", "AB"), default="AB")
    parser.add_argument(
        "--mutants", action="append", metavar="GLOB", help="those of a name, as 'B bind success: *'; can be repeated"
    )
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="so many of each population (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", dest="workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument(
        "--tests", metavar="DIR", help="judge by the tests of this directory (default: those of the suite)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the outcomes there")
    parser.add_argument("--document", action="store_true", help="write docs/discrimination.md")
    parser.add_argument("--survivors", type=int, default=40, metavar="N", help="print at most so many")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=f"begin with no further mutant after so many (default: {_PATIENCE:.0f}, and none may be left)",
    )
    args = parser.parse_args(words)
    if args.sample < 0 or args.workers < 1:
        raise CommandError("--sample and -n take numbers of mutants and of processes")
    return args


def _run(args: argparse.Namespace, directory: Path) -> tuple[list[dict[str, Any]], list[str], int]:
    """Judge them in a session of pytest: return the outcomes, the controls that do not conform, the number of mutants."""
    output, cpus = directory / "found.json", sorted(os.sched_getaffinity(0))
    seconds = _PATIENCE if args.seconds is None else args.seconds
    settings = {
        "output": str(output), "seed": args.seed, "cpus": [cpus[k % len(cpus)] for k in range(args.workers)],
        "populations": args.population, "sample": args.sample, "names": args.mutants or ["*"],
        "until": time.monotonic() + seconds,
    }  # fmt: skip
    tests = ["--tests", args.tests] if args.tests else []
    command: Sequence[str] = [
        sys.executable, "-m", "probes.cli", "check", *args.glob, *tests, "-n", "1", "--caller", "python",
        "--report", str(directory / "report"), "--", "-s", "-p", "tools.mutants.plugin",
    ]  # fmt: skip
    environment = {**os.environ, VARIABLE: json.dumps(settings)}
    try:
        done = subprocess.run(
            command, cwd=checkout(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=seconds + _GRACE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"the mutants were not judged within {seconds + _GRACE:.0f} s") from error
    if not output.exists():
        last = " ".join(done.stdout.decode(errors="replace").split())[-300:]
        raise CommandError(f"pytest ended with {done.returncode} and judged nothing: {last}")
    found = json.loads(output.read_text())
    return found["outcomes"], found["controls"], found["of"]


if __name__ == "__main__":
    run(main)

"""Judges wrong kernels by the suite, and says which of them no behaviour finds.

    python -m tools.mutants [ID-GLOB…] [--population A|B|AB] [--sample N] [--seed S] [-n N] [--json FILE] [--document]
        [--survivors N]

Exit status: 0 every held rate holds, 1 one does not, or a control deviates, 2 it could not run.
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

#: Seconds after which the processes of a run are ended.
_PATIENCE = 3600.0
#: Seconds that a test may take: a wrong kernel often lets one wait for what does not come.
_DEADLINE = "5"


def main(words: list[str]) -> int:
    """Judges mutants, prints the rates and the survivors. Raises CommandError."""
    args = _arguments(words)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        outcomes, controls = _run(args, Path(directory))
    host = os.uname()
    found = {
        "kernel": f"Linux {host.release.partition('-')[0]} {host.machine}", "seed": args.seed,
        "seconds": time.monotonic() - began, "outcomes": outcomes,
    }  # fmt: skip
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
    if args.document:
        document.PAGE.write_text(document.text(found))
    print(*tables.rates(outcomes), sep="\n")
    print(*tables.survivors(outcomes, args.survivors), sep="\n")
    print(*(f"control deviates: {line}" for line in controls), sep="\n", end="")
    missed = tables.missed(outcomes, sampled=bool(args.sample))
    print(*missed, sep="\n", end="\n" if missed else "")
    print(f"{len(outcomes)} mutants, seed {args.seed}, {time.monotonic() - began:.0f} s")
    return 1 if missed or controls or not outcomes else 0


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", allow_abbrev=False)
    parser.add_argument("glob", nargs="*", metavar="ID-GLOB")
    parser.add_argument("--population", choices=("A", "B", "AB"), default="AB")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="so many of each population (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", dest="workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument(
        "--tests", metavar="DIR", help="judge by the tests of this directory (default: those of the suite)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the outcomes there")
    parser.add_argument("--document", action="store_true", help="write docs/discrimination.md")
    parser.add_argument("--survivors", type=int, default=40, metavar="N", help="print at most so many")
    args = parser.parse_args(words)
    if args.sample < 0 or args.workers < 1:
        raise CommandError("--sample and -n take numbers of mutants and of processes")
    return args


def _run(args: argparse.Namespace, directory: Path) -> tuple[list[dict[str, Any]], list[str]]:
    processes = [_start(args, directory, share) for share in range(args.workers)]
    outcomes: list[dict[str, Any]] = []
    controls: list[str] = []
    until = time.monotonic() + _PATIENCE
    try:
        for share, process in enumerate(processes):
            out, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
            output = directory / f"{share}.json"
            if not output.exists():
                last = " ".join(out.decode(errors="replace").split())[-300:]
                raise CommandError(f"process {share} ended with {process.returncode} and judged nothing: {last}")
            found = json.loads(output.read_text())
            outcomes += found["outcomes"]
            controls += found["controls"]
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"the mutants were not judged within {_PATIENCE:.0f} s") from error
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return outcomes, controls


def _start(args: argparse.Namespace, directory: Path, share: int) -> subprocess.Popen[bytes]:
    settings = {
        "output": str(directory / f"{share}.json"), "seed": args.seed, "share": [share, args.workers],
        "populations": args.population, "sample": args.sample,
    }  # fmt: skip
    report = str(directory / f"report{share}")
    tests = ["--tests", args.tests] if args.tests else []
    command: Sequence[str] = [
        sys.executable, "-m", "probes.cli", "check", *args.glob, *tests, "-n", "1", "--caller", "python",
        "--deadline", _DEADLINE, "--report", report, "--", "-p", "tools.mutants.plugin",
    ]  # fmt: skip
    environment = {**os.environ, VARIABLE: json.dumps(settings)}
    return subprocess.Popen(command, cwd=checkout(), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    run(main)

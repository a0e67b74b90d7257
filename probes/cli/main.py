"""`socketcall …`: see `socketcall --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from probes import VERSION
from probes.cli import capture, run
from probes.errors import CommandError
from probes.plugin.shard import Shard

EXIT = """exit status: 0 all as expected, 1 something deviates, 2 usage or could not start, 3 nothing deviates but
something broke, was lost or did not run"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and where to read on."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="socketcall", description="Conformance suite for the i386 Linux socket system calls.")
    parser.add_argument("--version", action="version", version=f"socketcall {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, epilog=epilog)

    doctor = command("doctor", "what this machine can do, what is missing, and how to get it")
    doctor.set_defaults(run=run.doctor)
    check = command("check", "judge the documented behaviours on this kernel", EXIT)
    _check_arguments(check)
    check.set_defaults(run=run.check)
    behaviours = command("behaviours", "the catalogue: id, statement, source; --json has more")
    behaviours.add_argument(
        "--json", action="store_true", help="as JSON lines: also folder, test, routes, since, references"
    )
    behaviours.add_argument("--register", action="store_true", help="append new ids to tests/ids.txt")
    behaviours.set_defaults(run=run.behaviours)
    capturing = command("capture", "the socket calls of any program, as they cross into the kernel")
    capture.add_arguments(capturing)
    capturing.set_defaults(run=capture.main)
    diff = command("diff", "what changed between two runs: exit status 1 if something did")
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    diff.add_argument("--json", action="store_true", help="as one JSON object")
    diff.set_defaults(run=run.diff)
    views = command("views", "write ktap.txt, junit.xml and report.html of a report folder again")
    views.add_argument("folder", metavar="DIR")
    views.set_defaults(run=run.views)
    target = command("target", "other machines to judge on")
    _target_arguments(target)
    return parser


def _target_arguments(target: argparse.ArgumentParser) -> None:
    actions = target.add_subparsers(required=True, metavar="ACTION", parser_class=_Parser)
    listing = actions.add_parser("list", help="targets and artefacts, and which are built")
    listing.set_defaults(run=run.target_list)
    build = actions.add_parser("build", help="build an artefact into $SOCKETCALL_CACHE")
    build.add_argument("name")
    build.set_defaults(run=run.target_build)
    clean = actions.add_parser(
        "clean", help="remove artefacts whose recipe has changed since; while nothing runs in them"
    )
    clean.set_defaults(run=run.target_clean)
    running = actions.add_parser("run", help="run `socketcall check` there, with the arguments after --")
    running.add_argument("name")
    running.set_defaults(run=run.target_run)


def _check_arguments(check: argparse.ArgumentParser) -> None:
    check.add_argument("ids", nargs="*", metavar="ID-GLOB", help="behaviours to judge (default: all)")
    check.add_argument("--route", choices=("socketcall", "direct"), help="only this route")
    check.add_argument("--gate", choices=("int80", "vdso"), help="only this gate")
    check.add_argument("--case", metavar="GLOB", help="only checks whose case matches")
    check.add_argument("--seed", type=int, metavar="N", help="repeat the random values of a run")
    check.add_argument("--report", metavar="DIR", default="report", help="files of the run go here (default: report)")
    check.add_argument("--expect", metavar="FILE", help="known deviations: lines of ID-GLOB | CASE-GLOB | reason")
    check.add_argument("--write-expect", metavar="FILE", help="write the deviations of this run as such a list")
    check.add_argument(
        "--require", metavar="FILE", nargs="?", const="", help="nothing may be not applicable but the ids of FILE"
    )
    check.add_argument("--stream", type=int, metavar="FD", help="tell the run as it happens to this descriptor")
    check.add_argument("--shard", metavar="I/N", type=Shard.of, help="only the I-th of N parts")
    check.add_argument("--reference", metavar="ABI-VERSION", help="judge against i386-6.1, ia32-compat-6.1, …")
    check.add_argument("--isolation", choices=("full", "net", "none"), help="what the sandbox makes itself")
    check.add_argument("--deadline", type=float, metavar="S", help="seconds a test may take")
    check.add_argument("--fail-fast", action="store_true", help="stop at the first deviation")
    check.add_argument("--list", action="store_true", help="print what would run, and end")
    check.add_argument("--tests", metavar="DIR", help="behaviours of another folder than the checkout's tests/")


def parsed(words: list[str]) -> argparse.Namespace:
    """The arguments; what stands behind -- is `rest`, for somebody else."""
    cut = words.index("--") if "--" in words else len(words)
    args = _parser().parse_args(words[:cut])
    args.rest = words[cut + 1 :]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    args = parsed(list(sys.argv[1:] if argv is None else argv))
    try:
        if args.run is run.target_run:
            # What is wrong with it is said before a machine is started for it.
            args.check = parsed(["check", *args.rest])
        status: int = args.run(args)
    except CommandError as trouble:
        print(f"socketcall: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())

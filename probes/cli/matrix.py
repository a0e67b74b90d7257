"""Implements `socketcall matrix`: several runs side by side, as a page and a Markdown table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from probes.errors import CommandError
from probes.report.directory import ReportDirectory
from probes.report.formats import matrix_md
from probes.report.matrix import Matrix, column
from probes.targets import TARGETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the results and the directory."""
    parser.add_argument(
        "results", nargs="+", metavar="RESULTS", help="a report directory, or a results.jsonl.gz, of each run"
    )
    parser.add_argument("-o", "--output", metavar="DIR", default="matrix", help="write there (default: matrix)")


def main(args: argparse.Namespace) -> int:
    """Writes matrix.html and matrix.md. Raises CommandError: results that cannot be read, a directory of the user's."""
    if not args.output:
        raise CommandError("-o names no directory: give -o DIR")
    directory = ReportDirectory(Path(args.output), "-o")
    try:
        matrix = Matrix([column(Path(where), TARGETS, len(args.results)) for where in args.results])
        (directory.part / "matrix.md").write_text(matrix_md.text(matrix), encoding="utf-8")
        (directory.part / "matrix.html").write_text(page(matrix), encoding="utf-8")
        print(directory.keep() / "matrix.html")
    except BaseException:
        directory.discard()
        raise
    return 0


def page(matrix: Matrix) -> str:
    """Returns the page, which needs nothing else."""
    import jinja2
    import markupsafe

    loader = jinja2.FileSystemLoader(Path(matrix_md.__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "matrix.html"
    )
    # In a script element only "</" and "<!--" end or change the text; the escape is JSON's own.
    data = json.dumps(matrix.data(), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return template.render(count=len(matrix.columns), data=markupsafe.Markup(data))

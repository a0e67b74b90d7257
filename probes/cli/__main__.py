"""Runs `python -m probes.cli` as `socketcall`."""

from probes.cli.main import run

run()

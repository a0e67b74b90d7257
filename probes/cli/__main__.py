"""Runs `python -m probes.cli` as `socketcall`."""

import sys

from probes.cli.main import main

sys.exit(main())

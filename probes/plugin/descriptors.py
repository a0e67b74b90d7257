"""Finds the descriptors that pytest uses for the output of a test, inside the sandbox too."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key


def of_output(config: pytest.Config) -> set[int]:
    """Returns pytest's copies of standard input, output and error, the files that capture them, and the log file.

    They have no public name in pytest. All of them are of the test's own output, so a test may have them.
    """
    found = {config.stash.get(fault_handler_stderr_fd_key, -1)}
    capturing = getattr(config.pluginmanager.getplugin("capturemanager"), "_global_capturing", None)
    for name in ("in_", "out", "err"):
        stream = getattr(capturing, name, None)
        found |= {getattr(stream, "targetfd_save", -1), _descriptor(getattr(stream, "tmpfile", None))}
    logging = config.pluginmanager.getplugin("logging-plugin")
    found.add(_descriptor(getattr(getattr(logging, "log_file_handler", None), "stream", None)))
    return found - {-1}


def _descriptor(file: Any) -> int:
    try:
        return int(file.fileno())
    except (AttributeError, OSError, ValueError):
        return -1  # It is in memory, or there is none.

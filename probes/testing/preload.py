"""Imports modules before a sandbox is made: each test is a process of its own and would import them again."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest


def preload(session: pytest.Session, modules: Mapping[str, Sequence[str]]) -> None:
    """Imports the modules of those fixtures that the tests to run use: for pytest_collection_finish.

    A fixture finds out itself if something is not installed.
    """
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for name in used.intersection(modules):
        for module in modules[name]:
            with suppress(ImportError):
                imported = importlib.import_module(module)
                # What a module does once in a process, and long.
                getattr(imported, "warm_up", lambda: None)()

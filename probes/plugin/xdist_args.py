"""Rewrites pytest arguments for a remote xdist worker that has its own checkout."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

#: Options that name a place in the checkout: each checkout has its own.
_PLACES = ("-c", "--config-file", "--rootdir")


def is_remote(spec: Any) -> bool:
    """Returns True if an execnet spec names a machine, or a directory, that has its own checkout."""
    return not spec.popen or bool(spec.chdir)


def arguments(config: pytest.Config, given: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns (options, paths to collect below the checkout), none of them a path of this machine. Raises UsageError.

    pytest-xdist refuses an argument that is a path on this machine, unless it copied what is there.
    """
    from_args = config.args_source is pytest.Config.ArgsSource.ARGS
    paths = [_below(config, path) for path in config.args]
    options: list[str] = []
    drop = False
    for word in map(str, given):
        name, equals, value = word.partition("=")
        if drop or (from_args and word in config.args):
            drop = False
        elif name in _PLACES:
            drop = not equals
        elif word == "--":
            # It stands before paths.
            continue
        elif equals and name.startswith("--"):
            options.append(f"{name}={_relative(config.rootpath, value)}")
        elif options and Path(word).exists():
            # The value of an option: joined to it, it is no longer an argument that is a path.
            glue = "=" if options[-1].startswith("--") else ""
            options[-1] += glue + _relative(config.rootpath, word)
        else:
            options.append(word)
    options.append("--rootdir=.")
    if config.inipath is not None:
        options.append(f"--config-file={config.inipath.name}")
    return options, paths


def _below(config: pytest.Config, path: str) -> str:
    name, *rest = path.split("::")
    full = Path(os.path.normpath(config.invocation_params.dir / name))
    if not full.is_relative_to(config.rootpath):
        why = f"{path} is not below {config.rootpath}, so another machine does not have it; name tests of the checkout"
        raise pytest.UsageError(why)
    return "::".join([str(full.relative_to(config.rootpath)), *rest])


def _relative(root: Path, value: str) -> str:
    return str(Path(value).relative_to(root)) if value.startswith(f"{root}/") else value

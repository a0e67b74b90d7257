"""Implements `socketcall target`: lists targets, builds what they need, and checks on them."""

from __future__ import annotations

import argparse
import shutil

from probes.cli import streams
from probes.errors import CommandError, nearest
from probes.targets import RECIPES, TARGETS, store, vagrant
from probes.targets.target import CheckArguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", parser_class=type(parser))
    listing = actions.add_parser("list", help="list targets and artefacts, and which are built")
    listing.set_defaults(action=_list)
    build = actions.add_parser("build", help="build an artefact into $SOCKETCALL_CACHE")
    build.add_argument("name")
    build.set_defaults(action=_build)
    clean = actions.add_parser(
        "clean", help="remove artefacts whose recipe has changed since; only while no target runs in them"
    )
    clean.set_defaults(action=_clean)
    running = actions.add_parser(
        "run",
        help="run `socketcall check` on a target, with the arguments after --; with `sweep` before them, `socketcall sweep`",
    )
    running.add_argument("name")
    running.set_defaults(action=_run)


def main(args: argparse.Namespace) -> int:
    """Runs the action, and returns the exit status. Raises CommandError."""
    status: int = args.action(args)
    return status


def _list(_: argparse.Namespace) -> int:
    """Prints targets and artefacts."""
    for target in TARGETS.values():
        print(f"target   {target.name:20} {target.what}")
    for name, recipe in RECIPES.items():
        print(f"artefact {name:20} {recipe.what}: {store.have(recipe) or 'not built'}")
    return 0


def _build(args: argparse.Namespace) -> int:
    """Builds an artefact, or the artefact of a target, and prints its path. Raises CommandError."""
    target = TARGETS.get(args.name)
    recipe = RECIPES.get(args.name) or (target.recipe if target else None)
    if recipe is None:
        raise CommandError(f"no artefact is called {args.name!r}: {', '.join(RECIPES)}")
    print(store.make(recipe, streams.say))
    return 0


def _clean(_: argparse.Namespace) -> int:
    """Removes artefacts that no recipe makes any more, and the VMs made of them, and prints their paths."""
    for path in [*vagrant.outdated(), *store.outdated(RECIPES.values())]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(path)
    return 0


def _run(args: argparse.Namespace) -> int:
    """Checks on a target, and returns the exit status. Raises CommandError."""
    from probes.cli.command_line import parsed

    target = TARGETS.get(args.name)
    if target is None:
        raise CommandError(f"no target is called {args.name!r}: {', '.join(TARGETS)}{nearest(args.name, TARGETS)}")
    command, *words = args.rest if args.rest[:1] == ["sweep"] else ["check", *args.rest]
    # Wrong arguments end the command before a machine is started.
    return target.run(CheckArguments(words, parsed([command, *words]), command), streams.say)

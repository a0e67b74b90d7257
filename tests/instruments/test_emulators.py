"""Targets that run the agent by an emulator, or by what changes system calls: version, again lines, wrong arguments."""

import re
import shutil

import pytest

from probes.errors import CommandError
from probes.report.reader import read
from probes.targets import TARGETS, debian, emulator, store
from probes.testing.reference import local
from tests.instruments.support import missing

#: A behaviour of which qemu-user gets every check of a flag wrong, and the others none.
LAW = "socket.pair.unknown-flags"


@pytest.mark.parametrize("name", ["valgrind", "valgrind:memcheck", "proot"])
def test_what_runs_on_this_kernel_conforms(socketcall, tmp_path, name):
    program = name.partition(":")[0]
    if shutil.which(program) is None:
        missing(f"{program}: install Debian's package {program}")
    run = socketcall("target", "run", name, "--", LAW, "--report", str(tmp_path / "report"))
    assert run.status == 0, run.err
    head = read(tmp_path / "report").run
    assert head["reference"] == str(local())
    target = head["target"]
    assert target["name"] == name
    assert re.fullmatch(rf"{program} \d+(\.\d+)+", target["implementation"])
    assert [(caller["name"], caller["word"]) for caller in target["callers"]] == [("agent", 32)]


def test_qemu_user_deviates_and_says_how_to_repeat_it(socketcall, tmp_path):
    run = socketcall("target", "run", "qemu-user:bookworm", "--", LAW, "--report", str(tmp_path / "report"))
    if run.status == 2:
        missing(run.err.strip())
    assert run.status == 1, run.err
    results = read(tmp_path / "report")
    assert re.fullmatch(r"qemu-user 7\.2(\.\d+)*", results.run["target"]["implementation"])
    assert "deviates" in {check.verdict for check in results.checks}
    assert f"again     socketcall target run qemu-user:bookworm -- {LAW}" in run.out


@pytest.mark.parametrize(
    "words, says",
    [
        (["proot", "--", "--via", "x {agent}"], "are the target's; leave them out"),
        (["proot", "--", "--implementation", "x"], "are the target's; leave them out"),
        (["proot", "--", "sweep", "types"], "only `check` runs there"),
        (["qemu-user:buster", "--", LAW], "no target is called 'qemu-user:buster'"),
    ],
)
def test_wrong_arguments_are_named(socketcall, words, says):
    run = socketcall("target", "run", *words)
    assert (run.status, run.out) == (2, "")
    assert says in run.err
    assert run.err.count("\n") == 1


def test_a_missing_program_names_its_package(socketcall, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = socketcall("target", "run", "valgrind", "--", LAW)
    assert run.status == 2
    assert "install Debian's package valgrind" in run.err


def test_a_program_without_a_version_is_named(tmp_path):
    program = tmp_path / "silent"
    program.write_text("#!/bin/sh\necho nothing\n")
    program.chmod(0o755)
    with pytest.raises(CommandError, match="prints no version, but 'nothing"):
        emulator.version_of(program)


@pytest.mark.parametrize("place", ["usr/bin/qemu-i386-static", "usr/bin/qemu-i386"])
def test_of_a_package_the_program_is_kept(monkeypatch, tmp_path, place):
    """A package of qemu-user has a program for each processor, 400 MB: the cache keeps the one for i386."""

    def unpacked(into, architecture, pattern, suites):
        for name in (place, "usr/bin/qemu-arm-static", "usr/share/doc/qemu-user/copyright"):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_text(f"{architecture} {pattern} {suites}")

    monkeypatch.setattr(debian, "packages", unpacked)
    recipe = next(recipe for recipe in emulator.RECIPES if recipe.name == "qemu-user-trixie")
    recipe.build(tmp_path, lambda line: None)
    assert {path.name: path.read_text() for path in tmp_path.rglob("*")} == {
        "qemu-i386": f"{emulator.ARCHITECTURE} qemu-user ('trixie',)"
    }


def test_a_package_without_the_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(debian, "packages", lambda *words: None)
    recipe = next(recipe for recipe in emulator.RECIPES if recipe.name == "qemu-user-sid")
    with pytest.raises(store.CannotBuild, match="qemu-user has no usr/bin/qemu-i386; its packaging has changed"):
        recipe.build(tmp_path, lambda line: None)


def test_every_suite_of_qemu_has_a_target():
    assert {f"qemu-user:{suite}" for suite in emulator.QEMU} <= set(TARGETS)

"""Tests probes.targets.store and the i386 root: artefacts are complete, built once, and failures are one line."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from probes.cli import target
from probes.targets import debian, i386, store
from probes.targets.store import CannotBuild, Progress, Recipe
from tests.instruments.support import installed, missing, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]


def quiet(line: str) -> None:
    """Drop a progress line."""


def write_two(into: Path, progress: Progress) -> None:
    (into / "one").write_text("1")
    (into / "two").write_text("2")


def write_one(into: Path, progress: Progress) -> None:
    (into / "one").write_text("1")


TWO = Recipe("two", "two files", write_two, ("a",))

SLOW = """
import sys, time
from pathlib import Path
from probes.targets.store import Recipe, make

def build(into, progress):
    (into / "half").touch()
    {body}
    (into / "whole").touch()

print(make(Recipe("slow", "a test's", build), lambda line: print(line, flush=True)), flush=True)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache for this test alone."""
    monkeypatch.setenv("SOCKETCALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


Builder = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def builder(tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]) -> Builder:
    """Start other processes that build the artefact slow. Its recipe is in the same file, so it has the same key."""

    def start(body: str) -> subprocess.Popen[str]:
        script = tmp_path / "builder.py"
        script.write_text(SLOW.format(body=body))
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        return spawn([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)

    return start


def gone(pid: int) -> bool:
    """Return True if a process has ended; a zombie has."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_the_key_changes_with_everything_the_recipe_says() -> None:
    needed = replace(TWO, needs=(Recipe("base", "", write_one),))
    changed = [
        replace(TWO, name="three"),
        replace(TWO, inputs=("b",)),
        replace(TWO, inputs=("a", "")),
        replace(TWO, build=write_one),
        needed,
        replace(TWO, needs=(Recipe("base", "", write_one, ("newer",)),)),
    ]
    keys = [recipe.key for recipe in (TWO, *changed)]
    assert len(set(keys)) == len(keys)
    assert replace(TWO, what="described otherwise").key == TWO.key


def test_an_artefact_is_built_once_and_found_again(own_cache: Path) -> None:
    lines: list[str] = []
    assert store.have(TWO) is None
    place = store.make(TWO, lines.append)
    assert sorted(path.name for path in place.iterdir()) == ["one", "two"]
    assert store.have(TWO) == place == store.make(TWO, lines.append)
    assert len(lines) == 1
    assert sorted(path.name for path in own_cache.iterdir()) == [place.name, f"{place.name}.lock"]


def test_what_a_recipe_stands_on_is_made_first() -> None:
    base = Recipe("base", "the base", write_one)

    def copy(into: Path, progress: Progress) -> None:
        found = store.have(base)
        assert found
        (into / "copy").write_bytes((found / "one").read_bytes())

    place = store.make(Recipe("above", "stands on base", copy, needs=(base,)), quiet)
    assert (place / "copy").read_text() == "1"


def test_what_a_changed_recipe_left_is_found_and_nothing_else(own_cache: Path) -> None:
    old, new = TWO, replace(TWO, inputs=("b",))
    other = Recipe("two-more", "another's", write_one)
    for recipe in (old, new, other):
        store.make(recipe, quiet)
    (own_cache / f"{old.name}-{old.key}.part-17").mkdir()
    (own_cache / "vagrant").mkdir()
    left = f"two-{old.key}"
    assert [path.name for path in store.outdated([new])] == [left, f"{left}.lock", f"{left}.part-17"]
    assert store.outdated([old, other]) == [own_cache / f"two-{new.key}", own_cache / f"two-{new.key}.lock"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), CannotBuild("no"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing(own_cache: Path, error: BaseException) -> None:
    def fail(into: Path, progress: Progress) -> None:
        (into / "half").touch()
        assert store.have(recipe) is None, "an artefact has its name before it is whole"
        raise error

    recipe = Recipe("failing", "never whole", fail)
    with pytest.raises((CannotBuild, KeyboardInterrupt)):
        store.make(recipe, quiet)
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


def test_a_second_builder_waits_for_the_first_and_builds_nothing(tmp_path: Path, builder: Builder) -> None:
    body = f"time.sleep(1); open({str(tmp_path / 'builds')!r}, 'a').write('x')"
    first, second = builder(body), builder(body)
    outputs = [first.communicate(timeout=30)[0], second.communicate(timeout=30)[0]]
    assert (tmp_path / "builds").read_text() == "x"
    assert sorted("waiting" in text for text in outputs) == [False, True]
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]


def test_waiting_for_a_builder_has_an_end(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_DEADLINE", 0.2)

    def again(into: Path, progress: Progress) -> None:
        store.make(recipe, quiet)

    recipe = Recipe("twice", "wants itself", again)
    with pytest.raises(CannotBuild, match="another process"):
        store.make(recipe, quiet)


def test_what_a_killed_build_left_is_swept_and_built_again(tmp_path: Path, own_cache: Path, builder: Builder) -> None:
    marker = tmp_path / "sleep"
    body = (
        f"from probes.targets.store import run\n    if not Path({str(marker)!r}).exists(): "
        f"run(['sh', '-c', 'echo $$ >{marker}; exec sleep 300'], 300)"
    )
    killed = builder(body)
    wait_for(lambda: marker.exists() and marker.read_text(), "the build")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=30)
    wait_for(lambda: gone(int(marker.read_text())), "the end of what it ran")
    (left,) = own_cache.glob("slow-*.part-*")
    assert [path.name for path in left.iterdir()] == ["half"]

    place = Path(builder(body).communicate(timeout=30)[0].splitlines()[-1])
    assert sorted(path.name for path in place.iterdir()) == ["half", "whole"]
    assert not list(own_cache.glob("*.part-*"))


@pytest.mark.parametrize("below", ["a file", "/proc"])
def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("SOCKETCALL_CACHE", str(tmp_path / below / "cache"))
    with pytest.raises(CannotBuild, match="set SOCKETCALL_CACHE") as caught:
        store.make(TWO, quiet)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / below / "cache") in str(caught.value)


def test_a_full_disk_is_reported_before_the_build() -> None:
    with pytest.raises(CannotBuild, match=r"needs 1000000000000 MB in .*, \d+ MB are free"):
        store.make(replace(TWO, megabytes=10**12), quiet)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotBuild, match=r"no-such-tool is missing .* package no-such-tool"):
        store.run(["no-such-tool"], 1)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CannotBuild, match=r"bwrap is missing .* package bubblewrap"):
        store.tool("bwrap")


def test_a_command_that_fails_is_one_line_and_its_output_is_kept(own_cache: Path) -> None:
    def fail(into: Path, progress: Progress) -> None:
        store.run(["sh", "-c", "echo first; echo E: Could not connect to mirror; echo last; exit 3"], 10)

    with pytest.raises(CannotBuild) as caught:
        store.make(Recipe("failing", "a command fails", fail), quiet)
    log = own_cache / "failing.log"
    assert str(caught.value) == (
        "failing: sh failed: E: Could not connect to mirror; check the network, and what apt and pip are set to use "
        f"on this machine (its whole output: {log})"
    )
    assert log.read_text() == "first\nE: Could not connect to mirror\nlast\n"


def test_a_command_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(store.CommandFailed, match="did not end within 1 s"):
        store.run(["sh", "-c", f"sleep 300 & echo $! >{tmp_path}/child; wait"], 1)
    wait_for(lambda: gone(int((tmp_path / "child").read_text())), "the end of what it ran")


@pytest.fixture
def archive() -> None:
    """Skip the test where apt has no Debian archive."""
    try:
        debian.sources()
    except CannotBuild as why:
        missing(why)


@pytest.mark.usefixtures("archive")
def test_a_mirror_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: a connect is refused
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(CannotBuild, match=r"apt-get failed: E: .*check the network") as caught:
            store.make(debian.BUSYBOX, quiet)
    assert "\n" not in str(caught.value)
    assert store.have(debian.BUSYBOX) is None


def test_the_busybox_that_is_fetched_is_an_i386_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOCKETCALL_CACHE")
    before = subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, check=True).stdout
    try:
        program = store.make(debian.BUSYBOX, quiet) / "bin/busybox"
    except CannotBuild as why:
        missing(why)
    header = program.read_bytes()[:20]
    assert header[:5] == b"\x7fELF\x01"
    assert header[18:20] == b"\x03\x00"  # EM_386
    assert subprocess.run([program, "echo", "it runs"], capture_output=True, check=True).stdout == b"it runs\n"
    assert subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, check=True).stdout == before


@pytest.mark.usefixtures("archive")
def test_the_mirror_is_the_machines_own() -> None:
    lines = debian.sources()
    assert [line.split()[-2:] for line in lines] == [[suite, "main"] for suite in debian.SUITES]
    mirrors = {word for line in lines for word in line.split() if re.match(r"\w+://", word)}
    assert len(mirrors) == 1
    known = subprocess.run(["apt-get", "indextargets"], capture_output=True, text=True, check=True).stdout
    assert f"Repo-URI: {mirrors.pop()}" in known


def make_root(tmp_path: Path) -> Path:
    """Make a root with what argv() reads of one."""
    root = tmp_path / "root"
    for directory in ("usr/lib", "opt/suite", "home", "srv"):
        (root / directory).mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    return root


def test_a_directory_of_this_machine_appears_in_the_root(tmp_path: Path) -> None:
    installed("bubblewrap")
    root = make_root(tmp_path)
    line = " ".join(i386.argv(root, Path("/opt/checkout"), ["true"], [Path("/srv")]))
    for part in (
        f"--ro-bind {root}/usr /usr",
        "--symlink usr/lib /lib",
        f"--dir /opt --ro-bind {root}/opt/suite /opt/suite",
        "--bind /opt/checkout /opt/checkout",
        "--bind /srv /srv",
    ):
        assert part in line
    assert f"{root}/opt /opt" not in line
    assert f"{root}/srv" not in line
    assert line.endswith("true")


@pytest.mark.parametrize("directory", ["/", "/usr", "/opt"])
def test_a_directory_that_would_hide_the_root_is_refused(tmp_path: Path, directory: str) -> None:
    with pytest.raises(CannotBuild, match=f"{directory} is also a directory of its root"):
        i386.argv(make_root(tmp_path), CHECKOUT, ["true"], [Path(directory)])


def test_a_root_that_cannot_be_entered_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("bubblewrap")
    empty = Recipe("empty-root", "an empty directory", lambda into, progress: None)
    monkeypatch.setattr(i386, "TARGET", replace(i386.TARGET, recipe=empty))
    with pytest.raises(CannotBuild, match="the root cannot be entered: bwrap: ") as caught:
        i386.run([], CHECKOUT, quiet)
    assert "\n" not in str(caught.value)


FAKE_CLI = """
import json, os, pathlib, sys, time
again = [os.environ[f"SOCKETCALL_{name}"] for name in ("TARGET", "AGAIN", "IMPLEMENTATION")]
print(json.dumps([sys.maxsize, os.uname().machine, sys.argv[1:], input(), again]), flush=True)
pathlib.Path(sys.argv[-1]).write_text("a report")
try:
    time.sleep(60 if "--sleep" in sys.argv else 0)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(3)
"""


@pytest.fixture
def inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spawn: Callable[..., subprocess.Popen[str]]
) -> Callable[..., subprocess.Popen[str]]:
    """Start runs in the real root, of a checkout whose command only prints its environment."""
    monkeypatch.delenv("SOCKETCALL_CACHE")
    if not store.have(i386.ROOT):
        missing("the i386 root: socketcall target build i386-root")
    (tmp_path / "checkout/probes").mkdir(parents=True)
    (tmp_path / "checkout/probes/cli.py").write_text(FAKE_CLI)
    (tmp_path / "out").mkdir()
    call = "import sys; from pathlib import Path; from probes.targets.i386 import run; "
    call += "sys.exit(run(sys.argv[2:], Path(sys.argv[1]), print))"

    def start(*check_args: str) -> subprocess.Popen[str]:
        return spawn(
            [sys.executable, "-c", call, str(tmp_path / "checkout"), *check_args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )

    return start


def test_a_run_in_the_root_has_our_streams_directories_and_status(
    tmp_path: Path, inside: Callable[..., subprocess.Popen[str]]
) -> None:
    report = tmp_path / "out/report"
    process = inside("--report", str(report))
    output, _ = process.communicate("input\n", timeout=60)
    assert json.loads(output) == [
        2**31 - 1,
        "i686",
        ["check", "--report", str(report)],
        "input",
        ["i386", "socketcall target run i386 --", "linux"],
    ]
    assert process.returncode == 3
    assert report.read_text() == "a report"


def test_an_interrupt_ends_the_run_inside_in_its_own_way(
    tmp_path: Path, inside: Callable[..., subprocess.Popen[str]]
) -> None:
    process = inside("--sleep", str(tmp_path / "out/report"))
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline()
    wait_for((tmp_path / "out/report").exists, "the report")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_progress_that_cannot_be_written_ends_no_build(monkeypatch):
    """A terminal may be gone, or a disk full, before an artefact is built."""
    built = []

    def make(recipe, progress):
        progress("fetching")
        built.append(recipe.name)
        return Path("artefact")

    monkeypatch.setattr(store, "make", make)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=lambda text: os.write(-1, b""), flush=lambda: None))
    target.main(argparse.Namespace(action=target._build, name="busybox"))
    assert built == ["busybox"]

"""Builds the wheel, installs it where there is no checkout, and runs it from an empty directory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from probes import VERSION
from probes.installation import checkout
from tests.instruments.support import COMMAND_DEADLINE, missing

SUITE = "probes/_suite/"
#: What the installed copy judges: traced calls, frames, and sequences that hypothesis draws.
JUDGED = ("bind.port.privileged", "wire.silence.*", "bind.conflict.sequences")


def run(*command: str | Path, cwd: Path, status: int = 0, home: Path | None = None) -> str:
    """Run a command without this checkout in its environment. Return its output, or what it says if it must fail."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if home is not None:
        environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True,
        timeout=COMMAND_DEADLINE, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr if status else done.stdout


def pip(*words: str | Path, cwd: Path) -> str:
    """Run pip without a network."""
    quiet = ["--disable-pip-version-check", "--no-input", "-q"]
    return run(sys.executable, "-m", "pip", *quiet, *words, cwd=cwd)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Build the wheel of this checkout by the hatchling that is installed here."""
    for module in ("hatchling", "pip"):
        if importlib.util.find_spec(module) is None:
            missing(f"Python module {module} is not installed: pip install {module}")
    built = tmp_path / "built"
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", built, checkout(), cwd=tmp_path)
    [path] = built.iterdir()
    return path


@pytest.fixture
def socketcall(wheel: Path, tmp_path: Path) -> Path:
    """Install the wheel in a virtual environment, write-protected. Its dependencies are those of this environment."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True, with_pip=False)
    pip("--python", home / "bin" / "python", "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    packages = site_packages(home)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for path in [packages, *packages.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return home / "bin" / "socketcall"


def site_packages(environment: Path) -> Path:
    """Return the directory of a virtual environment that packages are installed in."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def names(directory: Path) -> set[str]:
    """Return the paths of everything under a directory, relative to it."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_the_wheel_has_the_suite_and_nothing_of_its_maintainers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert wheel.name == f"socketcall-{VERSION}-py3-none-any.whl"
    tests = [path for path in (checkout() / "tests").rglob("*.py") if "instruments" not in path.parts]
    wanted = [*tests, *(checkout() / "tests").glob("*.txt"), *(checkout() / "docs" / "references").glob("*.json")]
    wanted += [checkout() / name for name in ("conftest.py", "packages.txt", "pyproject.toml")]
    assert {f"{SUITE}{path.relative_to(checkout())}" for path in wanted} - inside == set()
    roots = {name.split("/")[0] for name in inside}
    assert roots == {"probes", f"socketcall-{VERSION}.dist-info"}
    assert [name for name in inside if "instruments" in name or "__pycache__" in name] == []


def test_it_judges_captures_and_lists_without_a_checkout(socketcall: Path, tmp_path: Path) -> None:
    packages, home, empty = site_packages(socketcall.parents[1]), tmp_path / "home", tmp_path / "empty"
    home.mkdir()
    empty.mkdir()
    before = names(packages)

    def command(*words: str) -> str:
        return run(socketcall, *words, cwd=empty, home=home)

    assert command("--version") == f"socketcall {VERSION}\n"
    command("capture", "--", "true")
    assert names(empty) == set()
    lines = [json.loads(line) for line in command("behaviours", "--json").splitlines()]
    assert {line["id"] for line in lines if line["references"]} != set()
    assert names(empty) == set()
    command("check", *JUDGED, "--gate", "int80", "--route", "socketcall")
    assert {path.name for path in empty.iterdir()} == {"report"}
    summary = json.loads((empty / "report" / "summary.json").read_text())
    assert summary["counts"]["conforms"] > 0
    assert names(home) == set()
    assert names(packages) == before


def test_what_needs_a_checkout_says_so(socketcall: Path, tmp_path: Path) -> None:
    said = run(socketcall, "behaviours", "--register", cwd=tmp_path, status=2)
    assert "needs a checkout" in said
    assert said.count("\n") == 1

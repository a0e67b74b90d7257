"""The manual page and the completion for bash say what the parsers say, and are as those who read them want them."""

import re
import subprocess

import pytest

from probes.cli.command_line import COMMANDS
from tests.instruments.support import DEADLINE, installed
from tools import interface


@pytest.mark.parametrize("name", ["socketcall.1", "socketcall.bash"])
def test_file_is_that_of_the_parsers(name):
    """python -m tools.interface would change nothing."""
    assert (interface.directory() / name).read_text() == interface.files()[name]


def test_every_option_is_in_the_manual_page():
    """Each command has its section, each option its paragraph."""
    text = interface.manual().replace("\\-", "-")
    for command in COMMANDS:
        section = text.partition(f"\n.SS socketcall {command}\n")[2].partition("\n.SS ")[0]
        for found, _ in interface._parsers(command):
            for action in found._actions:
                assert all(option in section for option in action.option_strings if option not in ("-h", "--help"))


def test_groff_reads_the_page():
    """It has no warning, and shows an option with its two hyphens."""
    installed("groff-base")
    page = interface.directory() / "socketcall.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c", str(page)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert done.stderr == ""
    # Bold characters are struck twice.
    assert "--reference" in re.sub(".\b", "", done.stdout)


COMPLETE = '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _socketcall; printf "%s\\n" "${COMPREPLY[@]}"'


def completed(*words):
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(interface.directory() / "socketcall.bash"), "socketcall", *words],
        capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ca"], ["capture"]),
        (["ma"], ["matrix"]),
        (["--ver"], ["--version"]),
        (["check", "--isol"], ["--isolation"]),
        (["check", "--isolation", ""], ["full", "net", "none"]),
        (["check", "--isolation", "n"], ["net", "none"]),
        (["check", "--seed", ""], []),
        (["sweep", "o"], ["operations"]),
        (["target", "bu"], ["build"]),
    ],
    ids=str,
)
def test_bash(words, found):
    """bash completes commands, options, and the values that an option can have."""
    assert completed(*words) == found

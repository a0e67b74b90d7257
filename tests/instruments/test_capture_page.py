"""Tests the page of HTML and `--follow-wire` of `socketcall capture`, and the examples in its help."""

import json
import re
import shlex
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from probes.cli.capture_options import EXAMPLES
from probes.cli.capture_wire import CapturedWire
from probes.cli.command_line import parsed
from probes.sandbox.wire import ClockJumped
from tests.instruments.capture_programs import capture, python

#: A connection whose data ends a script, in a page that does not escape it.
CONNECTION = """
import socket
s = socket.create_server(("127.0.0.1", 80))
c = socket.create_connection(("127.0.0.1", 80))
d = s.accept()[0]
d.send(b"</script><b>&amp;")
c.recv(100)
"""


class Page(HTMLParser):
    """Collects the scripts of a page, by their ids, and what it would load."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.loads, self._in = {}, [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self._in = named.get("id", "") if tag == "script" else None
        self.loads += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in is not None:
            self.scripts[self._in] = self.scripts.get(self._in, "") + data

    def lines(self):
        return [json.loads(line) for line in self.scripts["data"].splitlines() if line]


def frames_and_calls(lines):
    return [line.get("op") or line["type"] for line in lines if line["type"] in ("call", "frame")]


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Captures write to the directory of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The text of a page with calls and frames."""
    path = tmp_path_factory.mktemp("page") / "calls.html"
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(path.parent)
    done = capture("-o", str(path), "--follow-wire", "-k", *python(CONNECTION), format="html")
    monkeypatch.undo()
    assert done.status == 0, done.err
    return path.read_text()


def test_a_page_needs_nothing_else(page):
    """It has the lines, each with its text, and loads nothing."""
    read = Page(page)
    assert not read.loads and not re.search(r"https?://|@import|url\(", page.partition('id="data"')[0])
    lines = read.lines()
    assert {"socket", "connect", "sendto", "recvfrom", "frame"} <= set(frames_and_calls(lines))
    sent = next(line for line in lines if line.get("op") == "sendto")
    assert sent["line"] == f'sendto({int(sent["args"][0], 16)}, "</script><b>&amp;", 17, 0, NULL, 0) = 17'
    assert sent["regs_in"] and sent["stack"]
    assert [line["line"] for line in lines if line["type"] == "exit"] == ["+++ exited with 0 +++"]


def test_the_script_finds_what_it_asks_for(page):
    """The elements that the script names are in the page, and so are the members of the lines."""
    script = Page(page).scripts[""]
    asked = set(re.findall(r'byId\("(\w+)"\)', script))
    assert asked == set(re.findall(r' id="(\w+)"', page)) & asked and len(asked) > 8
    members = set(re.findall(r"\b(?:line|each)\.(\w+)", script)) - {"row", "split", "toString", "match", "classList"}
    known = {name for line in Page(page).lines() for name in line} | {"args_error"}
    assert members <= known


def test_a_page_that_was_cut_is_shown(page):
    """Without its end the page still has its lines: a browser closes a script that is open, as here."""
    cut = page[: page.rindex('\n{"type":')]
    assert len(Page(f"{cut}</script>").lines()) == len(Page(page).lines()) - 1


def test_frames_stand_between_the_calls_that_sent_them():
    """In a network namespace of its own, the frames of connect come before it returns, those of the data behind it."""
    done = capture("--follow-wire", *python(CONNECTION))
    lines = sorted(done.lines(), key=lambda line: line["t_ns"])
    shown = frames_and_calls(lines)
    connect = shown.index("connect")
    assert shown[connect : connect + 4] == ["connect", "frame", "frame", "frame"]
    assert "frame" not in shown[:connect]
    call = next(line for line in lines if line.get("op") == "connect")
    frames = [line for line in lines if line["type"] == "frame"]
    assert call["t_ns"] < frames[0]["t_ns"] < frames[1]["t_ns"] < call["t_ns"] + call["dur_ns"]
    assert b"</script>".hex() in "".join(frame["raw"] for frame in frames)
    assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1))
    text = capture("--follow-wire", "--brief", *python(CONNECTION), format="text").lines()
    assert sum("=== lo IP / TCP 127.0.0.1:" in line for line in text) >= 6


def test_the_ids_are_kept_in_the_namespace():
    source = "import os, socket\nprint(os.getuid(), os.getgid(), [name for _, name in socket.if_nameindex()])"
    alone, captured = capture(*python(source)), capture("--follow-wire", *python(source))
    assert captured.out.split()[:2] == alone.out.split()[:2]
    assert "['lo']" in captured.out or "'lo'" in captured.out


@pytest.mark.parametrize(("options", "why"), [
    (["--format", "html"], "name it with -o FILE"),
    (["-o", "x.html", "-ff"], "contradict"),
    (["-o", "x.html", "--compare", "x"], "contradict"),
    (["--follow-wire", "-c"], "contradict"),
    (["--follow-wire", "-p", "1"], "contradict"),
    (["--follow-wire", "--compare", "x"], "contradict"),
])  # fmt: skip
def test_contradictions(options, why, socketcall):
    rest = [] if "-p" in options else ["--", "true"]
    done = socketcall("capture", *options, *rest)
    assert done.status == 2 and why in done.err


def test_a_namespace_that_is_refused(socketcall):
    """One line, and the status of what cannot be traced."""
    none = ("unshare", "-rU", "sh", "-c", 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$0" "$@"')
    done = socketcall("capture", "--follow-wire", "--", "true", prefix=none)
    assert done.status == 125 and done.err.count("\n") == 1
    assert "cannot make a network namespace: unshare" in done.err


def test_every_example_is_right():
    """The parser takes each command line of the help, and no option is without one."""
    from probes.cli.command_line import parser

    used = set()
    for example in EXAMPLES:
        words = shlex.split(example)
        assert words[:2] == ["socketcall", "capture"]
        parsed(words[1:])
        used |= {word for word in words if word.startswith("-")}
    capture_parser = next(
        each for each in parser("capture")._subparsers._group_actions[0].choices.values() if each.get_default("run")
    )
    for action in capture_parser._actions:
        if action.option_strings and action.dest != "help":
            names = {*action.option_strings, *(2 * name[1:] for name in action.option_strings)}
            doubled = {f"-{name[1] * count}" for name in action.option_strings if name[1] != "-" for count in (2, 3)}
            assert used & (names | doubled), action.option_strings
    assert capture_parser.format_help().endswith("examples:\n" + "".join(f"  {each}\n" for each in EXAMPLES))


def test_frames_before_a_jump_of_the_clock_are_shown():
    """What ends the recording takes none of the frames that had arrived."""
    waiting = ["one", "two"]

    def taken():
        found, waiting[:] = list(waiting), []
        return found

    def frames(deadline):
        taken()
        raise ClockJumped("CLOCK_REALTIME was set")

    wire = CapturedWire.__new__(CapturedWire)
    wire._wire = SimpleNamespace(arrived=taken, frames=frames)
    assert wire.arrived(last=True) == (["one", "two"], "frames may be missing: CLOCK_REALTIME was set")

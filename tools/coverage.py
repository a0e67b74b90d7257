"""Maps documented facts to the behaviours that judge them: reads docs/facts/, writes docs/coverage.md.

Run it as `python -m tools.coverage`. docs/facts/ has a file for each document. The file has a table for each section of
the document, and the table a line for each fact: `"EACCES: may not create a raw socket" = ["socket.raw.*"]`. A fact begins
with the errors, flags or options that it states, if it states any. Its value is a list of behaviour ids, or globs of ids;
or "not provoked: why"; or [] while no behaviour judges it.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tools import manpages

ROOT = Path(__file__).resolve().parents[1]
FACTS = ROOT / "docs" / "facts"
MAP = ROOT / "docs" / "coverage.md"
#: The release that the facts of the manual pages were taken from.
MAN_PAGES = "6.03"
#: Documents, or sections of documents, in which every fact must be mapped. Extended when their tests are complete.
COMPLETE = (
    "BEHAVIOURS.md Entry",
    "BEHAVIOURS.md Multiplexer",
    "BEHAVIOURS.md socket",
    "BEHAVIOURS.md bind",
    "BEHAVIOURS.md Effects",
    "BEHAVIOURS.md The i386 layouts",
    "syscall(2)",
    "socketcall(2)",
    "socket(2) DESCRIPTION",
    "socket(2) RETURN VALUE",
    "socket(2) ERRORS",
    "socket(2) NOTES",
    "socketpair(2)",
    "close(2)",
    "shutdown(2)",
    "select(2)",
    "poll(2)",
    "epoll_ctl(2)",
    "epoll_wait(2)",
    "bind(2)",
    "send(2)",
    "recv(2)",
    "sendmmsg(2)",
    "recvmmsg(2)",
    "write(2)",
    "read(2)",
    "readv(2)",
    "sendfile(2)",
    "cmsg(3)",
    "listen(2)",
    "accept(2)",
    "connect(2)",
    "getsockname(2)",
    "getpeername(2)",
    "BEHAVIOURS.md packetdrill's ABI facts",
    "icmp(7)",
    "ip(7)",
    "ipv6(7)",
    "netlink(7)",
    "packet(7)",
    "raw(7)",
    "socket(7)",
    "tcp(7)",
    "udp(7)",
    "unix(7)",
    "LTP",
)
#: Documents that are neither manual pages nor texts in Markdown, by the file of their facts.
_OTHER_DOCUMENTS = {"LTP": "LTP"}
#: Pages mostly about other subjects: only the names that they list must be in a fact.
LISTED_ONLY = ("capabilities(7)",)
_NOT_PROVOKED = "not provoked:"
_COMMAND = "python -m tools.coverage"


@dataclass(frozen=True)
class Fact:
    """States one fact of a document. `globs` name the behaviours that judge it, or `reason` says why none does."""

    document: str
    section: str
    text: str
    globs: tuple[str, ...] = ()
    reason: str = ""

    @property
    def about(self) -> tuple[str, ...]:
        """Returns the errors, flags and options that the text begins with."""
        return tuple(manpages.names(self.text.partition(":")[0]))

    @property
    def state(self) -> str:
        """Returns "mapped", "not provoked" or "unmapped"."""
        return "not provoked" if self.reason else "mapped" if self.globs else "unmapped"

    @property
    def must_be_mapped(self) -> bool:
        """Returns True if its section is one of COMPLETE."""
        return self.document in COMPLETE or f"{self.document} {self.section}" in COMPLETE

    def __str__(self) -> str:
        """Returns where the fact stands, and its text."""
        return f"{self.document} {self.section}: {self.text}"


@dataclass(frozen=True)
class Judged:
    """Names a behaviour, and the file of its test relative to the checkout.

    `python` says why an agent cannot make its calls, "" if it can.
    """

    id: str
    file: str
    python: str = ""


def load(directory: Path = FACTS) -> list[Fact]:
    """Reads the facts, by document, in the order of the files. Raises ValueError for a line of another form."""
    return [
        _fact(document, section, text, value)
        for path in sorted(directory.glob("*.toml"), key=lambda path: (path.stem.partition(".")[2], path.stem))
        for document in [_document(path.stem)]
        for section, lines in tomllib.loads(path.read_text()).items()
        for text, value in lines.items()
    ]


def _document(stem: str) -> str:
    name, _, number = stem.partition(".")
    return f"{name}({number})" if number else _OTHER_DOCUMENTS.get(name, f"{name}.md")


def _fact(document: str, section: str, text: str, value: object) -> Fact:
    fact = Fact(document, section, text)
    if isinstance(value, list) and all(isinstance(glob, str) and glob and ":" not in glob for glob in value):
        return Fact(document, section, text, globs=tuple(value))
    if isinstance(value, list):
        raise ValueError(f"{fact}: {value} is not a list of behaviour ids; a fact is mapped or not provoked, not both")
    if not isinstance(value, str) or not value.startswith(_NOT_PROVOKED):
        raise ValueError(f'{fact}: {value!r} is neither ["id", …] nor "{_NOT_PROVOKED} why"')
    reason = value.removeprefix(_NOT_PROVOKED).strip()
    if not reason:
        raise ValueError(f"{fact}: not provoked, but no reason is given")
    return Fact(document, section, text, reason=reason)


def judged() -> dict[str, Judged]:
    """Returns the behaviours of this checkout, by id. Raises RuntimeError if the tests cannot be collected."""
    # A process of its own: collection inside a run of pytest would use that run's plugins.
    command = [sys.executable, "-m", "probes.cli", "behaviours", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot list the behaviours: {(done.stderr or done.stdout).strip()}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["id"]: Judged(line["id"], line["test"].partition("::")[0], line["python"]) for line in lines}


def matching(fact: Fact, behaviours: Iterable[str]) -> list[str]:
    """Returns the ids of the behaviours that judge a fact, sorted."""
    return sorted({id for glob in fact.globs for id in fnmatch.filter(behaviours, glob)})


def problems(facts: list[Fact], behaviours: Mapping[str, Judged]) -> Iterator[str]:
    """Yields the errors of the table: unknown behaviours, globs that are too wide, unmapped facts in COMPLETE sections."""
    for fact in facts:
        for glob in fact.globs:
            if glob.count(".") < 2:
                yield f"{fact}: {glob} is too wide, give folder.subject.law or folder.subject.*"
            elif not fnmatch.filter(behaviours, glob):
                yield f"{fact}: no behaviour is named {glob}"
        if fact.must_be_mapped and fact.state == "unmapped":
            yield f"{fact}: unmapped"
    present = {fact.document for fact in facts} | {f"{fact.document} {fact.section}" for fact in facts}
    for part in COMPLETE:
        if part not in present:
            yield f"COMPLETE names {part!r}, which has no facts"


def unnamed(facts: list[Fact], behaviours: Mapping[str, Judged]) -> list[str]:
    """Returns the ids of the behaviours that no fact names, sorted."""
    named = {id for fact in facts for id in matching(fact, behaviours)}
    return sorted(set(behaviours) - named)


def missing(page: manpages.Page, facts: list[Fact]) -> Iterator[str]:
    """Yields the names that a manual page lists or sets in bold and that its facts lack."""
    stated = {name for fact in facts for name in manpages.names(fact.text)}
    for heading, section in page.sections.items():
        about = [name for fact in facts if _heading(fact) == heading for name in fact.about]
        for name in dict.fromkeys(section.listed):
            listed, have = section.listed.count(name), about.count(name)
            if have < listed:
                yield f"{heading}: {name} is listed {listed} times, {have} facts begin with it"
        if facts[0].document not in LISTED_ONLY:
            yield from (
                f"{heading}: {name} is in no fact" for name in dict.fromkeys(section.bold) if name not in stated
            )


def mismatch(document: str, release: str, lacking: Iterable[str]) -> str:
    """Returns the message for a page that has what its facts lack. Names the releases of man-pages if they differ."""
    name, _, section = document.removesuffix(")").partition("(")
    lines = [f"docs/facts/{name}.{section}.toml lacks:", *(f"  {what}" for what in lacking)]
    if release != MAN_PAGES:
        lines.append(f"The page is of man-pages {release}: add the facts, or install {MAN_PAGES}.")
    return "\n".join(lines)


def invented(page: manpages.Page, facts: list[Fact]) -> Iterator[str]:
    """Yields the sections that the facts have and the page lacks, and the errors that its ERRORS does not list."""
    for fact in facts:
        section = page.sections.get(_heading(fact))
        if section is None:
            yield f"{fact}: the page has no such section"
        elif _heading(fact) == "ERRORS":
            yield from (f"{fact}: {name} is not listed" for name in fact.about if name not in section.listed)


def _heading(fact: Fact) -> str:
    # Facts about calls that have no tests yet have a table of their own: "DESCRIPTION, of other calls".
    return fact.section.partition(", ")[0]


def render(facts: list[Fact], behaviours: Mapping[str, Judged]) -> str:
    """Renders docs/coverage.md."""
    states = Counter(fact.state for fact in facts)
    due = sum(fact.must_be_mapped and fact.state == "unmapped" for fact in facts)
    left, alone = unnamed(facts, behaviours), sorted(id for id, one in behaviours.items() if one.python)
    lines = [
        "# Coverage",
        "",
        f"Written by `{_COMMAND}` from `docs/facts/` and the catalogue of behaviours; do not edit it.",
        f"The manual pages are those of man-pages {MAN_PAGES}. BEHAVIOURS.md is the project's starting catalogue.",
        "LTP has what programs of the Linux Test Project expect.",
        "",
        f"- **{due} unmapped facts** in the sections that must be complete, marked ✔",
        f"- {len(facts)} facts in all: {states['mapped']} mapped, {states['not provoked']} not provoked,"
        f" {states['unmapped']} unmapped",
        f"- {len(behaviours)} behaviours, {len(left)} that [no fact names](#behaviours-that-no-fact-names)",
        f"- {len(alone)} behaviours that [Python alone](#behaviours-that-python-alone-judges) judges, marked ᴾ",
        "",
        "| document | facts | mapped | by Python alone | not provoked | unmapped |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    sections = [
        (document, [(section, list(group)) for section, group in groupby(own, key=lambda fact: fact.section)])
        for document, own in groupby(facts, key=lambda fact: fact.document)
    ]
    for document, parts in sections:
        lines.append(
            _row(f"[{document}](#{_anchor(document)})", [fact for _, group in parts for fact in group], behaviours)
        )
    for document, parts in sections:
        lines += ["", f"## {document}"]
        for section, group in parts:
            lines += ["", f"### {section}{' ✔' if group[0].must_be_mapped else ''}", ""]
            lines += [f"- {_escaped(fact.text)} — {_verdict(fact, behaviours)}" for fact in group]
    lines += ["", "## Behaviours that Python alone judges", ""]
    lines += ["Their calls are made in the tests' own Python, never by an agent, so `--via` does not judge them.", ""]
    lines += ["| behaviour | what its test needs of the process that calls |", "|---|---|"]
    lines += [f"| {_link(behaviours[id])} | {_escaped(behaviours[id].python)} |" for id in alone]
    lines += ["", "## Behaviours that no fact names", ""]
    lines += ["They judge what the kernel's sources state, or documents that are not mapped yet.", ""] if left else []
    lines += [f"- {_link(behaviours[id])}" for id in left] or ["None."]
    return "\n".join(lines) + "\n"


def _row(name: str, facts: list[Fact], behaviours: Mapping[str, Judged]) -> str:
    states = Counter(fact.state for fact in facts)
    judges = [matching(fact, behaviours) for fact in facts]
    alone = sum(bool(ids) and all(behaviours[id].python for id in ids) for ids in judges)
    counts = (len(facts), states["mapped"], alone, states["not provoked"], states["unmapped"])
    return f"| {name} | {' | '.join(map(str, counts))} |"


def _verdict(fact: Fact, behaviours: Mapping[str, Judged]) -> str:
    if fact.reason:
        return f"not provoked: {_escaped(fact.reason)}"
    return ", ".join(_link(behaviours[id]) for id in matching(fact, behaviours)) or "**unmapped**"


def _link(behaviour: Judged) -> str:
    return f"[{behaviour.id}](../{behaviour.file}){'ᴾ' if behaviour.python else ''}"


def _anchor(heading: str) -> str:
    # The form of GitHub's anchors.
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)


def main() -> int:
    """Writes docs/coverage.md. Prints the errors of the table on stderr and returns 1 if there are any.

    Returns 2 if the behaviours cannot be listed.
    """
    try:
        facts, behaviours = load(), judged()
    except RuntimeError as error:
        print(f"{_COMMAND}: {error}", file=sys.stderr)
        return 2
    MAP.write_text(render(facts, behaviours))
    found = list(problems(facts, behaviours))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads the errors, flags and options that a manual page lists from its roff source."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

MAN = Path("/usr/share/man")
#: Errors, constants (SO_TYPE, AF_DECnet) and the requests of ioctl. Not the E of `arm/EABI`.
_NAME = re.compile(r"(?<![\w/])(?:E[A-Z0-9]{2,}|[A-Z][A-Z0-9]+_[A-Za-z0-9_]+|(?:SIOC|FIO|TIOC)[A-Z]+)\b")
#: Sections without statements: headers, prototypes, programs and cross-references.
_SILENT = ("NAME", "LIBRARY", "SYNOPSIS", "EXAMPLES", "SEE ALSO")
#: `(since Linux 2.6.14)`, `(with PACKET_RX_RING)`: remarks beside a tag. `(SIOCINQ)` is another name.
_REMARK = re.compile(r"\([a-z][^)]*\)")
_BOLD = (".B", ".BR", ".RB", ".BI", ".IB", ".SB")
#: Requests that may stand between .TP and its tag: hyphenation, distance.
_BETWEEN = (".nh", ".hy", ".PD", ".ad", ".na")


@dataclass
class Section:
    """Holds the names of a section: those that its items and tables list, and all that it sets in bold."""

    listed: list[str] = field(default_factory=list)
    bold: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Holds the release of man-pages that a page is from, and its sections by heading."""

    release: str
    sections: dict[str, Section]


def names(text: str) -> list[str]:
    """Returns the names of errors, constants and ioctl requests in a text, in order."""
    return _NAME.findall(text)


def installed(page: str) -> Page:
    """Reads an installed page, `page` like "socket(2)". Raises FileNotFoundError, which names the packages to install."""
    name, _, number = page.rstrip(")").partition("(")
    path = MAN / f"man{number}" / f"{name}.{number}"
    packed = path.with_name(f"{path.name}.gz")
    if packed.is_file():
        return read(gzip.decompress(packed.read_bytes()).decode())
    if path.is_file():
        return read(path.read_text())
    raise FileNotFoundError(f"{page} is not in {MAN}: install manpages and manpages-dev, see packages.txt")


def read(roff: str) -> Page:
    """Parses a page of man(7) macros. A name is listed once for each item that has it as a tag, and once for each table."""
    release, sections = "", dict[str, Section]()
    section, silent, tag_next = Section(), True, False
    table: set[str] | None = None
    for line in roff.splitlines():
        macro, _, rest = line.partition(" ")
        if macro.startswith((r".\"", r"'\"")) or (tag_next and macro in _BETWEEN):
            continue
        if macro in (".TP", ".TQ"):
            tag_next = True
            continue
        if macro == ".TH":
            release = _release(rest)
        elif macro in (".SH", ".SS"):
            heading = rest.strip().strip('"')
            silent = heading in _SILENT or (macro == ".SS" and silent)
            section = Section() if silent else sections.setdefault(heading, Section())
        elif macro in (".TS", ".TE"):
            table = set() if macro == ".TS" else None
        elif tag_next:
            section.listed += names(_REMARK.sub("", _printed(line)))
        elif table is not None:
            section.listed += [name for name in dict.fromkeys(names(line)) if name not in table]
            table.update(names(line))
        if tag_next or table is not None or macro in _BOLD:
            section.bold += names(line)
        tag_next = False
    return Page(release, sections)


def _release(heading: str) -> str:
    found = re.search(r"man\\?-pages ([\w.]+)", heading)
    return found[1] if found else ""


def _printed(line: str) -> str:
    # The words of `.BR NAME " (since Linux 2.2), " OTHER` as man prints them.
    macro, _, rest = line.partition(" ")
    if macro not in _BOLD:
        return line
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', rest)]
    return (" " if macro == ".B" else "").join(words)

"""Converts keys of checks from one suite version to the next, and verifies the table on two runs.

    python -m tools.keys TABLE OLD_RESULTS NEW_RESULTS      verify: every old key becomes a key of the new run
    python -m tools.keys --write TABLE OLD NEW [OLD NEW …]  write the table from pairs of runs before and after a change

A table (docs/keys/*.tsv) has a rule a line: ID, CASE-GLOB, old route, new route, and perhaps GLOB>WORD …, the words of
the case that are replaced (removed if WORD is empty). An old route may name a gate too: socketcall-vdso. A key becomes that
of the first rule that matches: the new route, its case without the words `over=…`. Keys that no rule matches stay as they
are. Several old keys may become one: they were the same judgement, or their answers are members of one check now.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probes.errors import CommandError
from probes.report.check import BOTH, Key
from probes.report.reader import keys_of
from tools.command import run

#: Patterns of cases that separate the keys of one behaviour and route, tried in this order.
_PATTERNS = ("*over=socketcall*", "*over=direct*", "*left=the-same*", "*")
_HEAD = "# id\tcase\told route\tnew route; see tools/keys.py\n"


@dataclass(frozen=True)
class Rule:
    """A line of a table."""

    id: str
    case: str
    old_route: str
    new_route: str
    words: str = ""

    def matches(self, key: Key) -> bool:
        """Return True for a key that the rule converts."""
        here = key.id == self.id and self.old_route in (key.route, f"{key.route}-{key.gate}")
        return here and fnmatch.fnmatchcase(key.case, self.case)

    def apply(self, key: Key) -> Key:
        """Return the key that the rule makes of one that it matches."""
        words = _without_over(key.case).split()
        for glob, _, new in (change.rpartition(">") for change in self.words.split()):
            words = [new if fnmatch.fnmatchcase(word, glob) else word for word in words]
        return replace(key, case=" ".join(filter(None, words)), route=self.new_route)


def read_table(path: Path) -> list[Rule]:
    """Return the rules of a table. Raises CommandError: unreadable, or a line that is not a rule."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {error}; name a table of docs/keys") from error
    rules = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) not in (4, 5):
            raise CommandError(
                f"{path} line {number}: {line!r} is not ID, CASE-GLOB, old route, new route, GLOB>WORD …"
            )
        rules.append(Rule(*fields))
    return rules


def convert(key: Key, rules: Iterable[Rule]) -> Key:
    """Return the key that a table makes of an old one."""
    for rule in rules:
        if rule.matches(key):
            return rule.apply(key)
    return key


def _without_over(case: str) -> str:
    return " ".join(word for word in case.split() if not word.startswith("over="))


def derive(old: Iterable[Key], new: Iterable[Key]) -> list[Rule]:
    """Return the rules by which old keys become new ones. Raises CommandError for a key that becomes none or several."""
    there = set(new)
    changed: dict[tuple[str, str], dict[str, str]] = {}
    for key in old:
        changed.setdefault((key.id, key.route), {})[key.case] = _new_route(key, there)
    rules = []
    for (id, route), cases in sorted(changed.items()):
        for pattern in _PATTERNS:
            found = {case: cases.pop(case) for case in fnmatch.filter(list(cases), pattern)}
            routes = set(found.values())
            if len(routes) == 1 and (routes != {route} or "over=" in pattern):
                rules.append(Rule(id, pattern, route, routes.pop()))
            elif len(routes) > 1:
                rules += [Rule(id, case, route, became) for case, became in found.items() if became != route]
    return rules


def _new_route(key: Key, there: set[Key]) -> str:
    moved = replace(key, case=_without_over(key.case))
    over = next((word.removeprefix("over=") for word in key.case.split() if word.startswith("over=")), "")
    for route in filter(None, (over, key.route, BOTH, "direct", "socketcall")):
        if replace(moved, route=route) in there:
            return route
    raise CommandError(f"no key of the new run stands for {key}")


def verify(old: Iterable[Key], new: Iterable[Key], rules: Sequence[Rule]) -> list[str]:
    """Return what is wrong with a table: old keys that become none of the new run, new keys that no old one becomes."""
    became = {convert(key, rules): key for key in old}
    there = set(new)
    lost = [f"{became[key]} became {key}, which the new run lacks" for key in became if key not in there]
    return lost + [f"{key} is new" for key in there if key not in became]


def main(words: list[str]) -> int:
    """Verifies or writes a table; returns 1 if the runs do not agree with it. Raises CommandError."""
    write = words[:1] == ["--write"]
    if len(words) < 3 + write or (len(words) - write) % 2 == 0:
        raise CommandError("usage: python -m tools.keys [--write] TABLE OLD_RESULTS NEW_RESULTS …")
    table, *runs = map(Path, words[write:])
    pairs = [(keys_of(old), keys_of(new)) for old, new in zip(runs[::2], runs[1::2], strict=True)]
    if write:
        rules = list(dict.fromkeys(rule for old, new in pairs for rule in derive(old, new)))
        lines = ["\t".join((rule.id, rule.case, rule.old_route, rule.new_route)) for rule in rules]
        table.write_text(_HEAD + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    wrong = [line for old, new in pairs for line in verify(old, new, read_table(table))]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    run(main)

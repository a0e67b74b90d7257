"""Finds the causes of an implementation's deviations, with the smallest script that shows each, by running scripts there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probes.report.check import BOTH
from probes.script import replay
from probes.script.replay import Outcome
from probes.script.script import Script
from tools.smallest import of_check, search, smallest

if TYPE_CHECKING:
    # Not before pytest has imported the plugin, whose assertions it rewrites.
    from probes.script.run import Recorded

#: As many causes of an implementation get a script: the most frequent.
MOST = 80
#: As many scripts go into one sandbox: a run that hangs ends by its deadline.
_MOST = 300
#: That a script may take: one without the step that another waits for takes all of them, while others go on.
_SECONDS, _AT_ONCE = 3, 20
_CALL = re.compile(r"socketcall\(SYS_(\w+)|syscall\(NR_(\w+)")
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")


@dataclass
class Target:
    """Is a target with results: its name, that of the implementation with the version, the command that runs a program."""

    name: str
    implementation: str
    command: list[str]
    #: (id, case, route) of the checks that deviate through int $0x80.
    deviating: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def family(self) -> str:
        """Returns the implementation without its version."""
        return self.implementation.rpartition(" ")[0] or self.implementation


@dataclass(frozen=True)
class Cause:
    """Is what failing checks have in common. `where` is the operation, or the behaviour where the call is not known."""

    where: str
    answer: str


@dataclass
class Finding:
    """Is a cause with the smallest script that shows it: on which targets, in which checks."""

    cause: Cause
    script: Script
    line: str
    checks: dict[str, set[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(set))
    fails_on: list[Target] = field(default_factory=list)


def cause_of(script: Script, outcome: Outcome) -> Cause:
    """Returns the cause of a check that is not as expected."""
    call = _CALL.search(outcome.why)
    if call is None:
        return Cause(script.id, outcome.why)
    operation, said = (call[1] or call[2]).lower(), tail(outcome)
    if "wrote " in said:
        # Bytes differ from check to check: the names among the arguments say what they are of.
        return Cause(" ".join([operation, *_NAME.findall(outcome.why[call.end() :])]), "wrote other bytes")
    return Cause(operation, said)


def tail(outcome: Outcome) -> str:
    """Returns what an answer was and should have been, without what differs from script to script.

    That is the call, whose arguments are addresses and descriptors, and the value of a result that is one.
    """
    for mark in (" wrote ", " = "):
        _, found, rest = outcome.why.rpartition(mark)
        if found:
            return re.sub(r"^= [1-9]\d*,", "= a value,", f"{mark}{rest}".strip())
    return outcome.why.partition(" in ")[0]


def findings(targets: Sequence[Target], recorded: Recorded) -> list[Finding]:
    """Returns what scripts show on the targets of one implementation, most frequent first."""
    failing: dict[Cause, list[tuple[int, Target, Script, int]]] = defaultdict(list)
    checks: dict[Cause, dict[str, set[tuple[str, str, str]]]] = defaultdict(lambda: defaultdict(set))
    for target in targets:
        ids = {id for id, _, _ in target.deviating}
        scripts = [script for script in recorded.scripts if script.id in ids]
        for script, outcomes in zip(scripts, run_on(scripts, target), strict=True):
            for check, outcome in zip(script.judged, outcomes, strict=True):
                keys = _keys(script, check) & target.deviating
                if not outcome.ok and keys:
                    cause = cause_of(script, outcome)
                    size = len(of_check(script, check).steps)
                    failing[cause].append((size, target, script, check))
                    checks[cause][target.name] |= keys
    frequent = sorted(failing, key=lambda cause: -sum(map(len, checks[cause].values())))[:MOST]
    chosen = {cause: min(failing[cause], key=lambda one: (one[0], one[2].id)) for cause in frequent}
    made = shrunk([(target, of_check(script, check)) for _, target, script, check in chosen.values()])
    merged: dict[Cause, Finding] = {}
    for cause, (small, line) in zip(chosen, made, strict=True):
        if small is None:
            continue
        # Alone it may have another cause: that of the set-up before.
        own = cause_of(small, Outcome(False, line))
        one = merged.get(own)
        if one is None or len(small.steps) < len(one.script.steps):
            merged[own] = Finding(own, small, line, one.checks if one else defaultdict(set))
        for name, keys in checks[cause].items():
            merged[own].checks[name] |= keys
    found = list(merged.values())
    for target in targets:
        for finding, outcomes in zip(found, run_on([one.script for one in found], target), strict=True):
            if not outcomes[0].ok:
                finding.fails_on.append(target)
    return sorted(found, key=lambda one: (-sum(map(len, one.checks.values())), one.script.id))


def _keys(script: Script, check: int) -> set[tuple[str, str, str]]:
    """Returns the keys that a check of a script can have in results: a test of both routes has checks of each."""
    routes = ("direct", "socketcall", BOTH) if script.route == BOTH else (script.route,)
    return {(script.id, script.checks[check].case, route) for route in routes}


def run_on(scripts: Sequence[Script], target: Target | None) -> list[list[Outcome]]:
    """Returns the outcomes of scripts on a target, None: on this kernel."""
    found: list[list[Outcome]] = []
    for first in range(0, len(scripts), _MOST):
        some = scripts[first : first + _MOST]
        found += replay.outcomes(some, target.command if target else (), seconds=_SECONDS, at_once=_AT_ONCE)
    return found


def shrunk(chosen: Sequence[tuple[Target, Script]]) -> list[tuple[Script | None, str]]:
    """Returns the smallest script of each, with its line; None for one that does not fail by itself."""
    made: list[tuple[Script | None, str]] = [(None, "")] * len(chosen)
    alone = [run_on([script], target)[0][0] for target, script in chosen]
    whole = _show([(target, script, tail(outcome)) for (target, script), outcome in zip(chosen, alone, strict=True)])
    going = [index for index, fails in enumerate(whole) if fails]

    def ask(scripts: Mapping[int, list[Script]]) -> dict[int, list[bool]]:
        asked = [(number, script) for number, some in scripts.items() for script in some]
        flat = [(chosen[going[n]][0], script, tail(alone[going[n]])) for n, script in asked]
        answers = iter(_show(flat))
        return {number: [next(answers) for _ in some] for number, some in scripts.items()}

    for index, script in zip(going, search([smallest(chosen[index][1]) for index in going], ask), strict=True):
        ((outcome,),) = run_on([script], chosen[index][0])
        made[index] = script, outcome.why
    return made


def _show(asked: Sequence[tuple[Target, Script, str]]) -> list[bool]:
    """Returns for each script if this kernel answers it as expected, and its target with the tail that is given."""
    native = run_on([script for _, script, _ in asked], None)
    fine = [index for index, (outcome,) in enumerate(native) if outcome.ok and not outcome.why]
    shown = [False] * len(asked)
    for target in {id(one): one for one, _, _ in asked}.values():
        mine = [index for index in fine if asked[index][0] is target]
        for index, (outcome,) in zip(mine, run_on([asked[index][1] for index in mine], target), strict=True):
            shown[index] = not outcome.ok and tail(outcome) == asked[index][2]
    return shown

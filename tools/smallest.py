"""Makes scripts small: steps are left out as long as one check fails as before on an implementation, and passes on Linux."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace

from probes.script.expressions import arrays_of
from probes.script.script import Call, Compare, Expected, Load, Put, Script, Step, Verdict, Word

#: Asks for each of some scripts whether it shows the failure.
Search = Generator[list[Script], list[bool], Script]
#: Answers the questions of several searches, by their numbers.
Ask = Callable[[Mapping[int, list[Script]]], dict[int, list[bool]]]


def of_check(script: Script, check: int) -> Script:
    """Returns a script that judges one check alone, up to its verdict."""
    steps: list[Step] = []
    for step in script.steps:
        if isinstance(step, Call):
            expected = [
                replace(one, check=None if one.check is None else 0)
                for one in step.expected
                if one.check in (None, check)
            ]
            steps.append(replace(step, expected=expected))
        elif isinstance(step, Compare | Verdict):
            if step.check == check:
                steps.append(replace(step, check=0))
                if isinstance(step, Verdict):
                    break
        else:
            steps.append(step)
    return replace(script, checks=[replace(script.checks[check], left_out="")], steps=steps, stopped="")


def smallest(script: Script) -> Search:
    """Yields smaller scripts, is sent which of them show the failure, and returns one of which no step can be left out."""
    size = max(1, len(script.steps) // 2)
    while True:
        found: list[tuple[set[int], Script]] = []
        for start in range(0, len(script.steps), size):
            gone = _without(script.steps, range(start, start + size))
            if gone is not None and gone not in [one for one, _ in found]:
                found.append((gone, _left(script, gone)))
        shown = yield [one for _, one in found]
        gone_well = [gone for (gone, _), fails in zip(found, shown, strict=True) if fails]
        if gone_well:
            union = _left(script, set().union(*gone_well))
            (fails,) = yield [union]
            script = union if fails else _left(script, max(gone_well, key=len))
        elif size == 1:
            break
        if not gone_well or size > 1:
            size = max(1, size // 2)
    bare = replace(script, written=[], protocols={})
    (fails,) = yield [bare]
    return _renumbered(bare if fails else script)


def search(searches: Sequence[Search], ask: Ask) -> list[Script]:
    """Goes on with several searches at a time, so that one program has the scripts of all, and returns what they found."""
    found: dict[int, Script] = {}
    asked = {number: next(one) for number, one in enumerate(searches)}
    while asked:
        for number, shown in ask(asked).items():
            try:
                asked[number] = searches[number].send(shown)
            except StopIteration as done:
                found[number] = done.value
                del asked[number]
    return [found[number] for number in range(len(searches))]


def _left(script: Script, gone: set[int]) -> Script:
    return replace(script, steps=[step for index, step in enumerate(script.steps) if index not in gone])


def _without(steps: Sequence[Step], some: Iterable[int]) -> set[int] | None:
    """Returns the indexes of some steps and of those that use their results; None if the check needs one of them.

    The steps that judge stay, and the argument words of a call as long as it does.
    """
    gone = {index for index in some if index < len(steps) and not _judges(steps[index])}
    places = {id(step): index for index, step in enumerate(steps)}
    arrays = {places[id(array)]: call for call, array in arrays_of(steps).items()}
    gone -= {array for array, call in arrays.items() if call not in gone}
    slots: set[int] = set()
    for index, step in enumerate(steps):
        needs = any(word.kind == "slot" and word.value in slots for word in _words(step))
        if needs and (_judges(step) or arrays.get(index, index) not in gone | {index}):
            return None
        if needs or index in gone:
            gone.add(index)
            if isinstance(step, Call | Load) and step.slot is not None:
                slots.add(step.slot)
    return gone or None


def _judges(step: Step) -> bool:
    return isinstance(step, Compare | Verdict) or any(one.check is not None for one in _expected(step))


def _expected(step: Step) -> list[Expected]:
    return step.expected if isinstance(step, Call) else []


def _words(step: Step) -> list[Word]:
    if isinstance(step, Call):
        return [*step.registers, *(one.value for one in step.expected if isinstance(one.value, Word))]
    return [word for _, _, word in step.words] if isinstance(step, Put) else []


def _renumbered(script: Script) -> Script:
    """Returns a script whose slots have the numbers from 0 on, in their order; those that nothing uses are no slots."""
    used = {word.value for step in script.steps for word in _words(step) if word.kind == "slot"}
    made = [step.slot for step in script.steps if isinstance(step, Call | Load) and step.slot in used]
    numbers = {slot: number for number, slot in enumerate(made)}

    def word(one: Word) -> Word:
        return Word(numbers[one.value], "slot") if one.kind == "slot" else one

    steps: list[Step] = []
    for step in script.steps:
        if isinstance(step, Call):
            expected = [
                replace(one, value=word(one.value) if isinstance(one.value, Word) else one.value)
                for one in step.expected
            ]
            slot = None if step.slot is None else numbers.get(step.slot)
            steps.append(replace(step, registers=tuple(map(word, step.registers)), slot=slot, expected=expected))
        elif isinstance(step, Put):
            steps.append(replace(step, words=[(at, size, word(one)) for at, size, one in step.words]))
        elif isinstance(step, Load):
            if step.slot in numbers:
                steps.append(replace(step, slot=numbers[step.slot]))
        else:
            steps.append(step)
    return replace(script, steps=steps)

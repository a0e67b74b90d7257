"""Rules of models that predict results: each restates a document or a kernel function, and can be inverted.

If no check deviates when a rule is inverted, that rule is not tested.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

_Method = TypeVar("_Method", bound=Callable[..., bool])


class Invertible(Protocol):
    """Has the name of the rule whose result is inverted, None for none."""

    inverted: str | None


@dataclass(frozen=True)
class Rule:
    """The document or kernel function that a rule restates, and the version from which on the rule has no effect."""

    source: str
    until: tuple[int, ...] | None


@dataclass(frozen=True)
class Rulebook:
    """Registers rules of a model: `@rule("source")` on a method that returns True or False, whose docstring states it."""

    rules: dict[str, Rule] = field(default_factory=dict)

    def __call__(self, source: str, until: tuple[int, ...] | None = None) -> Callable[[_Method], _Method]:
        """Registers a method as a rule under its name. Its result can be inverted."""

        def mark(method: _Method) -> _Method:
            name = method.__name__
            self.rules[name] = Rule(source, until)

            @functools.wraps(method)
            def apply(model: Invertible, *words: object) -> bool:
                return method(model, *words) != (model.inverted == name)

            return cast(_Method, apply)

        return mark

    def check(self, inverted: str | None) -> None:
        """Raises ValueError for a name that is no rule."""
        if inverted is not None and inverted not in self.rules:
            raise ValueError(f"no rule is called {inverted}")

"""Decodes the arguments of a call from its words and the memory that was fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probes.abi.arguments.argument import Fetched
from probes.abi.operations import Operation
from probes.abi.record import Decoded


def decode(
    operation: Operation,
    words: Sequence[int],
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    ret: int | None,
    word: int,
) -> dict[str, Decoded]:
    """Decode the arguments in order, as JSON can hold them: {"fd": 3, "addr": {"family": "AF_INET", …}, …}.

    `before` and `after` are what `fetch` returned at entry and at exit. Words that could not be read are left out, so
    are those that the operation does not take. Never raises.
    """
    width = 64 if word == 64 else 32
    mask = (1 << width) - 1
    fetched = Fetched([value & mask for value in words], before, after, ret, width)
    arguments = operation.arguments[: len(words)]
    return {argument.name: argument.decode(fetched, index) for index, argument in enumerate(arguments)}

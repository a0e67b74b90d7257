"""What the memory that a call points to says, for people and for evidence.

Three steps: `look` (peek.py) reads it while the caller is stopped, `decode` tells arguments by name, `text` (text.py)
makes one line of that. Only `look` has to be done before the caller goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probes.abi.arguments import SOCKET_CALLS, Call
from probes.abi.numbers import OPERATIONS
from probes.abi.peek import ENTRY, EXIT, look
from probes.abi.plain import PLAIN_CALLS, Argument
from probes.abi.sight import Reader
from probes.abi.text import text

#: The operations that point to something at entry, and those that may have written something at exit.
POINTS_IN, POINTS_OUT = frozenset(ENTRY), frozenset(EXIT)
__all__ = ["POINTS_IN", "POINTS_OUT", "Reader", "decode", "look", "text"]

#: Name and teller of every argument of every operation that has a name.
ARGUMENTS: dict[str, tuple[Argument, ...]] = {
    **{op: tuple(zip(OPERATIONS[op].args, tellers, strict=True)) for op, tellers in SOCKET_CALLS.items()},
    **PLAIN_CALLS,
}


def decode(
    op: str, words: Sequence[int], before: Mapping[str, bytes], after: Mapping[str, bytes], ret: int | None, word: int
) -> dict[str, Any]:
    """The arguments of a call, in order, as JSON can hold them: {"fd": 3, "addr": {"family": "AF_INET", …}, …}.

    `before` and `after` are what `look` returned at entry and at exit. Words that lack are left out, those that the
    operation does not take too; an operation without a name has no arguments to tell. Never raises.
    """
    width = 64 if word == 64 else 32
    mask = (1 << width) - 1
    call = Call([value & mask for value in words], before, after, ret, width)
    told = ARGUMENTS.get(op, ())[: len(words)]
    return {name: teller(call, index) for index, (name, teller) in enumerate(told)}

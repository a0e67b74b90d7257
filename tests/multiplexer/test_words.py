"""Tests how many argument words each operation copies (the kernel's table nas), against a page that faults."""

from errno import EFAULT

import pytest

from probes.abi.operations import SOCKETCALL
from probes.entry.gate import Gate, Result
from probes.entry.memory import Block
from probes.testing import behaviour, need

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); net/socket.c nargs, net/compat.c nas (21 entries today, 20 in S1); S1 nas; S4 1.5 step 2"
#: The table nas of the documents without its entry 0: the number of words of operations 1 to 20.
WORDS = dict(enumerate((3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4), 1))
#: The longest array, in bytes.
MOST = 24


def operate(the_gate: Gate, page: Block, call: int, words: bytes, readable: int) -> Result:
    """Makes an operation whose array lies at the end of a page, so that only its first `readable` bytes can be read.

    Where the array is longer than the words, bytes of ones follow: an operation that copied them would fail.
    """
    page.part(MOST - readable).write(words.ljust(MOST, b"\xff")[:readable])
    return the_gate.enter(SOCKETCALL, call, page.end - readable)


@behaviour("multiplexer.words.copied", f"{SOURCE}; S1 `copy_from_user(a, args, nas[call])`")
def test_copied(the_gate, memory, samples, expect):
    """An operation fails with EFAULT if fewer bytes of its array can be read than its words take, whatever their values;
    with that many or more it gets its words.
    """
    page = memory.guarded(MOST)
    for call, count in WORDS.items():
        sample, enough = samples[call], 4 * count
        for name, lengths in {"less": range(enough), "enough": range(enough, MOST + 1)}.items():
            expected = sample.result if name == "enough" else -EFAULT
            check = expect([expected] * len(lengths), call=call, readable=name)
            results = [operate(the_gate, page, call, sample.words, readable) for readable in lengths]
            check.of(results, *results)


@behaviour("multiplexer.words.table", SOURCE)
@pytest.mark.parametrize("place", ["no-access", "not-mapped"])
def test_table(the_gate, memory, samples, place, expect):
    """Operations 1 to 20 copy 3 3 3 2 3 3 3 4 4 4 6 6 2 5 5 3 3 4 5 4 words: with fewer readable bytes they fail with
    EFAULT, before a page without access and before an unmapped one.
    """
    page = memory.guarded(MOST) if place == "no-access" else memory.before_hole(MOST)
    for call, count in WORDS.items():
        check = expect(4 * count, call=call)
        results = [operate(the_gate, page, call, samples[call].words, readable) for readable in range(MOST + 1)]
        for result in results[4 * count :]:
            need(result, "the operation with all its words", returns=samples[call].result)
        check.of(next((readable for readable, result in enumerate(results) if result != -EFAULT), None), *results)

"""How many argument words each operation copies: nas, measured against a page that faults."""

from errno import EFAULT

import pytest

from probes.abi.operations import SOCKETCALL
from probes.testing import behaviour

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2); net/socket.c nargs, net/compat.c nas (21 entries today, 20 in S1); S1 nas; S4 1.5 step 2"
#: nas as the documents have it, without its entry 0: the words of operations 1 to 20.
WORDS = dict(enumerate((3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4), 1))
#: The longest array, in bytes.
MOST = 24


def operate(the_gate, page, call, words, readable):
    """Makes an operation of whose array the first bytes can be read, as many as `readable`, at the end of the page.

    Beyond its words come bytes that spoil an operation which copies more of them.
    """
    page.part(MOST - readable).write(words.ljust(MOST, b"\xff")[:readable])
    return the_gate.enter(SOCKETCALL, call, page.end - readable)


@behaviour("multiplexer.words.copied", f"{SOURCE}; S1 `copy_from_user(a, args, nas[call])`")
def test_copied(the_gate, memory, telling, expect):
    """An array of which fewer bytes can be read than the operation has words for fails with EFAULT, whatever the words
    say; from that many bytes on the operation gets its words.
    """
    page = memory.guarded(MOST)
    for call, count in WORDS.items():
        words, answer = telling[call]
        for readable in range(MOST + 1):
            expected = answer if readable >= 4 * count else -EFAULT
            expect(expected, call=call, readable=readable).of(operate(the_gate, page, call, words, readable))


@behaviour("multiplexer.words.table", SOURCE)
@pytest.mark.parametrize("place", ["no-access", "not-mapped"])
def test_table(the_gate, memory, telling, place, expect):
    """Operations 1 to 20 copy 3 3 3 2 3 3 3 4 4 4 6 6 2 5 5 3 3 4 5 4 words: the fewest readable bytes that are not
    refused, before a page without access and before one that is not mapped.
    """
    page = memory.guarded(MOST) if place == "no-access" else memory.before_hole(MOST)
    for call, count in WORDS.items():
        check = expect(4 * count, call=call)
        results = [operate(the_gate, page, call, telling[call][0], readable) for readable in range(MOST + 1)]
        check.of(next((readable for readable, result in enumerate(results) if result != -EFAULT), None), *results)

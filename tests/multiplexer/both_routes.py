"""The same call over both routes, judged by a table of what it answers."""

import errno
from itertools import count

from probes.entry.calls import Calls
from probes.testing import Broke
from probes.testing import procfs as witness
from tests.multiplexer.route_states import State, described, ready
from tests.multiplexer.route_words import Placed


class Both:
    """Makes calls over both routes, each in a fresh state, and judges both answers, and that they leave the same."""

    def __init__(self, gate, memory, expect):
        self._routes = [Calls(gate, route, memory) for route in ("direct", "socketcall")]
        self._memory, self._expect = memory, expect

    def judge(self, op, rows, text, hears=lambda row, expected: False):
        """Judges the cells of a table: a column a state, a row a name of the words. `hears(row, expected)` says whether
        the other end is to notice. An operation without a direct call is made by the one that does the same."""
        for row, column, expected in table(text):
            left, results = [], []
            for calls in self._routes:
                check = self._expect(expected, state=column, words=row, over=calls.route)
                state, before = State(column), witness.descriptors()
                placed, free = Placed(self._memory, state.fd), next(fd for fd in count() if fd not in before)
                result = calls.make(op, *(placed.word(word) for word in rows[row]))
                check.of("fd" if expected == "fd" and result == free else int(result), result)
                if hears(row, expected) and state.peer >= 0:
                    ready(state.peer)
                made = [fd for fd in witness.descriptors() if fd not in before]
                left.append([placed.read(), *map(described, (state.fd, state.peer, *made))])
                results.append(result)
                state.close()
            self._expect(left[0], state=column, words=row, left="the-same").of(left[1], *results)


def table(text):
    """The cells of a table: (row, column, expected). A cell is an error's name, a number, fd for the lowest free
    descriptor, or a point where the call is not made."""
    head, *lines = (line.split() for line in text.splitlines() if line.strip())
    for row, *cells in lines:
        if len(cells) != len(head):
            raise Broke(f"row {row} has {len(cells)} cells for {len(head)} columns")
        for column, cell in zip(head, cells, strict=True):
            if cell != ".":
                yield row, column, expected_of(cell)


def expected_of(cell):
    """The value that a cell stands for."""
    if hasattr(errno, cell):
        return -getattr(errno, cell)
    return cell if cell == "fd" else int(cell)

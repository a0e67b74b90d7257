"""Random sequences of calls on up to six TCP sockets, whose results and events the model of tcp_model.py predicts.

SOCKETCALL_SEQUENCES is the number of sequences over one route and gate; over the others a tenth is played.
"""

from __future__ import annotations

import pytest

from probes.entry.calls import Calls
from probes.testing import behaviour
from probes.testing.procfs import protocols
from probes.testing.sequences import SEQUENCES, hypothesis_search
from tests.teardown.tcp_kernel import Surroundings, kinds_of, transcript
from tests.teardown.tcp_sequences import Sequences

SOURCE = (
    "RFC 9293 3.3.2, 3.6, 3.10; tcp(7); shutdown(2); close(2); recv(2); send(2); poll(2); tcp_rules.py, tcp_model.py"
)
#: Sequences of one check: each is a test of its own, within the deadline of any test.
BATCH = 125


@pytest.fixture
def sequences(calls: Calls) -> Sequences:
    """The sequences of one test."""
    return Sequences(Surroundings(Calls(calls.gate.quieted(), calls.route, calls.memory), kinds_of(protocols())))


@behaviour("teardown.tcp.sequences", SOURCE)
@pytest.mark.parametrize("batch", range(max(1, round(SEQUENCES / BATCH))))
def test_sequences(batch, sequences, entry, calls, memory, ranges, seeded, expect, the_gate):
    """In random sequences of calls on TCP sockets each call returns, and poll reports of each socket, what follows from the
    states of RFC 9293 in which both ends of its connection are.

    All sequences are played untraced, then the last one, or the simplest one that disagrees, once more, traced.
    """
    quiet = Calls(the_gate.quieted(), entry.route, memory)
    hypothesis_search().judge_sequences(
        expect,
        BATCH if ranges.whole else BATCH // 10,
        seeded.getrandbits(64),
        lambda numbers: sequences.play(numbers, quiet),
        lambda numbers: sequences.play(numbers, calls),
        transcript,
    )

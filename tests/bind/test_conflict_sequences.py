"""Random sequences of socket, setsockopt, bind, listen, connect and close on up to six sockets.

The model of conflict_model.py predicts their results. SOCKETCALL_SEQUENCES is the number of sequences over one route and
gate. What a sequence does depends on neither: over the others a tenth is played.
"""

from __future__ import annotations

import pytest

from probes.entry.calls import Calls
from probes.sandbox import namespaces
from probes.testing import behaviour, not_applicable
from probes.testing.fixtures import reference
from probes.testing.procfs import protocols
from probes.testing.sequences import SEQUENCES, hypothesis_search
from tests.bind.conflict_kernel import transcript
from tests.bind.conflict_played import Sequences

SOURCE = "socket(7); ip(7); tcp(7); udp(7); bind(2); listen(2); connect(2); conflict_rules.py, conflict_connect.py"
#: Sequences of one check: each is a test of its own, within the deadline of any test.
BATCH = 125
#: Subjects of sequences, with their shares. Sequences of several users come on top: only root can play them.
SHARES = {"ports": 0.25, "connections": 0.75, "users": 0.25}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes as many batches as give the number of sequences over one entry."""
    batches = [
        pytest.param(about, batch, marks=pytest.mark.sandbox(ids=3) if about == "users" else ())
        for about, share in SHARES.items()
        for batch in range(max(1, round(SEQUENCES * share / BATCH)))
    ]
    metafunc.parametrize(("about", "batch"), batches)


@pytest.fixture
def sequences(about: str, request: pytest.FixtureRequest) -> Sequences:
    """The sequences of one subject. Not applicable without IPv6."""
    if "TCPv6" not in protocols():
        not_applicable("IPv6")
    if about == "ports":
        request.getfixturevalue("links")
    return Sequences(
        reference(request.config).version,
        link="near0" if about == "ports" else "",
        users=(0, *namespaces.OTHER_IDS) if about == "users" else (0,),
        lite="UDP-Lite" in protocols(),
    )


@behaviour("bind.conflict.sequences", SOURCE, tag="implementation")
def test_sequences(batch, sequences, entry, calls, memory, ranges, seeded, expect, the_gate):
    """In random sequences of calls, each bind, listen and connect succeeds or fails with the errno that follows from the
    addresses, ports, options, devices, users and states of the other sockets, whatever they did before.

    All sequences are played untraced, then the last one, or the simplest one that disagrees, once more, traced.
    """
    search, quiet = hypothesis_search(), Calls(the_gate.quieted(), entry.route, memory)
    search.judge_sequences(
        expect,
        BATCH if ranges.whole else BATCH // 10,
        seeded.getrandbits(64),
        lambda numbers: sequences.play(sequences.steps(numbers), quiet),
        lambda numbers: sequences.play(sequences.steps(numbers), calls),
        transcript,
    )

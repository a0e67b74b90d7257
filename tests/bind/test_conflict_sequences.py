"""Random sequences of socket, setsockopt, bind, listen, connect and close on up to six sockets.

The model of conflict_model.py predicts their results. SOCKETCALL_SEQUENCES is the number of sequences over one route and
gate. What a sequence does depends on neither: over the others a tenth is played.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from probes.entry.calls import Calls
from probes.sandbox import namespaces
from probes.testing import Broke, behaviour, not_applicable
from probes.testing.fixtures import reference
from probes.testing.procfs import protocols
from tests.bind.conflict_kernel import transcript

if TYPE_CHECKING:
    from tests.bind import conflict_search

SOURCE = "socket(7); ip(7); tcp(7); udp(7); bind(2); listen(2); connect(2); conflict_rules.py, conflict_connect.py"
SEQUENCES = int(os.environ.get("SOCKETCALL_SEQUENCES", "500"))
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
def sequences(about: str, request: pytest.FixtureRequest) -> conflict_search.Sequences:
    """The sequences of one subject. Not applicable without hypothesis or IPv6."""
    try:
        from tests.bind import conflict_search
    except ImportError as error:
        if error.name != "hypothesis":
            raise
        not_applicable("Python module hypothesis")
    if "TCPv6" not in protocols():
        not_applicable("IPv6")
    if about == "ports":
        request.getfixturevalue("links")
    return conflict_search.Sequences(
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
    from tests.bind import conflict_search

    quiet = Calls(the_gate.quieted(), entry.route, memory)
    count = BATCH if ranges.whole else BATCH // 10
    check = expect({"sequences": count, "disagreement": []})
    search = conflict_search.Search(lambda numbers: sequences.play(sequences.steps(numbers), quiet))
    search.run(count, seeded.getrandbits(64))
    numbers = search.simplest or search.last
    if numbers is None:
        raise Broke("no sequence made a call")
    made = sequences.play(sequences.steps(numbers), calls)
    agrees = conflict_search.agrees(made)
    lines = [] if search.simplest is None and agrees else transcript(made)
    if lines and agrees:
        lines.append("the traced calls agree; the untraced calls did not")
    print(*lines, sep="\n")
    check.of({"sequences": search.played, "disagreement": lines}, *(one.result for one in made))

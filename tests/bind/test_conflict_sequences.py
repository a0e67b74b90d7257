"""Random sequences of socket, setsockopt, bind, listen, connect and close on up to six sockets, with the model of
conflict_model.py as oracle. SOCKETCALL_SEQUENCES says how many there are, over all routes and gates together."""

import os

import pytest

from probes.abi.operations import ROUTES
from probes.entry.calls import Calls
from probes.entry.gate import Gate
from probes.sandbox import namespaces
from probes.testing import Broke, behaviour, not_applicable
from probes.testing.fixtures import entries, reference
from probes.testing.procfs import protocols

try:
    from tests.bind.conflict_kernel import told
    from tests.bind.conflict_search import Search, Sequences, agrees
except ImportError as error:
    if error.name != "hypothesis":
        raise
    Search = None

SOURCE = "socket(7); ip(7); tcp(7); udp(7); bind(2); listen(2); connect(2); conflict_rules.py, conflict_connect.py"
SEQUENCES = int(os.environ.get("SOCKETCALL_SEQUENCES", "2000"))
#: Sequences of one check: each is a test of its own, within the deadline of any test.
BATCH = 250
#: What sequences are about, with its share. Those of several users come on top: only root can have them.
SHARES = {"ports": 0.25, "connections": 0.75, "users": 0.25}


def pytest_generate_tests(metafunc):
    """As many batches as come to the number of sequences, over all entries."""
    each = SEQUENCES / max(1, len(entries(metafunc.config, ROUTES)))
    batches = [
        pytest.param(about, batch, marks=pytest.mark.sandbox(ids=3) if about == "users" else ())
        for about, share in SHARES.items()
        for batch in range(max(1, round(each * share / BATCH)))
    ]
    metafunc.parametrize(("about", "batch"), batches)


@pytest.fixture
def sequences(about, request):
    """The kind of sequences that a test is about."""
    if Search is None:
        not_applicable("Python module hypothesis")
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


@behaviour("bind.conflict.sequences", SOURCE)
def test_sequences(batch, sequences, entry, calls, memory, seeded, expect):
    """Whatever sockets did before, each call answers what the rules say: every bind, listen and connect succeeds or fails
    with the error that follows from the addresses, ports, options, devices, users and states of the others.

    All sequences are made unseen but the last, which is made once more: or the simplest of those that disagree.
    """
    quiet = Calls(Gate(entry.gate, quiet=True), entry.route, memory)
    judged = expect({"sequences": BATCH, "disagreement": []})
    search = Search(lambda numbers: sequences.play(sequences.steps(numbers), quiet))
    search.run(BATCH, seeded.getrandbits(64))
    numbers = search.simplest or search.last
    if numbers is None:
        raise Broke("no sequence made a call")
    made = sequences.play(sequences.steps(numbers), calls)
    lines = [] if search.simplest is None and agrees(made) else told(made)
    if lines and agrees(made):
        lines.append("traced it agrees; unseen it did not")
    print(*lines, sep="\n")
    judged.of({"sequences": search.played, "disagreement": lines}, *(result for _, _, result in made))

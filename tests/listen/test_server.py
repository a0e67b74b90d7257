"""A server as it is: an unmodified i386 program of Debian serves one client."""

from socket import SHUT_WR

import pytest

from probes.abi.operations import OPERATIONS, SOCKETCALL
from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import TCP, TCP6
from probes.testing.states import DATA
from tests.listen.traced_server import SERVING, STOPS, echo_server, traced

PORT = 5000
#: Its first descriptor above standard error, and the next.
FIRST, SECOND = 3, 4


def words_of(kind):
    """Returns the words of each call: `name` for the pointer to the address that bind is given."""
    family, type_, _ = kind.triple
    return {
        "socket": [int(family), int(type_), 0], "bind": [FIRST, "name", len(kind.address(PORT))], "listen": [FIRST, 1],
        "accept": [FIRST, 0, 0],
    }  # fmt: skip


def register(record, name, at_exit=False):
    """Returns a register of a record."""
    return int((record.regs_out if at_exit else record.regs_in)[name], 16)


def changed(record):
    """Returns the names of the general registers that a call came back with another value of, eax apart."""
    return [
        name
        for name in ("ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")
        if register(record, name) != register(record, name, at_exit=True)
    ]


@behaviour("listen.server.calls", "S5 3; S1; socketcall(2); socket(2), bind(2), listen(2), accept(2) DESCRIPTION")
@pytest.mark.sandbox(trace="none")
@pytest.mark.routes("socketcall")
@pytest.mark.parametrize("stops", STOPS)
def test_calls(stops, beside, prepare, calls, expect):
    """An unmodified i386 program that serves one client calls socket, bind, listen and accept, in this order, each by
    number 102 with its operation in ebx and the address of its words in ecx. The result comes in eax, every other register
    and the words are as they were, and the client receives the answer.
    """
    kind = TCP6 if "TCPv6" in procfs.protocols() else TCP
    command, end = echo_server(PORT), prepare("unbound", kind)
    results = {"socket": FIRST, "bind": 0, "listen": 0, "accept": SECOND}
    order = expect(list(SERVING), judged="order")
    entered = {op: expect([SOCKETCALL, OPERATIONS[op].call, True], call=op, judged="registers") for op in SERVING}
    given = {op: expect([words, words], call=op, judged="words") for op, words in words_of(kind).items()}
    returned = {op: expect([results[op], []], call=op, judged="result") for op in SERVING}
    named = expect(kind.address(PORT, "any"), call="bind", judged="address")
    connected, echoed = expect(0, client="connect"), expect(DATA, client="recv")
    made = []

    def connect():
        made.append(calls.connect(end.fd, kind.address(PORT)))
        end.send(end.fd, DATA)
        end.shutdown(end.fd, SHUT_WR)

    served = traced(command, stops, connect)
    client = made[0] if made else need_listening(calls, end, kind)
    connected.of(client)
    order.of([call.op for call in served], client)
    # Each once, were there more: the order has them all.
    for call in {call.op: call for call in reversed(served)}.values():
        record = call.record()
        words = [list(each or ()) for each in (record.args, record.args_after)]
        for each in words:
            if call.op == "bind" and len(each) > 1:
                each[1] = "name"
        pointed = register(record, "ecx") == call.args_ptr
        entered[call.op].of([register(record, "eax"), register(record, "ebx"), pointed], client)
        given[call.op].of(words, client)
        returned[call.op].of([record.ret, changed(record)], client)
        if call.op == "bind":
            named.of(call.before.get("addr", b""), client)
    end.wait(end.fd)
    room = calls.memory.alloc(8)
    received = calls.make("recv", end.fd, room, 8, 0)
    echoed.of(room.written(received), received)


def need_listening(calls, end, kind):
    """Insists that a server listens, though its listen was not seen."""
    result = calls.connect(end.fd, kind.address(PORT))
    need(result, "connect to a program that serves")
    return result

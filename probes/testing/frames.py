"""Expectations about frames, in the layers of scapy, and about their order among the calls of a test.

    check = expect_frames(begins("connect"), IP(ttl=64) / TCP(flags="S"), IP() / TCP(flags="RA"), ends("connect"))
    refused = socket.connect(address)
    check.of(wire.frames(), refused)

Judged are the fields that an expected layer was given, and how many frames there are: `expect_frames()` expects none.
`seq` and `ack` of TCP count from the number in the SYN of the same connection; time stamps of TCP are left out. A field
given as None, as in TCP(chksum=None), has to be what scapy computes. Raw is all that follows the layer before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from probes.abi.frame import Frame, ethernet
from probes.abi.notation import call_begins, call_ends
from probes.entry.calls import Output
from probes.entry.gate import Result
from probes.sandbox.wire import Wire
from probes.testing.expect import Expect, Expectation

begins, ends = call_begins, call_ends
#: A layer, with those inside it, as scapy has it, or what `begins` and `ends` return.
Event = Any
_MODULO = 1 << 32
#: The bits of TCP's flags.
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
#: The least time after which TCP sends a segment again (include/net/tcp.h TCP_RTO_MIN), in nanoseconds.
_RESENT_AFTER = 200_000_000


def without_bare_acks(frames: Sequence[Frame]) -> list[Frame]:
    """Returns the frames but segments with neither data nor SYN, FIN or RST: a receiver may delay its acknowledgement.

    (RFC 9293 3.8.6.3.)
    """
    return [frame for frame in frames if not _is_bare_ack(frame)]


def sent_from(frames: Sequence[Frame], port: int) -> list[Frame]:
    """Returns the segments and datagrams that were sent from a port, without the other frames of a link."""
    return [frame for frame in frames if frame.packet.payload.payload.fields.get("sport") == port]


def _is_bare_ack(frame: Frame) -> bool:
    segment = frame.packet.getlayer("TCP")
    return segment is not None and not int(segment.flags) & (_FIN | _SYN | _RST) and not _data(segment)


@dataclass
class FrameExpect:
    """Announces checks of frames; the fixture `expect_frames`."""

    expect: Expect
    #: What records the frames, from before the first call.
    wire: Wire
    #: The first sequence number of each connection and direction.
    first: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _learned: int = 0

    def __call__(self, *events: Event, **case: object) -> FrameExpectation:
        """Announces what is sent, in its order, with the begins and ends of calls where their order is judged."""
        wanted = [event if isinstance(event, str) else self.fields(event, event) for event in events]
        with_calls = any(isinstance(event, str) for event in events)
        return FrameExpectation(self, self.expect(wanted, **case), events, with_calls)

    def fields(self, expected: Event, packet: Any) -> dict[str, object]:
        """Returns the fields of a packet that an expected one was given: {"IP.ttl": 64, "TCP.flags": "S"}."""
        found: dict[str, object] = {}
        at: dict[type, int] = {}
        before = None
        for layer in _layers(expected):
            kind, name = type(layer), layer.name.replace(" ", "-")
            at[kind] = at.get(kind, 0) + 1
            if at[kind] > 1:
                # Of two layers of one type the second does not overwrite the first.
                name += str(at[kind])
            actual = packet.getlayer(kind, at[kind])
            if kind.__name__ == "Raw":
                found["data"] = _data(before) if before is not None else b""
                before = None
                continue
            for field_name in layer.fields:
                key = f"{name}.{field_name}"
                if actual is None:
                    found[key] = None
                elif layer.fields[field_name] is None:
                    found[key] = "right" if packet is expected else _computed(packet, actual, field_name)
                elif packet is not expected and kind.__name__ == "TCP" and field_name in ("seq", "ack"):
                    found[key] = self._relative(actual, field_name)
                else:
                    found[key] = _plain(actual.getfieldval(field_name))
            if not layer.fields:
                found[name] = actual is not None
            before = actual
        return found

    def learn(self) -> None:
        """Takes the first sequence numbers of connections from the SYNs that were recorded."""
        for frame in self.wire.recorded[self._learned :]:
            segment = frame.packet.getlayer("TCP")
            if segment is not None and int(segment.flags) & _SYN:
                self.first[_way(segment)] = segment.seq
        self._learned = len(self.wire.recorded)

    def _relative(self, segment: Any, name: str) -> int:
        source, sport, destination, dport = _way(segment)
        way = (source, sport, destination, dport) if name == "seq" else (destination, dport, source, sport)
        number: int = segment.getfieldval(name)
        if name == "ack" and not int(segment.flags) & _ACK:
            return number
        return (number - self.first.get(way, 0)) % _MODULO


@dataclass
class FrameExpectation:
    """Expected frames, announced before the calls that send them; `of` judges them, once."""

    by: FrameExpect
    expectation: Expectation
    events: Sequence[Event]
    with_calls: bool

    def of(self, frames: Sequence[Frame], *rests_on: Result | Output, resent: bool = False) -> None:
        """Judges frames, together with the calls that sent them: their begins and ends are those of `events`.

        Without `resent`, segments that TCP sent again are left out.
        """
        patterns = [event for event in self.events if not isinstance(event, str)]
        frames = frames if resent else _once(frames, self.by.wire.recorded)
        actual: list[object] = []
        self.by.learn()
        for number, frame in enumerate(frames):
            packet = frame.packet
            expected = patterns[number] if number < len(patterns) else None
            actual.append(frame.summary if expected is None else self.by.fields(expected, packet))
        if self.with_calls:
            self.expectation.in_order(actual, frames, *rests_on)
        else:
            self.expectation.of(actual, *rests_on, *frames)


def _once(frames: Sequence[Frame], recorded: Sequence[Frame]) -> list[Frame]:
    """Returns the frames without TCP segments that repeat a recorded one after the time of a retransmission.

    A loaded machine may let a test sleep so long between two of its calls. Bare ACKs stay: TCP sends none again, and the
    probes of keep-alive are alike.
    """
    first: dict[tuple[Any, ...], int] = {}
    for frame in recorded:
        first.setdefault(_alike(frame), frame.t_ns)
    return [frame for frame in frames if frame.t_ns - first.get(_alike(frame), frame.t_ns) < _RESENT_AFTER]


def _alike(frame: Frame) -> tuple[Any, ...]:
    """Returns what a segment has in common with its retransmissions; of a frame that TCP does not send again, its number."""
    segment = frame.packet.getlayer("TCP")
    if segment is None or _is_bare_ack(frame):
        return (frame.number,)
    return (*_way(segment), segment.seq, int(segment.flags), _data(segment))


def _way(segment: Any) -> tuple[Any, ...]:
    below = segment.underlayer
    return (below.getfieldval("src"), segment.sport, below.getfieldval("dst"), segment.dport)


def _layers(packet: Any) -> list[Any]:
    found = []
    while packet is not None and packet.name != "NoPayload":
        found.append(packet)
        packet = packet.payload
    return found


def _data(layer: Any) -> bytes:
    """Returns what follows a layer, without the padding of a short Ethernet frame."""
    payload = bytes(layer.payload)
    padding = layer.getlayer("Padding")
    return payload[: len(payload) - len(padding.load)] if padding is not None else payload


def _computed(packet: Any, layer: Any, name: str) -> str:
    """Returns "right" if a field is what scapy computes for it, else its value."""
    copy = ethernet()(bytes(packet))
    nth = next(n for n in range(1, 9) if packet.getlayer(type(layer), n) is layer)
    copy.getlayer(type(layer), nth).delfieldval(name)
    computed = ethernet()(bytes(copy)).getlayer(type(layer), nth).getfieldval(name)
    value = layer.getfieldval(name)
    return "right" if computed == value else f"{value:#x}, not {computed:#x}"


def _plain(value: Any) -> object:
    """Returns the value of a field as a check compares it: flags by their letters, options without time stamps."""
    if value is None or isinstance(value, int | str | bytes):
        return value
    if isinstance(value, list | tuple):
        if len(value) == 2 and value[0] == "Timestamp":
            return ["Timestamp"]
        return [_plain(one) for one in value]
    return bytes(value) if hasattr(value, "payload") else str(value)

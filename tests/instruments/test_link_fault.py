"""Frames changed on purpose on the loopback link of a sandbox: what another socket gets, and what the recording shows."""

import os
import select
import socket

import pytest

from probes.sandbox import sandbox
from probes.sandbox.channel import Channel
from probes.sandbox.link_fault import DOUBLE, DROP, Byte, Change, LinkFault
from probes.sandbox.messages import Report
from probes.sandbox.sandbox import SandboxSpec
from probes.sandbox.wire import Wire

#: Offsets in a frame on the loopback link with an IPv4 header of 20 bytes.
TTL, PROTOCOL, DESTINATION_PORT, UDP_DATA = 22, 23, 36, 42
UDP = Byte(PROTOCOL, 17)
#: Datagrams to port 5000 (0x1388): the marker that ends a recording is left alone.
CHOSEN = (UDP, Byte(DESTINATION_PORT, 0x13), Byte(DESTINATION_PORT + 1, 0x88))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpf(2): root loads the programs of a link")


@pytest.fixture
def send(tmp_path):
    """Send datagrams to port 5000 under a fault; return what was received, what was recorded, and the count."""
    channel = Channel()

    def body(datagrams):
        wire = Wire()
        peer, one = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        peer.bind(("127.0.0.1", 5000))
        for datagram in datagrams:
            one.sendto(datagram, ("127.0.0.1", 5000))
        # It ends with a datagram sent after these: by then they have been received.
        frames = wire.frames()
        received = []
        while select.select([peer], [], [], 0)[0]:
            received.append(peer.recv(100).decode())
        channel.send(Report({"received": received, "frames": [frame.raw.hex() for frame in frames]}))

    def do(fault, *datagrams):
        with fault:
            result = sandbox.run(lambda: body(datagrams), SandboxSpec(link_fault=fault), channel, tmp_path, 20)
            (message,) = result.messages
            return message.data["received"], [bytes.fromhex(raw) for raw in message.data["frames"]], fault.count()

    return do


def test_nothing_matches(send):
    received, frames, count = send(LinkFault([Byte(PROTOCOL, 99)], DROP), b"one")
    assert (received, len(frames), count) == (["one"], 1, 0)


def test_dropped(send):
    received, frames, count = send(LinkFault(CHOSEN, DROP), b"one", b"two")
    assert (received, frames, count) == ([], [], 2)


def test_only_what_matches_is_dropped(send):
    received, frames, count = send(LinkFault([*CHOSEN, Byte(UDP_DATA, ord("o"))], DROP), b"one", b"two")
    assert (received, len(frames), count) == (["two"], 1, 1)


def test_doubled(send):
    received, frames, count = send(LinkFault(CHOSEN, DOUBLE), b"one", b"two")
    assert (received, len(frames), count) == (["one", "one", "two", "two"], 4, 2)


def test_changed_data(send):
    received, frames, count = send(LinkFault(CHOSEN, Change(UDP_DATA + 1, 1)), b"one")
    assert (received, frames[0][UDP_DATA:], count) == (["ooe"], b"ooe", 1)


def test_changed_header_keeps_its_checksum(send):
    received, frames, count = send(LinkFault(CHOSEN, Change(TTL, 0x80, ipv4=True)), b"one")
    assert (received, frames[0][TTL], count) == (["one"], 64 ^ 0x80, 1)


def test_a_header_of_a_wrong_checksum_is_dropped_by_the_receiver(send):
    received, frames, _ = send(LinkFault(CHOSEN, Change(TTL, 0x80)), b"one")
    assert (received, len(frames)) == ([], 1)


def test_what_fits_is_what_the_link_changes(send):
    """The program of the link and `fits` choose the same frames."""
    _, frames, count = send(LinkFault(CHOSEN, Change(UDP_DATA + 1, 1)), b"one", b"two")
    fitting = LinkFault([*CHOSEN, Byte(UDP_DATA, ord("o"))], DROP)
    assert ([fitting.fits(frame) for frame in frames], count) == ([True, False], 2)
    assert not fitting.fits(frames[0][:UDP_DATA])
    assert LinkFault([Byte(TTL, 0x4F, 0xF0)], DROP).fits(frames[0])

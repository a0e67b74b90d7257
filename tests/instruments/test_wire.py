"""Frames as tests expect them: what a wrong expectation says, what the files hold, and that none leaves the sandbox."""

import gzip
import html
import os
import select
import socket
import struct
import threading
from pathlib import Path

import pytest

from probes.abi.frame import Frame
from probes.report import timeline
from probes.report.formats import pcapng
from probes.sandbox import links, namespaces
from probes.sandbox.peer import Peer
from tests.instruments.support import run_check, run_command, write_tests

SENT = '''
from probes.testing.frames import begins, ends
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

@law
def test_it(new_socket, calls, memory, expect_frames, wire):
    """sendto sends a datagram."""
    peer, sock = (new_socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    address = struct.pack("<H", 2) + struct.pack(">H4s8x", 6000, bytes([127, 0, 0, 1]))
    need(peer.bind(address))
    one, two = IP(ttl=64, flags="DF") / UDP(dport=6000) / Raw(b"one"), IP(ttl=64) / UDP(dport=6000) / Raw(b"two")
    check = expect_frames({events})
    data, to = memory.put(b"one"), memory.put(address)
    sent = calls.make("sendto", sock.fd, data, 3, 0, to, 16)
    data.write(b"two")
    again = calls.make("sendto", sock.fd, data, 3, 0, to, 16)
    check.of(wire.frames(), sent, again)
'''
RIGHT = 'begins("sendto"), one, ends("sendto"), begins("sendto"), two, ends("sendto")'
#: Wrong expectations, by what is wrong, and what the message says of it.
WRONG = {
    "hops": (RIGHT.replace("one", 'IP(ttl=63) / UDP(dport=6000) / Raw(b"one")'), "IP.ttl: 63"),
    "flag": (RIGHT.replace("two", 'IP(flags="MF") / UDP(dport=6000) / Raw(b"two")'), "IP.flags: MF"),
    "order": (RIGHT.replace("one, ", "TWO, ").replace("two", "one").replace("TWO", "two"), "2 expected"),
    "order among calls": ('begins("sendto"), one, two, ends("sendto"), begins("sendto"), ends("sendto")', "3 expected"),
    "count": (RIGHT.replace("two, ", ""), "5 expected     sendto ends"),
    "nothing": ("", "actual       lo IP / UDP"),
}


def test_right_frames(tmp_path):
    """The expectation that the wrong ones are made of holds."""
    write_tests(tmp_path, SENT.replace("{events}", RIGHT))
    assert run_check(tmp_path).status == 0


@pytest.mark.parametrize("what", WRONG)
def test_wrong_frames(what, tmp_path):
    """A wrong field, order or count deviates, and the message and the page show calls and frames in their order."""
    events, said = WRONG[what]
    write_tests(tmp_path, SENT.replace("{events}", events))
    run = run_check(tmp_path)
    page = html.unescape((run.report / "report.html").read_text())
    assert run.status == 1
    for text in (run.out, page):
        assert said in text
        timeline = [line.split(" ms  ")[1] for line in text.splitlines() if line.startswith("  wire  ")]
        kinds = [line.split()[-1] if line.startswith("sendto") else line.split()[0] for line in timeline]
        assert kinds[-6:] == ["begins", "lo", "ends", "begins", "lo", "ends"]
        assert "sendto(" in timeline[-1] and '"two"' in timeline[-1]
    assert sum(line["type"] == "frame" for line in run.lines("evidence.jsonl")) == 2


def test_pcapng(tmp_path):
    """scapy reads the file of a behaviour: the bytes, the link, the time in nanoseconds, the calls as comments."""
    from scapy.utils import PcapNgReader

    write_tests(tmp_path, SENT.replace("{events}", RIGHT))
    run = run_check(tmp_path)
    lines = run.lines("evidence.jsonl")
    frames = [line for line in lines if line["type"] == "frame"]
    calls = [line for line in lines if line["type"] == "call" and line["op"] == "sendto"]
    with PcapNgReader(str(run.report / "wire" / "made.m0.law.pcapng")) as reader:
        packets = list(reader)
    assert [bytes(packet).hex() for packet in packets] == [line["raw"] for line in frames]
    assert [round(packet.time * 10**9) for packet in packets] == [line["t_ns"] for line in frames]
    assert {packet.sniffed_on for packet in packets} == {"lo"}
    comments = [[comment.decode() for comment in packet.comments] for packet in packets]
    assert [len(some) for some in comments] == [1, 3]
    assert comments[0] == ["sendto begins"]
    assert comments[1][1] == "sendto begins" and comments[1][2].startswith("then: sendto(")
    assert [calls[0]["t_ns"] < frames[0]["t_ns"] < calls[1]["t_ns"] < frames[1]["t_ns"]] == [True]


def test_results_name_no_file_outside_their_directory(tmp_path):
    """The names of the files are ids, which results of another machine may have made up."""
    write_tests(tmp_path, SENT.replace("{events}", RIGHT))
    run = run_check(tmp_path)
    path = run.report / "results.jsonl.gz"
    lines = gzip.decompress(path.read_bytes())
    for name in (b"../../above", b"/above", b"a\\u0000b"):
        path.write_bytes(gzip.compress(lines.replace(b"made.m0.law", name)))
        done = run_command(tmp_path, "views", str(run.report))
        assert (done.status, done.err.count("\n")) == (2, 1), done.err
        assert "is no id of a behaviour" in done.err
    assert not list(tmp_path.rglob("*above*"))


def test_a_comment_is_cut_between_characters(tmp_path):
    """The length of a comment has 16 bits."""
    events = [timeline.Event(0, "x" + "é" * 50_000), timeline.Event(1, "", Frame(1, 1, "lo", bytes(14)))]
    with (tmp_path / "long.pcapng").open("wb") as file:
        pcapng.write(file, [events])
    data = (tmp_path / "long.pcapng").read_bytes()
    assert ("x" + "é" * 29_999).encode() + b"\0" in data


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace to run in: root")
def test_no_frame_leaves_the_sandbox(tmp_path):
    """A run of the tests of the wire, watched on every link outside of its sandboxes: not one frame passes there."""
    seen = []

    def watched():
        namespaces.new_network()
        _raise_pair()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as watching:
            first = _frames(watching, b"before")
            chosen = (
                "wire.c*",
                "wire.blocked.*",
                "wire.icmp.*",
                "wire.datagram.*",
                "wire.raw.*",
                "wire.ipv6.*",
                "--route",
                "direct",
                "--caller",
                "python",
            )
            run = run_command(tmp_path, "check", *chosen, "--report", str(tmp_path / "report"))
            seen.extend([run.status, first, _frames(watching, b"after"), run.out[-500:]])

    # unshare(2) moves the thread that calls it, and what it forks.
    thread = threading.Thread(target=watched)
    thread.start()
    thread.join()
    status, before, after, out = seen
    assert status == 0, out
    assert (before, after) == ([b"before"], [b"after"])


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace to run in: root")
def test_nothing_is_sent_again_to_a_peer():
    """TCP takes the time before it sends again from the route to the peer: 20 s, longer than a test between two calls."""
    found = []

    def connected():
        from scapy.layers.inet import IP, TCP

        namespaces.new_network()
        peer = Peer()
        with peer.socket, socket.socket() as sock:
            sock.setblocking(False)
            sock.connect_ex((links.THERE, 6000))
            syn = peer.receive("TCP")["TCP"]
            answer = TCP(sport=6000, dport=syn.sport, flags="SA", seq=1, ack=syn.seq + 1, options=[("MSS", 1460)])
            peer.send(IP(src=links.THERE, dst=links.HERE) / answer)
            peer.receive("TCP")
            # struct tcp_info: tcpi_rto, in microseconds, behind eight bytes.
            found.extend(struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 8))
        os.close(peer.namespace)

    thread = threading.Thread(target=connected)
    thread.start()
    thread.join()
    assert found and found[0] >= 20_000_000


def _raise_pair():
    """Makes a second pair of links beside lo, with a default route over it, as a machine has."""
    from pyroute2 import IPRoute

    for name in ("default", "all"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    with IPRoute() as ip:
        ip.link("add", ifname="out0", kind="veth", peer="out1")
        for name in ("out0", "out1"):
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
        ip.addr("add", index=ip.link_lookup(ifname="out0")[0], address="10.0.0.1", prefixlen=24)
        ip.route("add", dst="0.0.0.0/0", gateway="10.0.0.2")


def _frames(watching, last):
    """Returns the data of the frames until one that is sent now over lo, each of that link once."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker,
    ):
        taker.bind(("127.0.0.1", 0))
        sender.sendto(last, taker.getsockname())
    found = []
    while select.select([watching], [], [], 10)[0]:
        raw, (link, _, packet_type, *_) = watching.recvfrom(65536)
        if packet_type == 4 and link == "lo":
            continue
        found.append(raw[42:])
        if raw.endswith(last):
            return found
    return [*found, b"the last frame was not seen"]

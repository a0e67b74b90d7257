"""Time stamps of received packets: SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING, in the old and the new layouts."""

import socket
import struct
from errno import ENOMSG
from select import POLLERR

import pytest

from probes.testing import behaviour, need
from probes.testing.socket_kinds import UDP, UDP6
from tests.transfer.control_messages import cmsg, extended_error

SOURCE = "socket(7) SO_TIMESTAMP, SO_TIMESTAMPNS; include/uapi/asm-generic/socket.h"
KERNEL = "__sock_recv_timestamp, put_cmsg_scm_timestamping, put_cmsg_scm_timestamping64"
CTRUNC = socket.MSG_CTRUNC
#: include/uapi/asm-generic/socket.h: the type of the control message is the number of the option.
TIMESTAMP_OLD, TIMESTAMPNS_OLD, TIMESTAMPING_OLD, TIMESTAMP_NEW, TIMESTAMPNS_NEW, TIMESTAMPING_NEW = (
    29,
    35,
    37,
    63,
    64,
    65,
)
#: Layout of the data, and units of its second member in a second.
LAYOUTS = {
    TIMESTAMP_OLD: ("<ii", 10**6), TIMESTAMP_NEW: ("<qq", 10**6),
    TIMESTAMPNS_OLD: ("<ii", 10**9), TIMESTAMPNS_NEW: ("<qq", 10**9),
    TIMESTAMPING_OLD: ("<6i", 10**9), TIMESTAMPING_NEW: ("<6q", 10**9),
}  # fmt: skip
NAMES = {
    TIMESTAMP_OLD: "TIMESTAMP_OLD", TIMESTAMP_NEW: "TIMESTAMP_NEW", TIMESTAMPNS_OLD: "TIMESTAMPNS_OLD",
    TIMESTAMPNS_NEW: "TIMESTAMPNS_NEW", TIMESTAMPING_OLD: "TIMESTAMPING_OLD", TIMESTAMPING_NEW: "TIMESTAMPING_NEW",
}  # fmt: skip
#: include/uapi/linux/net_tstamp.h SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE.
SOFTWARE = 1 << 3 | 1 << 4
#: SOF_TIMESTAMPING_TX_SOFTWARE, SOFTWARE, OPT_ID, OPT_TSONLY: numbered, and without the packet itself.
SENT = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 11
#: include/uapi/linux/errqueue.h; include/linux/socket.h.
TIMESTAMPING_ORIGIN, ERRQUEUE = 4, 0x2000
#: The kernel begins to stamp packets some time after the first option is set (net_enable_timestamp).
ATTEMPTS = 1000

each_kind = pytest.mark.parametrize("kind", (UDP, UDP6), ids=str)


def view(got, option, before, after):
    """Returns what was received, with zeros for a time that is between two readings of the clock."""
    layout, units = LAYOUTS[option]
    shown, at = got.control, 12
    if len(shown) >= at + struct.calcsize(layout):
        seconds, part, *rest = struct.unpack_from(layout, shown, at)
        time, unit = seconds * 10**9 + part * (10**9 // units), 10**9 // units
        if 0 <= part < units and before - unit < time <= after:
            shown = shown[:at] + struct.pack(layout, 0, 0, *rest) + shown[at + struct.calcsize(layout) :]
    return got.seen(shown)


def stamp(option):
    """Packs a control message of a time stamp, with zeros for the time."""
    return cmsg(socket.SOL_SOCKET, option, bytes(struct.calcsize(LAYOUTS[option][0])))


@pytest.fixture
def stamped(kind, prepare, calls, messages, clock):
    """Makes connected sockets; stamped(option, value) sets an option, and returns what a datagram comes with."""
    end = prepare("connected", kind)

    def receive(option, value=1, room=256, of=None):
        need(calls.setsockopt(end.fd, socket.SOL_SOCKET, option, value), NAMES[option])
        before = clock()
        messages.sent(end.peer)
        got = messages.receive(end.fd, room)
        return got, view(got, of or option, before, clock())

    return receive


def judge_options(kind, new_socket, expect, options, value) -> None:
    """Judges that each of some options can be set."""
    sock = new_socket(*kind.triple)
    for option in options:
        expect(0, option=NAMES[option], op="setsockopt").of(sock.setsockopt(socket.SOL_SOCKET, option, value))


@behaviour("transfer.control.timestamp", f"{SOURCE}; {KERNEL}, put_cmsg_compat")
@each_kind
def test_timestamp(kind, stamped, new_socket, expect):
    """Each of SO_TIMESTAMP (microseconds) and SO_TIMESTAMPNS (nanoseconds) puts one control message with each datagram, with
    the time of its arrival: 20 bytes with the old number, 28 with the new. The option that was set last counts, and a 0
    ends all.
    """
    order = (
        TIMESTAMP_OLD,
        TIMESTAMP_NEW,
        TIMESTAMPNS_OLD,
        TIMESTAMPNS_NEW,
        TIMESTAMP_OLD,
        TIMESTAMPNS_NEW,
        TIMESTAMP_NEW,
    )
    judge_options(kind, new_socket, expect, order[:4], 1)
    for step, option in enumerate(order):
        check = expect([1, b"x", stamp(option), 0], step=step, option=NAMES[option])
        got, shown = stamped(option)
        check.of(shown, got.result)
    check = expect([1, b"x", b"", 0], step="off", option=NAMES[TIMESTAMP_OLD])
    got, shown = stamped(TIMESTAMP_OLD, 0)
    check.of(shown, got.result)


@behaviour("transfer.control.timestamp-room", f"recv(2) MSG_CTRUNC; {SOURCE}; put_cmsg, put_cmsg_compat")
@each_kind
def test_room(stamped, expect):
    """A time stamp whose message does not fit is cut: cmsg_len is the room, and msg_flags has MSG_CTRUNC."""
    for option in (TIMESTAMP_OLD, TIMESTAMP_NEW):
        whole = stamp(option)
        for room in (11, 12, len(whole) - 4, len(whole) - 1, len(whole)):
            flags = 0 if room == len(whole) else CTRUNC
            check = expect([1, min(room, len(whole)) if room >= 12 else 0, flags], option=NAMES[option], room=room)
            got, _ = stamped(option, room=room)
            length = struct.unpack_from("<I", got.control)[0] if got.control else 0
            check.of([got.result, length, got.flags], got.result)


@behaviour("transfer.control.timestamping", f"Documentation/networking/timestamping.rst SO_TIMESTAMPING; {KERNEL}")
@each_kind
def test_timestamping(kind, stamped, new_socket, expect):
    """SO_TIMESTAMPING for software puts one control message with three times with each datagram, of which the first is that
    of its arrival and the others are 0: 36 bytes with the old number, 60 with the new.
    """
    judge_options(kind, new_socket, expect, (TIMESTAMPING_OLD, TIMESTAMPING_NEW), SOFTWARE)
    for option in (TIMESTAMPING_OLD, TIMESTAMPING_NEW):
        check = expect([1, b"x", stamp(option), 0], option=NAMES[option])
        got, shown = stamped(option, SOFTWARE)
        for _ in range(ATTEMPTS):
            if got.result < 0 or got.control:
                break
            got, shown = stamped(option, SOFTWARE)
        check.of(shown, got.result)


@behaviour("transfer.control.timestamps-both", f"{SOURCE}; Documentation/networking/timestamping.rst; {KERNEL}")
@each_kind
def test_both(stamped, expect):
    """With SO_TIMESTAMP and SO_TIMESTAMPING there are two control messages, the single time first."""
    for single, three in ((TIMESTAMP_OLD, TIMESTAMPING_OLD), (TIMESTAMPNS_NEW, TIMESTAMPING_NEW)):
        size = len(stamp(single)) + len(stamp(three))
        check = expect([1, size, single, three, 0], options=f"{NAMES[single]}+{NAMES[three]}")
        stamped(three, SOFTWARE)
        got, _ = stamped(single)
        second = struct.unpack_from("<I", got.control, len(stamp(single)) + 8)[0] if len(got.control) > 40 else None
        first = struct.unpack_from("<I", got.control, 8)[0] if got.control else None
        check.of([got.result, len(got.control), first, second, got.flags], got.result)


@behaviour("transfer.control.timestamp-sent", "Documentation/networking/timestamping.rst TX_SOFTWARE; __skb_tstamp_tx")
@each_kind
def test_sent(kind, prepare, messages, calls, clock, expect):
    """With SO_TIMESTAMPING for what is sent, each datagram leaves two control messages in the error queue: the three times,
    of which the first is that of its departure, and ENOMSG with SO_EE_ORIGIN_TIMESTAMPING and the number of the datagram.
    """
    end = prepare("connected", kind)
    need(calls.setsockopt(end.fd, socket.SOL_SOCKET, TIMESTAMPING_OLD, SENT), "SO_TIMESTAMPING")
    for number in range(2):
        error = extended_error(kind, ENOMSG, TIMESTAMPING_ORIGIN, data=number)
        check = expect([0, b"", stamp(TIMESTAMPING_OLD) + error, ERRQUEUE], datagram=number)
        before = clock()
        messages.sent(end.fd)
        end.wait(end.fd, POLLERR)
        got = messages.receive(end.fd, flags=ERRQUEUE)
        check.of(view(got, TIMESTAMPING_OLD, before, clock()), got.result)

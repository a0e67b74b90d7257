"""What sendmsg, recvmsg, sendmmsg and recvmmsg leave in the tables of test_dispatch_messages.py: from the documents."""

from __future__ import annotations

import socket
from errno import EFAULT

from probes.testing.states import DATA
from tests.multiplexer.call_words import written
from tests.multiplexer.dispatch_effects import EMPTIED, MAYBE_BOUND, file_flags, made, peer_name, received, sent
from tests.multiplexer.dispatch_table import failing
from tests.multiplexer.socket_view import Found

RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
TRUNC, CTRUNC, CLOEXEC = socket.MSG_TRUNC, socket.MSG_CTRUNC, socket.MSG_CMSG_CLOEXEC


def message_sent(row: str, column: str, result: int | str) -> Found:
    """Returns what sendmsg leaves. The last byte of urgent data is not among the data (tcp(7))."""
    if failing(result):
        return MAYBE_BOUND if column.startswith("udp") else {}
    rights = [[socket.SOL_SOCKET, socket.SCM_RIGHTS, 1]] if (row, column) == ("rights", "unix-pair") else []
    return sent(column, DATA[:-1] if row == "oob" else DATA, control=rights)


def messages_sent(row: str, column: str, result: int | str) -> Found:
    """Returns what sendmmsg leaves. An error in a later message ends the call, which returns the count."""
    if failing(result):
        return MAYBE_BOUND if column.startswith("udp") else {}
    lengths = {f"msgvec.{index}.len": len(DATA) for index in range(result)}
    return lengths | sent(column, DATA[:-1] if row == "oob" else DATA, result) if result else {}


def message_received(row: str, column: str, result: int | str) -> Found:
    """Returns what recvmsg leaves. The data is written first, the flags and lengths last, where the call succeeds."""
    if column not in ("sent", "ended", "udp-sent", "unix-sent", "rights"):
        return {}
    if failing(result):
        lost = column == "udp-sent" and row in ("bad-part", "bad-name")
        return EMPTIED | ({"msg.iov.0": written(DATA, 8)} if row == "bad-name" else {}) if lost else {}
    rooms = {"two": 4, "short": 2, "no-part": 0}
    room = rooms.get(row, 8)
    left = received(column, room, peek=row == "peek" or (not room and column != "udp-sent"))
    if column != "ended" and room:
        left |= {"msg.iov.0": b"da", "msg.iov.2": b"ta"} if row == "two" else {"msg.iov.0": written(DATA, room)}
    name = peer_name(column)
    if row in ("name", "short-name", "bad-name"):
        names = {"name": 16, "short-name": 3}
        left |= {"msg.namelen": len(name)} | ({"msg.name": written(name, names[row])} if row in names else {})
    flags = TRUNC if column == "udp-sent" and room < len(DATA) else 0
    return left | control_received("msg", row, column, flags)


#: The rows that have room for control data.
WITH_CONTROL = ("control", "cloexec", "short-room")


def control_received(header: str, row: str, column: str, flags: int = 0) -> Found:
    """Returns what a header has of control data and msg_flags: of a descriptor 16 bytes, if there is room for them."""
    echoed = CLOEXEC if row == "cloexec" else 0
    if column != "rights":
        return {f"{header}.flags": flags | echoed} | ({f"{header}.controllen": 0} if row in WITH_CONTROL else {})
    if row not in ("control", "cloexec"):
        return {f"{header}.flags": CTRUNC, f"{header}.controllen": 0}
    wrote = {
        "control.len": 16, "control.level": RIGHTS[0], "control.type": RIGHTS[1], "control.data.0": "made 0",
        "controllen": 16, "flags": echoed,
    }  # fmt: skip
    flags_made = file_flags(socket.SOCK_CLOEXEC if row == "cloexec" else 0)
    passed = made(socket.AF_UNIX, socket.SOCK_STREAM, peer="", flags=flags_made)
    return {f"{header}.{name}": value for name, value in wrote.items()} | passed


def messages_received(row: str, column: str, result: int | str) -> Found:
    """Returns what recvmmsg leaves. An error in a later message ends the call with the count so far, and is in SO_ERROR."""
    if failing(result) or not result:
        return {}
    left = received(column, 8)
    for index in range(result):
        left |= {f"msgvec.{index}.len": 0 if column == "ended" else len(DATA), f"msgvec.{index}.flags": 0}
    if column != "ended":
        left["msgvec.0.iov.0"] = written(DATA, 8)
    if row in ("cut-off", "many"):
        left["fd error"] = EFAULT
    if row == "at-once":
        left["timeout"] = bytes(8)
    if row == "named":
        name = peer_name(column)
        left |= {"msgvec.0.namelen": len(name)} | ({"msgvec.0.name": name} if name else {})
    if row == "control" or column == "rights":
        left |= control_received("msgvec.0", row, column)
    return left

"""What the tests of the multiplexer share."""

import socket
from errno import EAGAIN, EDESTADDRREQ, EINVAL, ENOTCONN, EOPNOTSUPP, EPROTONOSUPPORT

import pytest

from probes.abi.operations import OPERATIONS
from probes.entry.memory import pack_words
from probes.sandbox import namespaces
from tests.multiplexer.both_routes import Both

#: A struct msghdr or mmsghdr of zeros: no name, no data, no control.
NO_MESSAGE = bytes(32)


@pytest.fixture
def telling(new_socket, memory):
    """For each operation, by its number: the bytes of its argument words, and the answer they get.

    The words are around an unbound datagram socket, and the answer is one that the kernel gives only if it has all of
    them: never EBADF, which a displaced descriptor gets, and never EFAULT. No operation does anything that lasts.
    """
    udp = int(new_socket(socket.AF_INET, socket.SOCK_DGRAM))
    address = memory.put(pack_words(socket.AF_INET | 5000 << 24, 0x0100007F, 0, 0))
    room, length, message = memory.alloc(16), memory.words(16), memory.put(NO_MESSAGE)
    no_wait, type_of = socket.MSG_DONTWAIT, (socket.SOL_SOCKET, socket.SO_TYPE)
    told = {
        "socket": (-EPROTONOSUPPORT, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP),
        "bind": (-EINVAL, udp, address, 15),
        "connect": (-EINVAL, udp, address, 15),
        "listen": (-EOPNOTSUPP, udp, 1),
        "accept": (-EOPNOTSUPP, udp, room, length),
        "getsockname": (0, udp, room, length),
        "getpeername": (-ENOTCONN, udp, room, length),
        "socketpair": (-EOPNOTSUPP, socket.AF_INET, socket.SOCK_DGRAM, 0, room),
        "send": (-EDESTADDRREQ, udp, room, 1, 0),
        "recv": (-EAGAIN, udp, room, 1, no_wait),
        "sendto": (-EINVAL, udp, room, 1, 0, address, 15),
        "recvfrom": (-EAGAIN, udp, room, 1, no_wait, room, length),
        "shutdown": (-ENOTCONN, udp, socket.SHUT_RD),
        "setsockopt": (0, udp, socket.SOL_SOCKET, socket.SO_REUSEADDR, length, 4),
        "getsockopt": (0, udp, *type_of, room, length),
        "sendmsg": (-EDESTADDRREQ, udp, message, 0),
        "recvmsg": (-EAGAIN, udp, message, no_wait),
        "accept4": (-EINVAL, udp, room, length, 1),
        "recvmmsg": (-EAGAIN, udp, message, 1, no_wait, 0),
        "sendmmsg": (-EDESTADDRREQ, udp, message, 1, 0),
    }
    return {
        OPERATIONS[name].call: (pack_words(*(int(word) for word in words)), answer)
        for name, (answer, *words) in told.items()
    }


@pytest.fixture
def both(the_gate, memory, expect):
    """Makes calls over both routes, each in a fresh state, and judges them."""
    # The one port that the kernel can choose: then it chooses the same on both routes.
    namespaces.set_sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    return Both(the_gate, memory, expect)

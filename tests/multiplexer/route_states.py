"""Fresh states to make a call in: descriptors of each kind, and what a call left of them."""

import array
import fcntl
import os
import select
import socket
import stat
import struct
import termios

from probes.testing import Broke
from probes.testing import procfs as witness

SERVER, CLIENT = ("127.0.0.1", 5000), ("127.0.0.1", 5001)
DATA = b"data"
TCP, UDP = (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)
UNIX = (socket.AF_UNIX, socket.SOCK_STREAM)
NO_LINGER = struct.pack("<ii", 1, 0)


class State:
    """A fresh state by its name: `fd` is the descriptor that a call is about, `peer` the other end if there is one.

    Made by Python's own calls, so that it does not depend on the route that is judged. Closing resets connections, so
    that no address stays in use.
    """

    def __init__(self, name):
        self._before = set(witness.descriptors())
        self.peer = -1
        self.fd = getattr(self, name.replace("-", "_"))()

    def close(self):
        """Closes what was opened since the state was made."""
        for fd in set(witness.descriptors()) - self._before:
            os.close(fd)

    def socket(self, family, type, address=None):
        made = socket.socket(family, type)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        if address is not None:
            made.bind(address)
        return made

    def none(self):
        """For operations that make descriptors."""
        return -1

    def minus_one(self):
        return -1

    def pipe(self):
        return os.pipe()[0]

    def path(self):
        return os.open("/", os.O_PATH)

    def tcp(self):
        return self.socket(*TCP).detach()

    def served(self):
        """A stream socket, and another that listens at the server's address."""
        self.peer = self.listening()
        return self.tcp()

    def bound(self):
        return self.socket(*TCP, SERVER).detach()

    def listening(self):
        server = self.socket(*TCP, SERVER)
        server.listen(4)
        server.setblocking(False)
        return server.detach()

    def pending(self):
        """A listening socket with a connection to accept."""
        server, client = self.listening(), self.socket(*TCP, CLIENT)
        client.connect(SERVER)
        self.peer = client.detach()
        ready(server)
        return server

    def connected(self):
        """The client's end of a connection."""
        server = self.pending()
        client, self.peer = self.peer, on(server, lambda listener: listener.accept()[0].detach())
        on(self.peer, lambda end: end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER))
        return client

    def sent(self):
        """The client's end of a connection, with data to receive."""
        client = self.connected()
        os.write(self.peer, DATA)
        ready(client)
        return client

    def shut(self):
        """The client's end of a connection, which has said its last word."""
        client = self.connected()
        on(client, lambda this: this.shutdown(socket.SHUT_WR))
        ready(self.peer)
        return client

    def ended(self):
        """The client's end of a connection on which the other has said its last word."""
        client = self.connected()
        on(self.peer, lambda this: this.shutdown(socket.SHUT_WR))
        ready(client)
        return client

    def udp(self):
        return self.socket(*UDP).detach()

    def udp_served(self):
        """A datagram socket, and another at the server's address."""
        self.peer = self.socket(*UDP, SERVER).detach()
        return self.udp()

    def udp_connected(self):
        client = self.udp_served()
        on(client, lambda this: (this.bind(CLIENT), this.connect(SERVER)))
        on(self.peer, lambda this: this.connect(CLIENT))
        return client

    def udp_sent(self):
        """A connected datagram socket with a datagram to receive."""
        client = self.udp_connected()
        os.write(self.peer, DATA)
        ready(client)
        return client

    def unix(self):
        return self.socket(*UNIX).detach()

    def unix_pending(self):
        """A listening AF_UNIX socket with a connection to accept, from a socket that has a name."""
        server, client = self.socket(*UNIX, b"\0server"), self.socket(*UNIX, b"\0client")
        server.listen(4)
        client.connect(b"\0server")
        self.peer = client.detach()
        return server.detach()

    def unix_pair(self):
        this, other = socket.socketpair(*UNIX)
        self.peer = other.detach()
        return this.detach()

    def unix_sent(self):
        """One of a pair of AF_UNIX sockets, with data to receive."""
        this = self.unix_pair()
        os.write(self.peer, DATA)
        return this


def on(fd, act):
    """What `act` returns for a Python socket of a descriptor that stays open."""
    borrowed = socket.socket(fileno=fd)
    try:
        return act(borrowed)
    finally:
        borrowed.detach()


def ready(fd):
    """Waits until there is something to receive or to accept. Raises Broke if nothing comes."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(10_000):
        raise Broke("a state: what was sent over the loopback link did not arrive")


def described(fd):
    """What others can see of a descriptor."""
    if fd < 0 or not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    option = {"family": socket.SO_DOMAIN, "type": socket.SO_TYPE, "protocol": socket.SO_PROTOCOL,
              "listens": socket.SO_ACCEPTCONN, "error": socket.SO_ERROR}  # fmt: skip
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    told = {name: on(fd, lambda this, number=number: this.getsockopt(socket.SOL_SOCKET, number))
            for name, number in option.items()}  # fmt: skip
    return told | {
        "flags": [fcntl.fcntl(fd, fcntl.F_GETFD), fcntl.fcntl(fd, fcntl.F_GETFL)],
        "name": on(fd, lambda this: this.getsockname()),
        "peer": on(fd, lambda this: tried(this.getpeername)),
        "waiting": tried(waiting, fd),
        "received": on(fd, lambda this: tried(this.recvmsg, 64, 64, socket.MSG_PEEK | socket.MSG_DONTWAIT)),
        "ready": [events for _, events in poll.poll(0)],
    }


def waiting(fd):
    """How many bytes there are to receive."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def tried(ask, *args):
    """What it returns, or the error that it raises."""
    try:
        return ask(*args)
    except OSError as error:
        return f"{error.errno}"

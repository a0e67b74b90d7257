"""Ports below net.ipv4.ip_unprivileged_port_start, and the capability that binding them needs.

The answer depends on the kind of the socket, the port, the capability and the first unprivileged port (__inet_bind,
__inet6_bind, inet_port_requires_bind_service), and above that not on the capability: over one entry all ports are bound for
each kind, those below with the capability and without, those above without. For the other user and over the other entries it
is a sample of them, and for the capability above.
"""

from errno import EACCES

import pytest

from probes.testing import behaviour, need, procfs
from probes.testing.socket_kinds import WITH_PORTS
from probes.testing.sweeps import DEFAULT_START, START, port_sweep

SOURCE = "bind(2) EACCES; ip(7) ip_unprivileged_port_start; __inet_bind, __inet6_bind; S4 3.2 step 6"

pytestmark = pytest.mark.parametrize("kind", WITH_PORTS, ids=str)


@behaviour("bind.port.privileged", SOURCE)
def test_privileged(kind, nobody, new_socket, calls, expect):
    """Binding a port below ip_unprivileged_port_start without CAP_NET_BIND_SERVICE fails with EACCES."""
    for port in (1, 2, 80, DEFAULT_START - 2, DEFAULT_START - 1):
        expect(-EACCES, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))
    expect(-EACCES, ports=f"1..{DEFAULT_START - 1}").of(port_sweep(calls, kind).run(range(1, DEFAULT_START)))


@behaviour("bind.port.unprivileged", SOURCE)
def test_unprivileged(kind, nobody, new_socket, calls, ranges, expect, request):
    """Binding a port from ip_unprivileged_port_start on needs no capability."""
    for port in (DEFAULT_START, DEFAULT_START + 1, 32767, 32768, 65534, 65535):
        socket = new_socket(*kind.triple)
        expect(0, port=port).of(socket.bind(kind.address(port)))
        need(socket.close())
    same_user = request.node.callspec.params["nobody"] == "no-capability"
    name, ports = ranges.of(DEFAULT_START, 65535, whole=same_user)
    expect(0, ports=name).of(port_sweep(calls, kind).run(ports))


@behaviour("bind.port.zero", f"{SOURCE}; ip(7) `port 0`")
def test_zero(kind, nobody, new_socket, expect):
    """Binding port 0 needs no capability, although 0 is below ip_unprivileged_port_start: it requests an ephemeral
    port.
    """
    expect(0).of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour("bind.port.capability", f"{SOURCE}; capabilities(7) CAP_NET_BIND_SERVICE")
def test_capability(kind, calls, ranges, expect, caller):
    """With CAP_NET_BIND_SERVICE and no other capability, every port from 1 to 65535 can be bound."""
    caller.keep_capabilities(["CAP_NET_BIND_SERVICE"])
    name, ports = ranges.of(1, DEFAULT_START - 1)
    expect(0, ports=name).of(port_sweep(calls, kind).run(ports))
    expect(0, ports="above").of(port_sweep(calls, kind).run(ranges.sample((DEFAULT_START, 65535))))


@behaviour("bind.port.refusal-binds-nothing", f"{SOURCE}; getsockname(2)")
def test_refusal_binds_nothing(kind, unprivileged, new_socket, expect):
    """A bind that fails with EACCES leaves the socket unbound: it has no address, and can be bound to another port."""
    socket = new_socket(*kind.triple)
    expect(-EACCES, step="refused").of(socket.bind(kind.address(DEFAULT_START - 1)))
    expect(kind.address(0, "any"), step="name").of(socket.sockname())
    expect(0, step="other-port").of(socket.bind(kind.address(DEFAULT_START)))


@behaviour("bind.port.line-moves", f"{SOURCE}; Documentation/networking/ip-sysctl.rst ip_unprivileged_port_start")
@pytest.mark.parametrize("start", [0, 1, 80, 1025, 32768])
def test_start_changes(kind, start, new_socket, calls, ranges, expect, caller):
    """Writing net.ipv4.ip_unprivileged_port_start changes the first unprivileged port of the network namespace, for
    IPv4 and IPv6.
    """
    procfs.set_sysctl(START, start)
    caller.keep_capabilities(())
    if start > 1:
        expect(-EACCES, ports="below").of(port_sweep(calls, kind).run(ranges.sample((1, start - 1))))
    expect(0, ports="first").of(new_socket(*kind.triple).bind(kind.address(max(start, 1))))

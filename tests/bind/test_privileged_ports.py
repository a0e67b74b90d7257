"""Ports below net.ipv4.ip_unprivileged_port_start, and the capability that binding them needs."""

from errno import EACCES

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing.socket_kinds import WITH_PORTS
from tests.bind.bind_ports import DEFAULT_START, START, port_sweep

SOURCE = "bind(2) EACCES; ip(7) ip_unprivileged_port_start; __inet_bind, __inet6_bind; S4 3.2 step 6"

pytestmark = pytest.mark.parametrize("kind", WITH_PORTS, ids=str)


@behaviour("bind.port.privileged", SOURCE)
def test_privileged(kind, nobody, new_socket, calls, expect):
    """Binding a port below ip_unprivileged_port_start without CAP_NET_BIND_SERVICE fails with EACCES."""
    for port in (1, 2, 80, DEFAULT_START - 2, DEFAULT_START - 1):
        expect(-EACCES, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))
    expect(-EACCES, ports=f"1..{DEFAULT_START - 1}").of(port_sweep(calls, kind).run(range(1, DEFAULT_START)))


@behaviour("bind.port.unprivileged", SOURCE)
def test_unprivileged(kind, nobody, new_socket, calls, expect):
    """Binding a port from ip_unprivileged_port_start on needs no capability."""
    for port in (DEFAULT_START, DEFAULT_START + 1, 32767, 32768, 65534, 65535):
        socket = new_socket(*kind.triple)
        expect(0, port=port).of(socket.bind(kind.address(port)))
        need(socket.close())
    expect(0, ports=f"{DEFAULT_START}..65535").of(port_sweep(calls, kind).run(range(DEFAULT_START, 65536)))


@behaviour("bind.port.zero", f"{SOURCE}; ip(7) `port 0`")
def test_zero(kind, nobody, new_socket, expect):
    """Binding port 0 needs no capability, although 0 is below ip_unprivileged_port_start: it requests an ephemeral
    port.
    """
    expect(0).of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour("bind.port.capability", f"{SOURCE}; capabilities(7) CAP_NET_BIND_SERVICE")
def test_capability(kind, new_socket, calls, expect):
    """With CAP_NET_BIND_SERVICE and no other capability, every port from 1 to 65535 can be bound."""
    namespaces.keep_capabilities(["CAP_NET_BIND_SERVICE"])
    expect(0, ports="1..65535").of(port_sweep(calls, kind).run(range(1, 65536)))


@behaviour("bind.port.refusal-binds-nothing", f"{SOURCE}; getsockname(2)")
def test_refusal_binds_nothing(kind, unprivileged, new_socket, expect):
    """A bind that fails with EACCES leaves the socket unbound: it has no address, and can be bound to another port."""
    socket = new_socket(*kind.triple)
    expect(-EACCES, step="refused").of(socket.bind(kind.address(DEFAULT_START - 1)))
    expect(kind.address(0, "any"), step="name").of(socket.sockname())
    expect(0, step="other-port").of(socket.bind(kind.address(DEFAULT_START)))


@behaviour("bind.port.line-moves", f"{SOURCE}; Documentation/networking/ip-sysctl.rst ip_unprivileged_port_start")
@pytest.mark.parametrize("start", [0, 1, 80, 1025, 32768])
def test_start_changes(kind, start, new_socket, calls, expect):
    """Writing net.ipv4.ip_unprivileged_port_start changes the first unprivileged port of the network namespace, for
    IPv4 and IPv6.
    """
    namespaces.set_sysctl(START, start)
    namespaces.keep_capabilities(())
    if start > 1:
        expect(-EACCES, ports="below").of(port_sweep(calls, kind).run(range(1, start)))
    expect(0, ports="first").of(new_socket(*kind.triple).bind(kind.address(max(start, 1))))

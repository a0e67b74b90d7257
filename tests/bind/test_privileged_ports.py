"""Ports below net.ipv4.ip_unprivileged_port_start, and who may bind them."""

from errno import EACCES

import pytest

from probes.sandbox import namespaces
from probes.testing import behaviour, need
from probes.testing.socket_kinds import WITH_PORTS
from tests.bind.bind_ports import ports

SOURCE = "bind(2) EACCES; ip(7) ip_unprivileged_port_start; __inet_bind, __inet6_bind; S4 3.2 step 6"
#: Without a sysctl, the line lies here (include/net/ip.h PROT_SOCK).
LINE = 1024

pytestmark = pytest.mark.parametrize("kind", WITH_PORTS, ids=str)


@behaviour("bind.port.privileged", SOURCE)
def test_privileged(kind, nobody, new_socket, calls, expect):
    """Binding a port below ip_unprivileged_port_start without CAP_NET_BIND_SERVICE fails with EACCES."""
    for port in (1, 2, 80, LINE - 2, LINE - 1):
        expect(-EACCES, port=port).of(new_socket(*kind.triple).bind(kind.address(port)))
    expect(-EACCES, ports=f"1..{LINE - 1}").of(ports(calls, kind).run(range(1, LINE)))


@behaviour("bind.port.unprivileged", SOURCE)
def test_unprivileged(kind, nobody, new_socket, calls, expect):
    """Binding a port from ip_unprivileged_port_start on needs no capability."""
    for port in (LINE, LINE + 1, 32767, 32768, 65534, 65535):
        socket = new_socket(*kind.triple)
        expect(0, port=port).of(socket.bind(kind.address(port)))
        need(socket.close())
    expect(0, ports=f"{LINE}..65535").of(ports(calls, kind).run(range(LINE, 65536)))


@behaviour("bind.port.zero", f"{SOURCE}; ip(7) `port 0`")
def test_zero(kind, nobody, new_socket, expect):
    """Port 0 is below the line, and needs no capability: it asks for a port."""
    expect(0).of(new_socket(*kind.triple).bind(kind.address(0)))


@behaviour("bind.port.capability", f"{SOURCE}; capabilities(7) CAP_NET_BIND_SERVICE")
def test_capability(kind, new_socket, calls, expect):
    """With CAP_NET_BIND_SERVICE and no other capability, every port from 1 to 65535 can be bound."""
    namespaces.keep_capabilities(["CAP_NET_BIND_SERVICE"])
    expect(0, ports="1..65535").of(ports(calls, kind).run(range(1, 65536)))


@behaviour("bind.port.refusal-binds-nothing", f"{SOURCE}; getsockname(2)")
def test_refusal_binds_nothing(kind, unprivileged, new_socket, expect):
    """A socket that was refused a privileged port has no name, and can be bound to another port."""
    socket = new_socket(*kind.triple)
    expect(-EACCES, step="refused").of(socket.bind(kind.address(LINE - 1)))
    result, name = socket.sockname()
    expect(kind.address(0, "any"), step="name").of(name, result)
    expect(0, step="other-port").of(socket.bind(kind.address(LINE)))


@behaviour("bind.port.line-moves", f"{SOURCE}; Documentation/networking/ip-sysctl.rst ip_unprivileged_port_start")
@pytest.mark.parametrize("start", [0, 1, 80, 1025, 32768])
def test_line_moves(kind, start, new_socket, calls, expect):
    """Writing net.ipv4.ip_unprivileged_port_start moves the line, for this network namespace, IPv6 as well."""
    namespaces.set_sysctl("net.ipv4.ip_unprivileged_port_start", start)
    namespaces.keep_capabilities(())
    if start > 1:
        expect(-EACCES, ports="below").of(ports(calls, kind).run(range(1, start)))
    expect(0, ports="first").of(new_socket(*kind.triple).bind(kind.address(max(start, 1))))

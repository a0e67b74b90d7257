"""Writes a decoded call as one line: `bind(3, {AF_INET 127.0.0.1:80}, 16) = -13 EACCES`."""

from __future__ import annotations

from collections.abc import Mapping

from probes.abi.record import Decoded, shown


def text(op: str, decoded: Mapping[str, Decoded], ret: int | None) -> str:
    """Write a call; `?` stands for an operation without a name and for the result of a call that never returned."""
    arguments = ", ".join(value(argument) for argument in decoded.values())
    return f"{op or '?'}({arguments}) = {'?' if ret is None else shown(ret)}"


def call_begins(op: str) -> str:
    """Write that a call enters the kernel, as an event among frames."""
    return f"{op} begins"


def call_ends(op: str) -> str:
    """Write that a call leaves the kernel."""
    return f"{op} ends"


def value(decoded: Decoded) -> str:
    """Write a decoded argument.

    Value-result pairs are `[16 => 2]`, buffers quoted, addresses in the notation of their family, other structures
    `{name=value …}`.
    """
    if isinstance(decoded, Mapping):
        if "family" in decoded:
            return address(decoded)
        if "hex" in decoded and "text" in decoded:
            return f'"{_quoted(decoded["text"])}"' + ("..." if decoded.get("more") else "")
        if "in" in decoded and set(decoded) <= {"in", "out"}:
            return "[" + " => ".join(value(side) for side in decoded.values()) + "]"
        return "{" + _members(decoded) + "}"
    if isinstance(decoded, (list, tuple)):
        return "[" + ", ".join(value(item) for item in decoded) + "]"
    return "?" if decoded is None else str(decoded)


def address(decoded: Mapping[str, Decoded]) -> str:
    """Write an address that `sockaddr.describe` decoded."""
    rest = {name: member for name, member in decoded.items() if name not in ("family", "terminated")}
    if {"host", "port"} <= set(rest):
        host, port = rest.pop("host"), rest.pop("port")
        where = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
        rest = {name: member for name, member in rest.items() if member or name not in ("flow", "scope")}
    elif "path" in rest:
        where = f'"{_quoted(rest.pop("path"))}"'
    elif "abstract" in rest:
        where = f'@"{_quoted(rest.pop("abstract"))}"'
    else:
        rest.pop("unnamed", None)
        where = ""
    return "{" + " ".join(part for part in (str(decoded["family"]), where, _members(rest)) if part) + "}"


def _members(decoded: Mapping[str, Decoded]) -> str:
    return " ".join(f"{name}={value(member)}" for name, member in decoded.items())


def _quoted(decoded: Decoded) -> str:
    return str(decoded).replace('"', '\\"')

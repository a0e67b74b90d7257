"""One line for one call: `bind(3, {AF_INET 127.0.0.1:80}, 16) = -13 EACCES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.abi.record import shown


def text(op: str, decoded: Mapping[str, Any], ret: int | None) -> str:
    """The call as people read it; `?` for an operation without a name and for a call that never returned."""
    told = ", ".join(value(argument) for argument in decoded.values())
    return f"{op or '?'}({told}) = {'?' if ret is None else shown(ret)}"


def value(told: Any) -> str:
    """A decoded argument. Value-result pairs are `[16 => 2]`, buffers quoted, addresses in the notation of their
    family, other structures `{name=value …}`."""
    if isinstance(told, Mapping):
        if "family" in told:
            return address(told)
        if "hex" in told and "text" in told:
            return f'"{_quoted(told["text"])}"' + ("..." if told.get("more") else "")
        if "in" in told and set(told) <= {"in", "out"}:
            return "[" + " => ".join(value(side) for side in told.values()) + "]"
        return "{" + _members(told) + "}"
    if isinstance(told, (list, tuple)):
        return "[" + ", ".join(value(item) for item in told) + "]"
    return "?" if told is None else str(told)


def address(told: Mapping[str, Any]) -> str:
    """An address that sockaddr.describe told."""
    rest = {name: member for name, member in told.items() if name not in ("family", "terminated")}
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
    return "{" + " ".join(part for part in (str(told["family"]), where, _members(rest)) if part) + "}"


def _members(told: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value(member)}" for name, member in told.items())


def _quoted(told: Any) -> str:
    return str(told).replace('"', '\\"')

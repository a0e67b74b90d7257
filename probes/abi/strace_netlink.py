"""Writes decoded messages of netlink in the notation of strace: `[{nlmsg_len=40, …}, {ifi_family=…}, [[…], …]]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probes.abi.netlink_layouts import HOSTS
from probes.abi.record import Decoded, errno_name, signed
from probes.abi.strace_address import hex_or_0
from probes.abi.strace_text import bytes_of, quoted


def messages(decoded: Sequence[Mapping[str, Decoded]]) -> str:
    """Write the messages of a buffer; `...` stands for what is no whole message."""
    return _one_or_list(["..." if "more" in each else _message(each) for each in decoded])


def _list(shown: Sequence[str]) -> str:
    return f"[{', '.join(shown)}]"


def _one_or_list(shown: Sequence[str]) -> str:
    return shown[0] if len(shown) == 1 and shown[0] != "..." else _list(shown)


def _message(decoded: Mapping[str, Decoded]) -> str:
    parts = [_header(decoded)]
    if "body" in decoded:
        parts.append(_body(decoded["body"]))
    if "data" in decoded:
        parts.append(_hexadecimal(decoded["data"]))
    if "attrs" in decoded:
        parts.append(_attributes(decoded["attrs"]))
    if "text" in decoded:
        parts.append(quoted(bytes_of(decoded["text"])))
    return parts[0] if len(parts) == 1 else _list(parts)


def _header(decoded: Mapping[str, Decoded]) -> str:
    members = [f"nlmsg_{name}={decoded[name]}" for name in ("len", "type", "flags", "seq")]
    return f"{{{', '.join(members)}, nlmsg_pid={signed(decoded['pid'])}}}"


def _body(decoded: Decoded) -> str:
    if not isinstance(decoded, Mapping):
        return str(decoded)
    members = []
    for name, value in decoded.items():
        if name == "cut":
            members.append("...")
        elif name == "msg":
            members.append(f"msg={_message(value)}")
        elif name == "error":
            members.append(f"error={'-' if errno_name(value) else ''}{errno_name(value) or value}")
        elif name in HOSTS:
            members.append(_host(value, f"&{name}"))
        elif name.endswith(_PORTS):
            members.append(f"{name}=htons({value})")
        else:
            members.append(f"{name}=htonl({hex_or_0(value)})" if name == "spi" else f"{name}={_value(value)}")
    return f"{{{', '.join(members)}}}"


_PORTS = ("sport", "dport", "port_mask", "res_id", "hw_protocol")


def _attributes(decoded: Sequence[Mapping[str, Decoded]]) -> str:
    return _one_or_list([_attribute(each) for each in decoded])


def _attribute(decoded: Mapping[str, Decoded]) -> str:
    if "raw" in decoded:
        return _hexadecimal(decoded["raw"])
    header = f"{{nla_len={decoded['len']}, nla_type={_type(decoded['type'])}}}"
    if "attrs" in decoded:
        return _list([header, _attributes(decoded["attrs"])])
    return _list([header, _value(decoded["value"])]) if "value" in decoded else header


def _type(decoded: Decoded) -> str:
    return hex(decoded) if isinstance(decoded, int) else str(decoded)


def _value(decoded: Decoded) -> str:
    if isinstance(decoded, Mapping):
        if "text" in decoded:
            return quoted(bytes_of(decoded["text"]), decoded.get("terminated") is False)
        if "host" in decoded:
            return _host(decoded["host"])
        if "hex" in decoded:
            return _hexadecimal(decoded["hex"])
        return _body(decoded)
    return _list([_value(each) for each in decoded]) if isinstance(decoded, list) else str(decoded)


def _host(host: str, where: str = "") -> str:
    if ":" in host:
        return f'inet_pton(AF_INET6, "{host}"{", " + where if where else ""})'
    if "." not in host:  # (Its family is not known.)
        return f"{where[1:]}={_hexadecimal(host)}"
    return (f"{where[1:]}=" if where else "") + f'inet_addr("{host}")'


def _hexadecimal(raw: str) -> str:
    r"""Write bytes that are no text as strace does: `"\x00\x01"`."""
    return '"' + "".join(f"\\x{raw[at : at + 2]}" for at in range(0, len(raw), 2)) + '"'

"""Writes a decoded call in the notation of strace: `bind(3, {sa_family=AF_INET, …}, 16) = -1 EACCES (Permission denied)`.

notation.py writes it shorter, for reports. Source: strace(1), and the output of strace 6.1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from probes.abi.record import RESTART, Decoded, errno_name
from probes.abi.strace_address import address, swapped
from probes.abi.strace_text import quoted

#: What strace says about a result that only a tracer sees.
_RESTARTS = {
    512: "To be restarted if SA_RESTART is set",
    513: "To be restarted",
    514: "To be restarted if no handler",
    516: "Interrupted by signal",
}
#: Prefixes of the members of structures, by the names that the layouts have for the first two.
_PREFIXES = {
    ("onoff", "linger"): "l_", ("sec", "usec"): "tv_", ("sec", "nsec"): "tv_", ("multiaddr", "interface"): "imr_",
    ("packets", "drops"): "tp_", ("ifindex", "type"): "mr_", ("state", "ca_state"): "tcpi_",
    ("ifindex", "spec_dst"): "ipi_", ("address", "ifindex"): "ipi6_", ("errno", "origin"): "ee_",
    ("interface", "group"): "gr_",
}  # fmt: skip


def outcome(ret: int | None) -> str:
    """Write the result of a call: `3`, `-1 EACCES (Permission denied)`, `?` if it never returned."""
    if ret is None:
        return "?"
    name = errno_name(ret)
    if not name:
        return str(ret)
    return f"? {name} ({_RESTARTS[-ret]})" if -ret in RESTART else f"-1 {name} ({os.strerror(-ret)})"


def arguments(
    decoded: Mapping[str, Decoded], ret: int | None = None, sockets: Mapping[int, str] | None = None
) -> list[str]:
    """Write the arguments of a call, in order, its descriptors with what `sockets` says that they are."""
    shown = [_argument(decoded, name, value, ret) for name, value in decoded.items()]
    if ret == 0 and isinstance(decoded.get("buf"), str) and decoded["buf"] != "NULL":
        shown[list(decoded).index("buf")] = '""'  # nothing was transferred
    if decoded.get("family") == "AF_PACKET" and isinstance(decoded.get("protocol"), int):
        shown[2] = f"htons({swapped(decoded['protocol'])})"
    if decoded.get("optname") == "SO_ERROR" and isinstance(error := decoded.get("optval"), int):
        shown[list(decoded).index("optval")] = f"[{errno_name(-error) or error}]"
    if not sockets:
        return shown
    for index, name in enumerate(decoded):
        if name in FD_NAMES:
            shown[index] = descriptor(decoded[name], sockets)
        elif name == "fds":
            for number, text in sockets.items():
                shown[index] = shown[index].replace(f"{{fd={number},", f"{{fd={number}<{text}>,")
        elif name == "sv" and isinstance(decoded[name], list):
            shown[index] = _list([descriptor(number, sockets) for number in decoded[name]])
    return shown


#: Arguments that are arrays, and the arguments that say how many entries they have.
_COUNTS = {"iov": "iovcnt", "fds": "nfds", "msgvec": "vlen"}


def _argument(decoded: Mapping[str, Decoded], name: str, value: Decoded, ret: int | None) -> str:
    if name in _COUNTS and isinstance(value, list):
        if name == "msgvec" and "timeout" in decoded and ret is not None and ret >= 0:
            return _messages(value[:ret], ret)  # recvmmsg: the others were not received
        return _ARRAYS[name](value, decoded.get(_COUNTS[name]))
    return _ARGUMENTS[name](value) if name in _ARGUMENTS else _value(value)


#: The names of arguments that are descriptors.
FD_NAMES = frozenset(["fd", "epfd", "oldfd", "newfd", "in_fd", "out_fd"])


def descriptor(number: Decoded, sockets: Mapping[int, str]) -> str:
    """Write a descriptor with what it is: `3<TCP:[127.0.0.1:80]>`."""
    return f"{number}<{sockets[number]}>" if number in sockets else str(number)


def auxiliary(op: str, decoded: Mapping[str, Decoded], ret: int | None) -> str:
    """Write what strace adds to the result of poll and select: what is ready, in brackets; "" for other calls."""
    if not ret or ret < 0 or not op.startswith(_WAITING):
        return ""
    parts = []
    if isinstance(fds := decoded.get("fds"), list):
        ready = [f"{{fd={each['fd']}, revents={each['revents']}}}" for each in fds if each.get("revents")]
        parts.append(_list(ready))
    for name, short in (("readfds", "in"), ("writefds", "out"), ("exceptfds", "except")):
        found = decoded.get(name)
        if isinstance(found, Mapping) and found.get("out"):
            parts.append(f"{short} {_set(found['out'])}")
    if isinstance(timeout := decoded.get("timeout"), Mapping):
        parts.append(f"left {_value(timeout.get('out', timeout))}")
    return f" ({', '.join(parts)})" if parts else ""


_WAITING = ("poll", "ppoll", "_newselect", "pselect6", "select", "recvmmsg")


def _buffer(decoded: Decoded) -> str:
    if isinstance(decoded, Mapping) and "hex" in decoded:
        if decoded.get("netlink"):
            from probes.abi.strace_netlink import messages

            return messages(decoded["netlink"])
        return quoted(bytes.fromhex(decoded["hex"]), "more" in decoded)
    return _value(decoded)


def _length(decoded: Decoded) -> str:
    """Write a value-result length: `[128 => 16]`, `[16]` if the call left it as it was."""
    if not isinstance(decoded, Mapping):
        return str(decoded)
    return f"[{_changed(decoded)}]"


def _offset(decoded: Decoded) -> str:
    """Write a file offset: `[0] => [3]`, `[0]` if the call left it as it was."""
    if not isinstance(decoded, Mapping):
        return str(decoded)
    moved = decoded.get("out", decoded["in"]) != decoded["in"]
    return f"[{decoded['in']}] => [{decoded['out']}]" if moved else f"[{decoded['in']}]"


def _level(decoded: Decoded) -> str:
    """Write the level of an option: strace has another name for those that are protocols."""
    return f"SOL_{str(decoded)[8:]}" if str(decoded).startswith("IPPROTO_") else str(decoded)


def _changed(decoded: Decoded) -> str:
    if not isinstance(decoded, Mapping):
        return str(decoded)
    asked, written = decoded["in"], decoded.get("out", decoded["in"])
    return str(asked) if asked == written else f"{asked} => {written}"


def _option(decoded: Decoded) -> str:
    if isinstance(decoded, int):
        return f"[{decoded}]"
    return _buffer(decoded)


def _iovecs(decoded: Decoded, count: int | None = None, received: bool = False) -> str:
    if not isinstance(decoded, list):
        return str(decoded)
    shown = []
    for each in decoded:
        # A buffer that nothing was received into is empty, not unknown.
        unknown = '""' if received and each["base"] != "NULL" else each["base"]
        base = _buffer(each["data"]) if "data" in each else unknown
        shown.append(f"{{iov_base={base}, iov_len={each['len']}}}")
    return _list(shown, count)


def _list(shown: Sequence[str], count: int | None = None) -> str:
    """Write an array of `count` entries, `...` for those that were not fetched."""
    return f"[{', '.join([*shown, *(['...'] if count is not None and count > len(shown) else [])])}]"


def _control(decoded: Decoded) -> str:
    if not isinstance(decoded, list):
        return str(decoded)
    shown = []
    for each in decoded:
        if "raw" in each:
            shown.append("...")
            continue
        data = f", cmsg_data={_control_data(each)}" if "data" in each else ""
        shown.append(f"{{cmsg_len={each['len']}, cmsg_level={_level(each['level'])}, cmsg_type={each['type']}{data}}}")
    return _list(shown)


def _control_data(decoded: Mapping[str, Decoded]) -> str:
    if decoded["type"] == "IPV6_PKTINFO" and "ifindex" in decoded["data"]:
        return _host6_and_link(decoded["data"], "ipi6_addr", "ipi6_ifindex")
    return _option(decoded["data"])


def _message(decoded: Decoded) -> str:
    if not isinstance(decoded, Mapping):
        return str(decoded)
    controllen = decoded["controllen"]
    length = controllen.get("out", controllen["in"]) if isinstance(controllen, Mapping) else controllen
    iov = _iovecs(decoded["iov"], decoded["iovlen"], received=isinstance(controllen, Mapping))
    control = [f"msg_control={_control(decoded['control'])}"] if length else []
    return "{" + ", ".join([
        f"msg_name={address(decoded['name'])}", f"msg_namelen={_changed(decoded['namelen'])}",
        f"msg_iov={iov}", f"msg_iovlen={decoded['iovlen']}", *control,
        f"msg_controllen={length}", f"msg_flags={decoded['flags']}",
    ]) + "}"  # fmt: skip


def _messages(decoded: Sequence[Mapping[str, Decoded]], count: int | None) -> str:
    return _list([
        f"{{msg_hdr={_message(each)}" + (f", msg_len={each['len']}}}" if "len" in each else "}") for each in decoded
    ], count)  # fmt: skip


def _pollfds(decoded: Sequence[Mapping[str, Decoded]], count: int | None) -> str:
    return _list([f"{{fd={each['fd']}, events={each['events']}}}" for each in decoded], count)


def _set(members: Sequence[int], cut: bool = False) -> str:
    return f"[{' '.join([*map(str, members), *(['...'] if cut else [])])}]"


def _fd_set(decoded: Decoded) -> str:
    return _set(decoded["in"], "more" in decoded) if isinstance(decoded, Mapping) else str(decoded)


def _timeout(decoded: Decoded) -> str:
    return _value(decoded["in"] if isinstance(decoded, Mapping) and "in" in decoded else decoded)


def _value(decoded: Decoded) -> str:
    """Write a structure, a list, a number or a name."""
    if isinstance(decoded, (int, str)):
        return str(decoded)
    if isinstance(decoded, Mapping):
        if "family" in decoded:
            return address(decoded)
        if "hex" in decoded and "text" in decoded:
            return _buffer(decoded)
        if "in" in decoded and set(decoded) <= {"in", "out"}:
            return _length(decoded)
        if tuple(decoded) == ("events", "data") and isinstance(decoded["data"], int):
            low = decoded["data"] & 0xFFFFFFFF
            return f"{{events={decoded['events']}, data={{u32={low}, u64={decoded['data']}}}}}"
        if "instructions" in decoded:
            return f"{{len={decoded['len']}, filter={_list(decoded['instructions'], decoded['len'])}}}"
        return _structure(decoded)
    if isinstance(decoded, (list, tuple)):
        return _list([_value(each) for each in decoded])
    return "?" if decoded is None else str(decoded)


def _structure(decoded: Mapping[str, Decoded]) -> str:
    names = tuple(decoded)
    if names[:2] == ("software_sec", "software_nsec"):
        pairs = zip(*[iter(decoded.values())] * 2, strict=True)
        return _list([f"{{tv_sec={seconds}, tv_nsec={nanoseconds}}}" for seconds, nanoseconds in pairs])
    if names == ("address", "ifindex"):  # struct ipv6_mreq; struct in6_pktinfo has the same members
        return _host6_and_link(decoded, "ipv6mr_multiaddr", "ipv6mr_interface")
    if names[:2] == ("ifindex", "type") and "alen" in decoded:
        decoded = {**decoded, "address": decoded["address"][: 2 * decoded["alen"]]}
    prefix = next((prefix for first, prefix in _PREFIXES.items() if names[:2] == first), "")
    return "{" + ", ".join(f"{prefix}{name}={_member(prefix, name, value)}" for name, value in decoded.items()) + "}"


def _host6_and_link(decoded: Mapping[str, Decoded], host: str, link: str) -> str:
    return f'{{inet_pton(AF_INET6, "{decoded["address"]}", &{host}), {link}={decoded["ifindex"]}}}'


#: packet(7) PACKET_ADD_MEMBERSHIP.
_MEMBERSHIPS = ("PACKET_MR_MULTICAST", "PACKET_MR_PROMISC", "PACKET_MR_ALLMULTI", "PACKET_MR_UNICAST")


def _member(prefix: str, name: str, decoded: Decoded) -> str:
    if prefix in ("imr_", "ipi_") and isinstance(decoded, str) and name != "ifindex":
        return f'inet_addr("{decoded}")'
    if prefix == "mr_" and name == "type":
        return _MEMBERSHIPS[decoded] if decoded < len(_MEMBERSHIPS) else str(decoded)
    if prefix == "mr_" and name == "address":
        return ":".join(decoded[at : at + 2] for at in range(0, len(decoded), 2))
    return _value(decoded)


_ARRAYS: dict[str, Callable[[list[Decoded], int | None], str]] = {
    "iov": _iovecs, "msgvec": _messages, "fds": _pollfds,
}  # fmt: skip
_ARGUMENTS: dict[str, Callable[[Decoded], str]] = {
    "addr": address, "addrlen": _length, "optlen": _length, "offset": _offset, "buf": _buffer, "optval": _option,
    "msg": _message, "readfds": _fd_set, "writefds": _fd_set,
    "exceptfds": _fd_set, "timeout": _timeout, "level": _level, "argp": _option,
}  # fmt: skip

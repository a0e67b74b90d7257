"""A frame of the wire: when it passed, on which link, its bytes."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

#: Where scapy would keep a configuration and a cache, and what makes it keep none: no directory can be made there.
_NO_FILES = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_CACHE_HOME"), os.devnull)


@dataclass(frozen=True)
class Frame:
    """A frame as the kernel delivered it to a packet socket.

    `number` counts the frames of a test, `t_ns` is CLOCK_MONOTONIC in nanoseconds, `link` the interface's name, `raw`
    the bytes from the Ethernet header on.
    """

    number: int
    t_ns: int
    link: str
    raw: bytes

    @cached_property
    def packet(self) -> Any:
        """Return the frame dissected by scapy, from its Ethernet layer on."""
        return ethernet()(self.raw)

    @property
    def summary(self) -> str:
        """Return the frame's link, layers and ends, without what is random in it, such as TCP's first numbers."""
        return f"{self.link} {_summary(self.packet)}"

    @property
    def text(self) -> str:
        """Return the frame on one line, as people read it: link, layers and ends, and of IP and TCP what tests judge."""
        try:
            return f"{self.link} {_described(self.packet)}"
        except ImportError:
            return f"{self.link} {self.raw.hex()}"

    def as_json(self) -> dict[str, Any]:
        """Return the line of evidence.jsonl (docs/schema.json, `frame`), without its `seq`."""
        return {"type": "frame", "number": self.number, "t_ns": self.t_ns, "link": self.link, "raw": self.raw.hex()}

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> Frame:
        """Read a frame that `as_json` wrote."""
        return cls(line["number"], line["t_ns"], line["link"], bytes.fromhex(line["raw"]))


#: Fields that are shown behind scapy's summary, by layer.
_SHOWN = {
    "IP": ("ttl", "tos", "flags", "frag"), "IPv6": ("hlim", "tc"), "TCP": ("seq", "ack", "window", "urgptr", "options"),
    "UDP": ("len",),
}  # fmt: skip


def _summary(packet: Any) -> str:
    return str(packet.summary().removeprefix("Ether / "))


def _described(packet: Any) -> str:
    summary = _summary(packet)
    shown = []
    for name, fields in _SHOWN.items():
        layer = packet.getlayer(name)
        if layer is not None:
            shown += [f"{field}={value}" for field in fields if (value := layer.getfieldval(field)) or field == "ttl"]
    return f"{summary} ({' '.join(shown)})" if shown else summary


@cache
def ethernet() -> Any:
    """Import scapy with the layers of IP, and return its class of Ethernet frames. Nothing is written to the user's home.

    Raises ImportError: scapy is not installed.
    """
    before = {name: os.environ.get(name) for name in _NO_FILES}
    os.environ.update(_NO_FILES)
    try:
        # It registers the layers inside an Ethernet frame.
        importlib.import_module("scapy.layers.inet6")
        inet, conf = importlib.import_module("scapy.layers.inet"), importlib.import_module("scapy.config").conf
        # Ports are shown as numbers, not by the names of this machine's /etc/services.
        conf.noenum.add(inet.TCP.sport, inet.TCP.dport, inet.UDP.sport, inet.UDP.dport)
        return importlib.import_module("scapy.layers.l2").Ether
    finally:
        for name in _NO_FILES:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def warm_up() -> None:
    """Import scapy before a sandbox is made: see probes.testing.preload."""
    ethernet()

"""A frame of the wire: when it passed, on which link, its bytes."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
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

    @property
    def packet(self) -> Any:
        """The frame dissected by scapy, from its Ethernet layer on."""
        return ethernet()(self.raw)

    def as_json(self) -> dict[str, Any]:
        """Return the line of evidence.jsonl (docs/schema.json, `frame`), without its `seq`."""
        return {"type": "frame", "number": self.number, "t_ns": self.t_ns, "link": self.link, "raw": self.raw.hex()}

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> Frame:
        """Read a frame that `as_json` wrote."""
        return cls(line["number"], line["t_ns"], line["link"], bytes.fromhex(line["raw"]))


def ethernet() -> Any:
    """Import scapy with the layers of IP, and return its class of Ethernet frames. Nothing is written to the user's home.

    Raises ImportError: scapy is not installed.
    """
    before = {name: os.environ.get(name) for name in _NO_FILES}
    os.environ.update(_NO_FILES)
    try:
        # It registers the layers inside an Ethernet frame.
        importlib.import_module("scapy.layers.inet6")
        return importlib.import_module("scapy.layers.l2").Ether
    finally:
        for name in _NO_FILES:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if value is not None})

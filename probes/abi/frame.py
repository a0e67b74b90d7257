"""A frame of the wire: when it passed, on which link, its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
        from scapy.layers import inet, inet6, l2  # noqa: F401 (they register the layers inside an Ethernet frame)

        return l2.Ether(self.raw)

    def as_json(self) -> dict[str, Any]:
        """Return the line of evidence.jsonl (docs/schema.json, `frame`), without its `seq`."""
        return {"type": "frame", "number": self.number, "t_ns": self.t_ns, "link": self.link, "raw": self.raw.hex()}

    @classmethod
    def of_json(cls, line: dict[str, Any]) -> Frame:
        """Read a frame that `as_json` wrote."""
        return cls(line["number"], line["t_ns"], line["link"], bytes.fromhex(line["raw"]))

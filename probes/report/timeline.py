"""Calls and frames in the order of their times, as lines of a failure's message and as comments of a pcapng file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from probes.abi import notation
from probes.abi.frame import Frame
from probes.abi.record import Record
from probes.report.check import Json

#: Width of a time in milliseconds, with six digits behind the point.
_TIME = 12


class Event(NamedTuple):
    """Is the begin or the end of a call, or a frame."""

    t_ns: int
    text: str
    frame: Frame | None = None


def events(records: Sequence[Record], frames: Sequence[Frame]) -> list[Event]:
    """Return the begins and ends of calls that a tracer saw, and frames, in the order of their times."""
    found = []
    for record in (one for one in records if one.observed):
        call = notation.text(record.op, record.decoded, record.ret)
        found.append(Event(record.t_ns, notation.call_begins(record.op or f"call {record.nr}")))
        if record.dur_ns is not None:
            found.append(Event(record.t_ns + record.dur_ns, notation.call_ends(call)))
    found += [Event(frame.t_ns, "", frame) for frame in frames]
    return sorted(found, key=lambda event: event.t_ns)


def lines(records: Sequence[Record], frames: Sequence[Frame]) -> list[str]:
    """Return a line for each event, with the milliseconds since the first."""
    ordered = events(records, frames)
    begin = ordered[0].t_ns if ordered else 0
    return [
        f"{(event.t_ns - begin) / 1e6:{_TIME}.6f} ms  {event.frame.text if event.frame else event.text}"
        for event in ordered
    ]


def is_of_frames(value: Json) -> bool:
    """Return True if a value is what a check of frames compares: a list of fields by name, and of begins and ends."""
    return isinstance(value, list) and any(isinstance(one, dict) and set(one) != {"bytes"} for one in value)

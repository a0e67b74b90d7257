"""wire/*.pcapng: the frames that checks rest on, a file for each behaviour, with the calls as comments of packets.

A comment says which calls began and ended before its packet, by the same clock; those after the last packet of a test are in
that packet's comment too. Written here, since calls need a comment each and nanoseconds: blocks and options as in
draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from probes.abi.frame import Frame
from probes.abi.record import Record
from probes.errors import CommandError
from probes.report import timeline
from probes.report.check import Check, Json
from probes.report.packed import test_of
from probes.report.reader import EVIDENCE, evidence_lines

#: More nanoseconds than the time stamp of a packet holds.
_LATEST = 1 << 63
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _VERSION, _WHOLE_LENGTH_UNKNOWN = 0x1A2B3C4D, (1, 0), -1
_ETHERNET, _NO_LIMIT = 1, 0
_COMMENT, _NAME, _RESOLUTION = 1, 2, 9
_NANOSECONDS = bytes([9])
#: Bytes of a comment, whose length has 16 bits.
_LONGEST = 60_000


class Frames:
    """Finds the frames of a run by behaviour: add all of its checks, then write."""

    def __init__(self) -> None:
        """Start without a check."""
        #: What the checks of each behaviour rest on.
        self._wanted: dict[str, array[int]] = {}
        self._last = 0

    def add(self, check: Check) -> None:
        """Take the evidence of a check."""
        if check.seq:
            self._wanted.setdefault(check.key.id, array("Q")).extend(check.seq)
            self._last = max(self._last, *check.seq)

    def write(self, directory: Path) -> list[Path]:
        """Write the files into DIRECTORY/wire, none if no frame was kept, and return them.

        Times are those of the calls in the evidence: nanoseconds of CLOCK_MONOTONIC. Raises CommandError: the evidence is
        damaged, or ends before what the last check rests on.
        """
        frames, calls, last = dict[int, Frame](), dict[int, dict[str, Json]](), 0
        for _, lines in groupby(evidence_lines(directory), lambda line: test_of(line["seq"])):
            these = list(lines)
            last = max(last, *(line["seq"] for line in these))
            if any(line["type"] == "frame" for line in these):
                frames |= {line["seq"]: _frame(directory, line) for line in these if line["type"] == "frame"}
                calls |= {line["seq"]: line for line in these if line["type"] == "call"}
        if last < self._last:
            raise CommandError(f"{directory / EVIDENCE} is cut off: it ends before seq {self._last}; judge again")
        if not frames:
            return []
        (directory / "wire").mkdir(exist_ok=True)
        written = []
        for id, found in sorted(self._wanted.items()):
            if frames.keys().isdisjoint(found):
                continue
            if Path(id).name != id or "\0" in id:
                # The results may be of another machine: they name no file outside the directory.
                raise CommandError(f"{directory}: {id!r} is no id of a behaviour: judge again")
            numbers = sorted(set(found))
            path = directory / "wire" / f"{id}.pcapng"
            with path.open("wb") as file:
                write(file, [_of_test(directory, list(seqs), frames, calls) for _, seqs in groupby(numbers, test_of)])
            written.append(path)
        return written


def write(file: BinaryIO, tests: Sequence[Sequence[timeline.Event]]) -> None:
    """Write the frames of tests, each in the order of time, with the calls between them as comments."""
    file.write(_block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, *_VERSION, _WHOLE_LENGTH_UNKNOWN)))
    links: dict[str, int] = {}
    for events in tests:
        for frame, comments in _commented(events):
            if frame.link not in links:
                options = _option(_NAME, frame.link.encode()) + _option(_RESOLUTION, _NANOSECONDS) + _option(0, b"")
                file.write(_block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, _NO_LIMIT) + options))
                links[frame.link] = len(links)
            size = len(frame.raw)
            head = struct.pack("<5I", links[frame.link], frame.t_ns >> 32, frame.t_ns & 0xFFFFFFFF, size, size)
            # (A character that the limit cuts is left out.)
            texts = [text.encode()[:_LONGEST].decode(errors="ignore") for text in comments]
            options = b"".join(_option(_COMMENT, text.encode()) for text in texts)
            file.write(_block(_PACKET, head + _padded(frame.raw) + (options and options + _option(0, b""))))


def _commented(events: Sequence[timeline.Event]) -> Iterator[tuple[Frame, list[str]]]:
    """Yield each frame with the texts of the events before it, the last one with those behind it too."""
    last = max((at for at, event in enumerate(events) if event.frame is not None), default=-1)
    texts: list[str] = []
    for at, event in enumerate(events):
        if event.frame is None:
            texts.append(event.text)
            continue
        if at == last:
            texts += [f"then: {after.text}" for after in events[at + 1 :]]
        yield event.frame, texts
        texts = []


def _of_test(
    directory: Path, seqs: list[int], frames: dict[int, Frame], calls: dict[int, dict[str, Json]]
) -> list[timeline.Event]:
    records = [_record(directory, calls[seq]) for seq in seqs if seq in calls]
    return timeline.events(records, [frames[seq] for seq in seqs if seq in frames])


def _record(directory: Path, line: dict[str, Json]) -> Record:
    """Return a call. Raises CommandError: its line is not as docs/schema.json describes."""
    try:
        return Record.of_json(line)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(directory, "call", line["seq"]) from error


def _frame(directory: Path, line: dict[str, Json]) -> Frame:
    try:
        frame = Frame.of_json(line)
        if 0 <= frame.t_ns < _LATEST:
            return frame
    except (KeyError, TypeError, ValueError):
        pass
    raise _damaged(directory, "frame", line["seq"])


def _damaged(directory: Path, what: str, seq: Json) -> CommandError:
    return CommandError(f"{what} {seq} in {directory} is not as docs/schema.json describes: judge again")


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(value: bytes) -> bytes:
    return value.ljust(-(-len(value) // 4) * 4, b"\0")

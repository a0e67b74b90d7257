"""wire/*.pcapng: the frames that checks rest on, a file for each behaviour, as Wireshark reads them."""

from __future__ import annotations

from array import array
from pathlib import Path

from probes.abi.frame import Frame, ethernet
from probes.errors import CommandError
from probes.report.check import Check, Json
from probes.report.reader import EVIDENCE, evidence_lines

#: More nanoseconds than the time stamp of a packet holds.
_LATEST = 1 << 63


class Frames:
    """Finds the frames of a run by behaviour: add all of its checks, then write."""

    def __init__(self) -> None:
        """Start without a check."""
        #: What the checks of each behaviour rest on: calls too, until the evidence is read.
        self._wanted: dict[str, array[int]] = {}
        self._last = 0

    def add(self, check: Check) -> None:
        """Take the evidence of a check."""
        if check.seq:
            self._wanted.setdefault(check.key.id, array("Q")).extend(check.seq)
            self._last = max(self._last, *check.seq)

    def write(self, directory: Path) -> list[Path]:
        """Write the files into DIRECTORY/wire, none if no frame was kept, and return them.

        Times are those of the calls in the evidence: seconds of CLOCK_MONOTONIC. Raises CommandError: the evidence is
        damaged, or ends before what the last check rests on.
        """
        frames, last = {}, 0
        for line in evidence_lines(directory):
            last = max(last, line["seq"])
            if line["type"] == "frame":
                frames[line["seq"]] = _frame(directory, line)
        if last < self._last:
            raise CommandError(f"{directory / EVIDENCE} is cut off: it ends before seq {self._last}; judge again")
        if not frames:
            return []
        # Imported here: it is slow, and few runs of a few checks need it.
        dissect = ethernet()
        from scapy.utils import PcapNgWriter

        (directory / "wire").mkdir(exist_ok=True)
        written = []
        for id, numbers in sorted(self._wanted.items()):
            wanted = sorted(seq for seq in set(numbers) if seq in frames)
            if not wanted:
                continue
            path = directory / "wire" / f"{id}.pcapng"
            with PcapNgWriter(str(path)) as writer:
                for seq in wanted:
                    packet = dissect(frames[seq].raw)
                    packet.time = frames[seq].t_ns / 1e9
                    writer.write(packet)
            written.append(path)
        return written


def _frame(directory: Path, line: dict[str, Json]) -> Frame:
    try:
        frame = Frame.of_json(line)
        if 0 <= frame.t_ns < _LATEST:
            return frame
    except (KeyError, TypeError, ValueError):
        pass
    raise CommandError(f"frame {line['seq']} in {directory} is not as docs/schema.json describes: judge again")

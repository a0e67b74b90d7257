"""Packs the lines that one test adds to the files of a run, in the process that judged it.

Each test is a member of its own of both gzip files (RFC 1952, 2.2), so the process that joins them copies bytes.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from probes.report.check import Check, Json
from probes.report.judged_test import JudgedTest, Segment

#: zlib's fastest: it packs a run to a tenth, for less time than writing it unpacked takes.
_LEVEL = 1
#: zlib's name for a gzip header and trailer around the data.
_GZIP = 31
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
#: More lines of evidence than the memory of a test holds: the `seq` of line 3 of test 17 is 170000003 in every run.
_LINES = 10_000_000


class Packed(NamedTuple):
    """Holds the bytes that a test adds to the results and to the evidence."""

    results: bytes
    evidence: bytes


def test_of(seq: int) -> int:
    """Return the number of the test whose evidence has this `seq`."""
    return (seq - 1) // _LINES


def member(lines: Iterable[Mapping[str, Json]]) -> bytes:
    """Return JSON lines as one gzip member, no bytes for no lines."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    parts = [packer.compress(f"{_ENCODER.encode(line)}\n".encode("utf-8", "backslashreplace")) for line in lines]
    return b"".join(parts) + packer.flush() if parts else b""


def pack(judged: JudgedTest, number: int, everything: bool) -> Packed:
    """Pack the checks and the evidence of a test; here, and only here, evidence gets its `seq`.

    `number` is the test's in its run, from 1. Without `everything`, only the evidence of checks that are not as expected
    is kept.
    """
    kept = [check for check in judged.checks if everything or check.unexpected]
    positions = range(len(judged.evidence)) if everything else sorted({at for check in kept for at in check.rests_on})
    base = number * _LINES + 1
    return Packed(
        member(_check_lines(judged, base, everything)),
        member({**judged.evidence[at], "seq": base + at} for at in positions),
    )


def _check_lines(judged: JudgedTest, base: int, everything: bool) -> Iterable[Mapping[str, Json]]:
    seconds = judged.seconds
    for check in judged.checks:
        seq = [base + at for at in check.rests_on] if everything or check.unexpected else []
        yield {"type": "check", **replace(check, seq=seq, rests_on=[], seconds=seconds).as_json()}
        seconds = None


def brief(judged: JudgedTest, segment: Segment | None) -> JudgedTest:
    """Return of a test what counting it and naming causes takes: values and evidence only of what is not as expected."""
    wanted = sorted({at for check in judged.checks if check.unexpected for at in check.rests_on})
    place = {at: position for position, at in enumerate(wanted)}
    checks = [_brief_of(check, place) for check in judged.checks]
    return replace(judged, checks=checks, evidence=[judged.evidence[at] for at in wanted], segment=segment)


def _brief_of(check: Check, place: Mapping[int, int]) -> Check:
    if check.verdict == "conforms":
        return Check(check.key, check.verdict)
    return replace(check, rests_on=[place[at] for at in check.rests_on] if check.unexpected else [])


@dataclass(frozen=True)
class Scratch:
    """Is a file without a name, in which a worker writes what its tests add, and from which another process reads it.

    It is made before the worker is forked, and vanishes with the processes that have it open.
    """

    descriptor: int

    @classmethod
    def within(cls, directory: Path) -> Scratch:
        """Make one on the file system of a directory. Raises OSError."""
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            return cls(os.dup(file.fileno()))

    def put(self, packed: Packed) -> Segment:
        """Append, and return where it lies. Raises OSError."""
        start = os.lseek(self.descriptor, 0, os.SEEK_END)
        data = memoryview(packed.results + packed.evidence)
        while data:
            data = data[os.write(self.descriptor, data) :]
        return Segment(self.descriptor, start, len(packed.results), len(packed.evidence))

    def close(self) -> None:
        """Close it in this process."""
        os.close(self.descriptor)


def fetch(segment: Segment) -> Packed:
    """Return what a worker wrote. Raises OSError."""
    data = b""
    size = segment.results + segment.evidence
    while len(data) < size:
        more = os.pread(segment.descriptor, size - len(data), segment.start + len(data))
        if not more:
            raise OSError(0, "the file of a worker is shorter than it said")
        data += more
    return Packed(data[: segment.results], data[segment.results :])

"""Feeds decoders and readers odd bytes and repeats runs, to see that nothing breaks and memory stays flat.

    python -m tools.soak [--calls N] [--captured N] [--lines N] [--runs N] [--seed N]

N calls go through a gate, half of them such that they succeed, and are decoded; N such calls are made by a program under
`socketcall capture`; N lines of the files of a run, damaged, are read; a small run is repeated N times. It prints what was
done, and exits with 1 if something broke.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from probes.abi.decode import decode
from probes.abi.operations import OPERATIONS, Operation
from probes.abi.record import Record
from probes.entry.calls import Calls
from probes.entry.gate import gate
from probes.entry.memory import Memory
from probes.errors import CommandError
from probes.report.reader import read
from tools.command import run

#: Words that meet the limits of arguments.
_WORDS = (0, 1, 2, 3, 5, 6, 10, 16, 17, 0x7F, 0x80, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_SMALL = ("bind.rebind.bound",)


def calls(count: int, chance: random.Random) -> Counter[str]:
    """Make calls with words at random, every second one a socket that is made or closed, and decode each of them.

    They cannot wait: descriptors of sockets that could are never passed.
    """
    entry, found = gate("int80"), Counter[str]()
    direct, names = Calls(entry, "direct", Memory()), list(OPERATIONS.values())
    for number in range(count):
        if number % 2:
            made = int(direct.make("socket", chance.choice((1, 2, 10)), chance.choice((1, 2)), 0))
            found["succeeded" if made >= 0 else "failed"] += 1
            if made >= 0:
                direct.syscall("close", made)
            continue
        operation = chance.choice(names)
        words = _words(operation, chance)
        result = int(entry.enter(operation.direct, *words[: operation.words]))
        found["succeeded" if result >= 0 else "failed"] += 1
        _decode(operation, words, chance)
        if result >= 0 and operation.name == "socket":
            direct.syscall("close", result)
    return found


def _words(operation: Operation, chance: random.Random) -> list[int]:
    """Return argument words: descriptors that are none, pointers to no memory, and everything else at random."""
    words = [chance.choice((*_WORDS, chance.getrandbits(32))) for _ in range(6)]
    if operation.name not in ("socket", "socketpair"):
        words[0] = chance.choice((0xFFFFFFFF, 1 << 20, 0x7FFFFFFF))
    if operation.name == "socketpair":
        words[3] = chance.choice((0, 1, 0xFFFFF000))
    return words


def _decode(operation: Operation, words: list[int], chance: random.Random) -> None:
    """Decode words with memory of any content and length under every name that is fetched."""
    names = {name for _, name, _ in (*operation.entry, *operation.exit)}
    before, after = ({name: chance.randbytes(chance.randrange(80)) for name in names} for _ in range(2))
    result = chance.choice((None, 0, 1, 5, -9, -4095))
    json.dumps(decode(operation, tuple(words[: operation.words]), before, after, result, chance.choice((32, 64))))


def captured(count: int, seed: int, directory: Path) -> Counter[str]:
    """Make so many calls at random in a program under `capture`, and read what it wrote: each call, none twice.

    Raises CommandError: a call is missing, or the program or the capture failed.
    """
    file = directory / "captured.jsonl"
    program = f"import random; from tools.soak import calls; calls({count}, random.Random({seed}))"
    capture = [sys.executable, "-m", "probes.cli", "capture", "--format", "jsonl", "-o", str(file), "--"]
    done = subprocess.run([*capture, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(
            f"the program under capture ended with status {done.returncode}: {done.stderr.strip()[-200:]}"
        )
    found, last = Counter[str](), 0
    with file.open() as text:
        for line in map(json.loads, text):
            if line["type"] == "call":
                Record.of_json(line)
                found["succeeded" if line["ret"] >= 0 else "failed"] += 1
                if line["seq"] <= last:
                    raise CommandError(f"call {line['seq']} stands behind call {last} in a capture")
                last = line["seq"]
    if found.total() != count:
        raise CommandError(f"{found.total()} of {count} calls were captured")
    return found


def lines(count: int, chance: random.Random, report: Path) -> Counter[str]:
    """Read a run of which bytes were changed, taken out or put in: each is read, or refused in one line."""
    found, original = Counter[str](), _plain(report / "results.jsonl.gz")
    records = [json.loads(line) for line in _plain(report / "evidence.jsonl.gz").splitlines()]
    target = report / "damaged.jsonl"
    for _ in range(count):
        target.write_bytes(_damaged(original, chance))
        try:
            read(target)
            found["read"] += 1
        except CommandError as error:
            if "\n" in str(error):
                raise
            found["refused"] += 1
    for line in records:
        if line["type"] == "call":
            Record.of_json(line)
    return found


def _plain(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


def _damaged(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged))
        kind = chance.randrange(4)
        if kind == 0:
            damaged[at] = chance.randrange(256)
        elif kind == 1:
            del damaged[at : at + chance.randrange(1, 200)]
        elif kind == 2:
            damaged[at:at] = chance.randbytes(chance.randrange(1, 20))
        else:
            del damaged[at:]
        if not damaged:
            return b""
    return bytes(damaged)


def _check(report: Path) -> None:
    command = [sys.executable, "-m", "probes.cli", "check", *_SMALL, "-n", "1", "--report", str(report)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)


def runs(count: int, report: Path) -> Iterator[int]:
    """Repeat a small run, and yield the greatest resident set among those so far, in kB."""
    for _ in range(count):
        _check(report)
        yield resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main(arguments: list[str]) -> int:
    """Does it all, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=(__doc__ or "").partition("\n")[0])
    for name, default in (("calls", 1000000), ("captured", 100000), ("lines", 10000), ("runs", 20), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args(arguments)
    chance, began = random.Random(args.seed), time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = calls(args.calls, chance)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{args.calls} calls: {dict(found)}, {grown} kB more", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report"
        under = captured(args.captured, args.seed, Path(directory))
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"{args.captured} calls under capture: {dict(under)}, the greatest resident set {largest} kB", flush=True)
        sizes = list(runs(max(args.runs, 1), report))
        print(
            f"{len(sizes)} runs: the greatest resident set {sizes[0]} kB after the first, {sizes[-1]} kB after the last"
        )
        print(
            f"{args.lines} damaged results: {dict(lines(args.lines, chance, report))}, {time.monotonic() - began:.0f} s"
        )
    return 0


if __name__ == "__main__":
    run(main)

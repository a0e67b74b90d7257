"""Fetches the memory that a call points to, at its entry and at its exit.

Source: the prototypes of socket(2), bind(2), …, poll(2), ioctl(2), fcntl(2); net/socket.c for what is read and written.
"""

from __future__ import annotations

from collections.abc import Sequence

from probes.abi.arguments.fetcher import EVIDENCE, Ask, Fetcher, Limits, Reader
from probes.abi.operations import Operation

__all__ = ["Reader", "fetch"]


def fetch(
    operation: Operation,
    words: Sequence[int],
    read: Reader,
    ret: int | None,
    word: int,
    limits: Limits = EVIDENCE,
    ask: Ask | None = None,
) -> dict[str, bytes]:
    """Fetch the blobs a call points to: with `ret` None those it will read, else those it wrote if `ret` is no error.

    Called while the caller is stopped. `read(address, size)` gives up to size bytes, fewer where memory ends; it is
    never asked for NULL, nor for more than the limits. A blob that could not be read is not there. `word`
    64 is a native x86-64 call; every other call, of whatever process, has the i386 layouts. `ask` finds out
    whether data is messages of netlink.
    """
    steps = operation.entry if ret is None else operation.exit
    if not steps or (ret is not None and ret < 0):
        return {}
    count = len(words)
    for index, _, _ in steps:  # cheap: where every pointer is NULL there is nothing to fetch
        if index < count and words[index]:
            break
    else:
        return {}
    fetcher = Fetcher(words, read, ret, word, limits, ask)
    for index, name, step in steps:
        step(fetcher, name, index)
    return fetcher.blobs

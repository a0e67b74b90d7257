"""Judges the control messages that options request, one by one and together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from probes.testing.expect import Expect
from probes.testing.prepared import Prepared
from tests.transfer.control_messages import Messages


def judge_requested(
    end: Prepared,
    option: Callable[[int, int, int], object],
    messages: Messages,
    expect: Expect,
    requested: Mapping[str, tuple[int, bytes]],
) -> None:
    """Judges what a datagram to `end.fd` comes with: nothing, the message of each option, and all in their order.

    `option(fd, number, value)` sets an option; `requested` has its number and its message, by the name of the case.
    """
    together = b"".join(message for _, message in requested.values())
    numbers = [number for number, _ in requested.values()]
    cases = {name: ([number], message) for name, (number, message) in requested.items()}
    for case, (on, expected) in {"none": ([], b""), **cases, "all": (numbers, together)}.items():
        check = expect([1, b"x", expected, 0], options=case)
        for number in on:
            option(end.fd, number, 1)
        messages.sent(end.peer)
        got = messages.receive(end.fd)
        check.of(got.value, got.result)
        for number in on:
            option(end.fd, number, 0)

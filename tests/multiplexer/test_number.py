"""Tests the number of the operation, in ebx: 1 to 20, and all other values.

The kernel compares the number, as a signed one, with the first and the last operation: the numbers next to those, around the
powers of two and a sample tell a wrong comparison (width, sign, mask) from a right one.
"""

from errno import EAFNOSUPPORT, EBADF, EINVAL

import pytest

from probes.abi.operations import BY_CALL, SOCKETCALL
from probes.entry.memory import Memory
from probes.entry.sweep import Sweep
from probes.testing import behaviour
from probes.testing.ranges import around_powers

pytestmark = pytest.mark.routes("socketcall")

SOURCE = "socketcall(2) EINVAL; net/socket.c and net/compat.c `if (call < SYS_SOCKET || call > SYS_SENDMMSG)`"
#: The powers of two and their neighbours, as 32-bit words.
BAD = sorted(({value & 0xFFFFFFFF for value in around_powers()} | {21, 22}) - set(BY_CALL))


@pytest.fixture(params=["words", "null", "unmapped", "last-byte", "top"])
def pointer(request: pytest.FixtureRequest, memory: Memory) -> int:
    """Pointers to argument words, valid and not."""
    return {
        "words": lambda: memory.words(-1, 0, 0, 0, 0, 0).address,
        "null": lambda: 0,
        "unmapped": memory.unmapped,
        "last-byte": lambda: memory.guarded(1).address,
        "top": lambda: 0xFFFFFFFF,
    }[request.param]()


@behaviour("multiplexer.number.out-of-range", f"{SOURCE}; S1 compat_sys_socketcall; S4 1.5")
def test_out_of_range(the_gate, pointer, expect):
    """A call number outside 1 to 20 fails with EINVAL, whatever the pointer: the range check comes before the copy."""
    check = expect([-EINVAL] * len(BAD), calls="around-powers-of-two")
    results = [the_gate.enter(SOCKETCALL, number, pointer) for number in BAD]
    check.of(results, *results)


@behaviour("multiplexer.number.random", f"{SOURCE}; S1 compat_sys_socketcall")
def test_random_numbers(the_gate, pointer, seeded, expect):
    """Call numbers outside 1 to 20, drawn at random, fail with EINVAL."""
    numbers = []
    while len(numbers) < 200:
        number = seeded.getrandbits(32)
        if number not in BY_CALL:
            numbers.append(number)
    check = expect([-EINVAL] * len(numbers), drawn=len(numbers))
    results = [the_gate.enter(SOCKETCALL, number, pointer) for number in numbers]
    check.of(results, *results)


@behaviour("multiplexer.number.first-million", f"{SOURCE}; S1 compat_sys_socketcall")
def test_first_million(calls, ranges, expect):
    """The 65,536 call numbers that follow the last operation, and a sample of the million, fail with EINVAL."""
    sweep = Sweep(calls)
    sweep.raw(SOCKETCALL, sweep.value, 0, judged=True)
    sample = ranges.sample((21 + 65536, 1_000_020))
    expect(-EINVAL, calls="21..65556+sample").of(sweep.run([*range(21, 21 + 65536), *sample]))


@behaviour("multiplexer.number.in-range", "socketcall(2) call; include/uapi/linux/net.h SYS_SOCKET…; S1 nas")
def test_in_range(the_gate, memory, expect):
    """Each call number from 1 to 20 reaches its operation: with descriptor -1 all fail with EBADF, except socket
    and socketpair, which fail with EAFNOSUPPORT for family -1.
    """
    words = memory.words(-1, 0, 0, memory.alloc(8), 0, 0)
    for number, operation in BY_CALL.items():
        error = EAFNOSUPPORT if operation.arguments[0].name == "family" else EBADF
        expect(-error, call=number).of(the_gate.enter(SOCKETCALL, number, words.address))

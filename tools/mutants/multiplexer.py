"""Wrong multiplexers and entries: how system call 102 reads its number and its words, and what comes back in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EFAULT, EINVAL

from probes.abi.operations import SOCKETCALL
from probes.trace.actions import Action, Return
from probes.trace.injection import Match
from probes.trace.stop import ARGUMENTS, LOW, WORD, Stop
from probes.trace.traced_call import register_index
from tools.mutants.mutant import Mutant

_TOP = 0x80000000
_EVERY = ("entry.*", "multiplexer.*")
#: Names of argument words that are pointers.
_POINTERS = ("addr", "addrlen", "buf", "msg", "msgvec", "optval", "optlen", "sv")


def _array(stop: Stop) -> int:
    return stop.call.args_ptr or 0


def _number(stop: Stop) -> int:
    return stop.register(ARGUMENTS[0]) & LOW


def _words(stop: Stop) -> int:
    return stop.call.operation.words if stop.call.operation else 0


def _readable(stop: Stop, size: int) -> bool:
    return len(stop.read(_array(stop), size)) == size


def _written(stop: Stop) -> bool:
    """Change the first word of the array, as a kernel that stores into it would."""
    stop.write(_array(stop), WORD.pack(stop.word(0) ^ 1))
    return True


def _lost(register: str) -> Action:
    """Return an action that comes back with another value of a register."""
    index = register_index(register)

    def change(stop: Stop) -> bool:
        stop.set_register(index, stop.register(index) ^ 1)
        return True

    return change


#: Name, outcome, calls that are wrong, what they return.
_ARRAYS: list[tuple[str, str | int, Callable[[Stop], bool], int]] = [
    ("reads 24 bytes for every operation", "success", lambda stop: not _readable(stop, 24), -EFAULT),
    ("reads one word more", "success", lambda stop: not _readable(stop, 4 * _words(stop) + 4), -EFAULT),
    ("reads one word less", -EFAULT, lambda stop: _short_by_one(stop), 0),
    ("needs an aligned array", "success", lambda stop: _array(stop) & 3 != 0, -EFAULT),
    ("needs an array below 2 GiB", "success", lambda stop: _array(stop) >= _TOP, -EFAULT),
    ("extends the sign of pointers", "success", lambda stop: _high_pointer(stop), -EFAULT),
]
_NUMBERS: list[tuple[str, str | int, Callable[[Stop], bool], int]] = [
    ("takes the low 8 bits of the number", -EINVAL, lambda stop: 1 <= _number(stop) & 0xFF <= 20, -EFAULT),
    ("takes the low 16 bits of the number", -EINVAL, lambda stop: 1 <= _number(stop) & 0xFFFF <= 20, -EFAULT),
    ("compares the number signed", -EINVAL, lambda stop: _number(stop) >= _TOP, -EFAULT),
    ("has an operation 0", -EINVAL, lambda stop: _number(stop) == 0, -EFAULT),
    ("has an operation 21", -EINVAL, lambda stop: _number(stop) == 21, -EFAULT),
    ("copies before the range check", -EINVAL, lambda stop: not _readable(stop, 4), -EFAULT),
]


def _short_by_one(stop: Stop) -> bool:
    return _readable(stop, 4 * _words(stop) - 4) and not _readable(stop, 4 * _words(stop))


def _high_pointer(stop: Stop) -> bool:
    arguments = stop.call.operation.arguments if stop.call.operation else ()
    return any(
        argument.name in _POINTERS and index < len(stop.call.args) and stop.word(index) >= _TOP
        for index, argument in enumerate(arguments)
    )


def mutants() -> Iterator[Mutant]:
    """Yield the mutants of the multiplexer, then those of registers."""
    for known, table in ((True, _ARRAYS), (False, _NUMBERS)):
        for name, outcome, wrong, result in table:
            match = Match(route="socketcall", outcome=outcome, where=_only(known, wrong))
            yield Mutant(
                "B", f"B multiplexer {name}", "multiplexer", "multiplexer", None, match, exit=Return(result),
                behaviours=_EVERY, folder="multiplexer",
            )  # fmt: skip
    match = Match(route="socketcall", outcome="success", where=lambda stop: bool(stop.call.args))
    yield Mutant(
        "B", "B multiplexer writes the array", "multiplexer", "multiplexer", None, match, exit=_written,
        behaviours=_EVERY, folder="multiplexer",
    )  # fmt: skip
    for register in ("bx", "cx", "dx", "si", "di", "bp"):
        yield Mutant(
            "B", f"B entry loses e{register}", "entry", "register lost", None, Match(), exit=_lost(register),
            behaviours=_EVERY, folder="multiplexer",
        )  # fmt: skip


def _only(known: bool, wrong: Callable[[Stop], bool]) -> Callable[[Stop], bool]:
    """Return the condition for calls of system call 102 with a known operation, or with none."""
    return lambda stop: stop.call.nr == SOCKETCALL and (stop.call.operation is not None) == known and wrong(stop)

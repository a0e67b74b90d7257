"""Messages that a sandbox sends to its parent: one dataclass each, JSON on the channel.

A message is what the sandbox observed; verdicts are given outside, by probes.plugin.verdicts. The parent does not trust
what it reads: a test may have written anything to the channel's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from probes.abi.frame import Frame
from probes.abi.note import completed
from probes.abi.record import Record
from probes.report.check import Json, Range
from probes.sandbox import untrusted


@dataclass(frozen=True)
class Announced:
    """A check announced before the calls that it judges. `number`: calls with a higher number come after it."""

    number: int
    case: str
    expected: Json
    difference: dict[str, Json] | None = None


@dataclass(frozen=True)
class Judged:
    """The value to hold against what was announced under `number`, and what it rests on.

    `calls` are the numbers of the calls in the order given, `frames` those of frames sent before. With `record_field` the
    value is that field of the calls' records, which only the parent has. `noted` holds the gate's own notes of the
    calls where no tracer watches. `in_order`: the value has an item for each frame, among which the parent puts the begins
    and ends of the calls.
    """

    number: int
    actual: Json
    calls: Sequence[int]
    frames: Sequence[int] = ()
    record_field: str = ""
    range: Range | None = None
    noted: Sequence[Record] = field(default_factory=tuple)
    in_order: bool = False


@dataclass(frozen=True)
class FrameSeen:
    """A frame that a check rests on, sent once."""

    frame: Frame


@dataclass(frozen=True)
class Report:
    """A pytest report, serialised by pytest_report_to_serializable."""

    data: dict[str, Json]


#: The phases of a test, as pytest names them.
PHASES: tuple[Literal["setup", "call", "teardown"], ...] = ("setup", "call", "teardown")


@dataclass(frozen=True)
class Passed:
    """Stands for the reports of a test whose phases passed and have nothing to report: start and stop of each phase."""

    times: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Broke:
    """The test failed through no answer of the implementation: why."""

    why: str


@dataclass(frozen=True)
class SetUpRefused:
    """The implementation refused a documented call on which the set-up rests: the call, its error, what it was for."""

    call: int
    error: int
    why: str
    noted: Sequence[Record] = field(default_factory=tuple)


@dataclass(frozen=True)
class NoAnswer:
    """A call ended the process that made it, which no tracer watches, or did not return: the call, how, why."""

    call: int
    how: str
    why: str
    noted: Sequence[Record] = field(default_factory=tuple)


@dataclass(frozen=True)
class NotApplicable:
    """The test judges nothing here: what is missing."""

    missing: str


@dataclass(frozen=True)
class SandboxFailed:
    """The sandbox could not be completed, so the test did not run: why."""

    why: str


@dataclass(frozen=True)
class MachineLost:
    """The machine that makes the calls stopped answering during the test: why. Sent by no sandbox."""

    why: str


@dataclass(frozen=True)
class Finished:
    """The test ran to its end."""


Message = (
    Announced
    | Judged
    | FrameSeen
    | Report
    | Passed
    | Broke
    | SetUpRefused
    | NoAnswer
    | NotApplicable
    | SandboxFailed
    | MachineLost
    | Finished
)
_TYPES: Mapping[str, type[Message]] = {one.__name__: one for one in get_args(Message)}


def to_json(message: Message) -> dict[str, Json]:
    """Return the JSON object of a message: its class under `is`, its fields by name."""
    fields: dict[str, Any] = dict(message.__dict__)
    if isinstance(message, FrameSeen):
        fields["frame"] = message.frame.as_json()
    elif isinstance(message, Judged):
        fields["range"] = message.range.as_json() if message.range else None
    if isinstance(message, Judged | SetUpRefused | NoAnswer):
        fields["noted"] = [record.as_json() for record in message.noted]
    return {"is": type(message).__name__, **fields}


def of_json(line: Json) -> Message:
    """Return the message of a JSON object, whose sender is not trusted. Raises ValueError for one that is none."""
    try:
        message = _message(line)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no message has these fields: {error!r}") from error
    untrusted.require(message)
    if isinstance(message, Announced):
        untrusted.require_case(message.case)
    if isinstance(message, Judged | SetUpRefused | NoAnswer):
        return replace(message, noted=[completed(record) for record in message.noted])
    return message


def _message(line: dict[str, Json]) -> Message:
    fields = {name: value for name, value in line.items() if name != "is"}
    kind = _TYPES[line["is"]]
    if kind is FrameSeen:
        return FrameSeen(Frame.of_json(fields["frame"]))
    if kind is Judged:
        fields["range"] = Range(**fields["range"]) if fields["range"] else None
    if kind in (Judged, SetUpRefused, NoAnswer):
        fields["noted"] = [Record.of_json(record) for record in fields["noted"]]
    return kind(**fields)

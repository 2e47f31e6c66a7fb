"""Runs the steps over one event, and says of each in a word what it did."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from datafly_lite.configuration import Attachment, Pipeline
from datafly_lite.events import DropReason, Event, Record
from datafly_lite.processor.steps import DATA_LAYER, INTEGRATION, Inputs

OK = "ok"
CHANGED = "changed"
DROP = "drop:"


class Fanout(msgspec.Struct, frozen=True):
    """What the integration's own steps say of one attachment."""

    attachment: Attachment
    reason: DropReason | None
    steps: str


class Processed(msgspec.Struct, frozen=True):
    """An event after its steps. `steps` has a word a step: `put_page:changed put_identity:ok`."""

    record: Record
    event: Event | None
    inputs: Inputs
    reason: DropReason | None
    steps: str
    fanouts: tuple[Fanout, ...]


class Passed(msgspec.Struct, frozen=True):
    """One step that ran: its name and its outcome `ok`, `changed` or `drop:<reason>`."""

    name: str
    outcome: str


def process(record: Record, inputs: Inputs, pipeline: Pipeline | None) -> Processed:
    """All steps, then each integration's. Pure: the same arguments give the same result."""
    if record.event is None:
        return unreadable(record, inputs, "read")
    event = msgspec.structs.replace(record.event)
    passed = list(data_layer(event, record, inputs))
    reason = _reason(passed)
    attachments = pipeline.attachments if pipeline is not None and reason is None else ()
    fanouts = tuple(_fanout(event, one) for one in attachments if one.enabled)
    return Processed(record, event, inputs, reason, words(passed), fanouts)


def unreadable(record: Record, inputs: Inputs, where: str) -> Processed:
    """The event stays in the log and goes nowhere; `where` says what could not be done with it."""
    return Processed(record, None, inputs, DropReason.SCHEMA, f"{where}:{DROP}{DropReason.SCHEMA}", ())


def data_layer(event: Event, record: Record, inputs: Inputs) -> Iterator[Passed]:
    """Run the data layer's steps on `event`, in place, up to the first drop."""
    for step in DATA_LAYER:
        result = step(event, record.envelope, inputs)
        yield _passed(step.__name__, result)
        if isinstance(result, DropReason):
            return


def integration(event: Event, attachment: Attachment) -> Iterator[Passed]:
    """Run one integration's steps, up to the first drop."""
    for step in INTEGRATION:
        result = step(event, attachment)
        yield _passed(step.__name__, result)
        if isinstance(result, DropReason):
            return


def words(passed: list[Passed]) -> str:
    """What the store keeps of the steps."""
    return " ".join(f"{one.name}:{one.outcome}" for one in passed)


def _fanout(event: Event, attachment: Attachment) -> Fanout:
    passed = list(integration(event, attachment))
    return Fanout(attachment, _reason(passed), words(passed))


def _passed(name: str, result: bool | DropReason) -> Passed:
    if isinstance(result, DropReason):
        return Passed(name, DROP + result)
    return Passed(name, CHANGED if result else OK)


def _reason(passed: list[Passed]) -> DropReason | None:
    last = passed[-1].outcome if passed else OK
    return DropReason(last.removeprefix(DROP)) if last.startswith(DROP) else None

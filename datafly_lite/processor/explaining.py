"""A trace is recomputed, not stored (design.md, 4.15).

The log keeps the raw bytes, the steps' inputs from state and one word a step. Here the steps run
again over a copy, and what each of them changed is the difference before and after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.events import Event, Record
from datafly_lite.processor.runner import Passed, data_layer, integration
from datafly_lite.processor.steps import Inputs
from datafly_lite.store import Store, events, message_ids, raw_events
from datafly_lite.trace import AttemptTrace, Change, DeliveryTrace, StepTrace, Trace

decode_inputs = msgspec.json.Decoder(Inputs).decode

RecordOf = Callable[[int, str, bytes, bytes], Record]
"""(offset, pipeline_id, envelope, raw) -> the record, as the log reads its rows."""


class Rows(msgspec.Struct, frozen=True):
    """What the store has of one event."""

    raw: sqlite3.Row
    event: sqlite3.Row | None
    deliveries: list[tuple[sqlite3.Row, list[sqlite3.Row]]]


class Tracer:
    """Finds an event by its messageId and explains it."""

    def __init__(self, store: Store, configuration: LiveConfiguration, record_of: RecordOf) -> None:
        self._store = store
        self._configuration = configuration
        self._record_of = record_of

    async def trace(self, pipeline_id: str, message_id: str) -> Trace | None:
        """The whole way of an event; None where there is no such event."""
        rows = await self._store.read(_rows, pipeline_id, message_id)
        return None if rows is None else self._explain(rows)

    def _explain(self, rows: Rows) -> Trace:
        raw, row = rows.raw, rows.event
        record = self._record_of(raw["offset"], raw["pipeline_id"], raw["envelope"], raw["raw"])
        recorded = _recorded(row["steps"] if row else "")
        event = msgspec.structs.replace(record.event) if record.event else None
        inputs = decode_inputs(row["inputs"]) if row else Inputs()
        steps = tuple(_compared(event, data_layer(event, record, inputs), recorded)) if event and row else ()
        return Trace(
            pipeline_id=record.pipeline_id,
            message_id=record.envelope.message_id,
            offset=record.offset,
            received_at=iso(raw["received_at_ms"]),
            raw=record.raw.decode("utf-8", "replace"),
            envelope=msgspec.to_builtins(record.envelope),
            canonical=msgspec.to_builtins(record.event) if record.event else None,
            final=msgspec.json.decode(row["body"]) if row and row["body"] else None,
            processed=row is not None,
            processed_at=iso(row["processed_at_ms"]) if row else None,
            program=row["program"] if row else None,
            recomputed_alike=row is None
            or event is None
            or [one.outcome for one in steps] == list(recorded.values()),
            drop_reason=row["drop_reason"] if row else None,
            steps=steps,
            deliveries=tuple(self._delivery(event, one, attempts) for one, attempts in rows.deliveries),
        )

    def _delivery(self, event: Event | None, row: sqlite3.Row, attempts: list[sqlite3.Row]) -> DeliveryTrace:
        attachment = self._configuration.current.attachments.get(row["pipeline_integration_id"])
        recorded = _recorded(row["steps"])
        if event is not None and attachment is not None:
            steps = tuple(_compared(event, integration(event, attachment), recorded))
        else:  # the integration was detached since: what it did is all that is left to say
            steps = tuple(StepTrace(name, outcome, outcome, ()) for name, outcome in recorded.items())
        return DeliveryTrace(
            delivery_id=row["id"],
            pipeline_integration_id=row["pipeline_integration_id"],
            integration_name=row["integration_name"] or "(detached)",
            vendor=row["vendor"] or "",
            status=row["status"],
            reason=row["reason"],
            attempts=row["attempts"],
            next_attempt_at=iso(row["next_attempt_at_ms"]) if row["status"] == "pending" else None,
            steps=steps,
            history=tuple(map(_attempt, attempts)),
        )


def _rows(connection: sqlite3.Connection, pipeline_id: str, message_id: str) -> Rows | None:
    offset = message_ids.find(connection, pipeline_id, message_id)
    raw = raw_events.at(connection, offset) if offset is not None else None
    if raw is None:
        return None
    deliveries = events.deliveries_of(connection, raw["offset"])
    attempts = [events.attempts_of(connection, one["id"]) for one in deliveries]
    return Rows(raw, events.at(connection, raw["offset"]), list(zip(deliveries, attempts, strict=True)))


def _recorded(steps: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in steps.split())


def _compared(event: Event, running: Iterator[Passed], recorded: Mapping[str, str]) -> Iterator[StepTrace]:
    """Let the steps run on, and look at the event before and after each."""
    before = msgspec.to_builtins(event)
    for passed in running:
        after = msgspec.to_builtins(event)
        yield StepTrace(
            passed.name, passed.outcome, recorded.get(passed.name), tuple(differences(before, after))
        )
        before = after


def differences(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """Each leaf that differs; None stands for absent."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif before != after:
        yield Change(path, before, after)


def _attempt(row: sqlite3.Row) -> AttemptTrace:
    return AttemptTrace(
        attempt=row["attempt"],
        at=iso(row["at_ms"]),
        duration_ms=row["duration_ms"],
        verdict=row["verdict"],
        status=row["status"],
        error=row["error"],
        request=msgspec.json.decode(row["request"]),
        response=msgspec.json.decode(row["response"]) if row["response"] else None,
    )

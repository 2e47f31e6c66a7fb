"""A trace is recomputed, not stored (design.md, 4.15).

The log keeps the raw bytes, the steps' inputs from state and one word a step. Here the steps run
again over a copy, and what each of them changed is the difference before and after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec

from datafly_lite import scripting
from datafly_lite.clock import iso
from datafly_lite.configuration import LiveConfiguration, rules_of
from datafly_lite.engine import Draft
from datafly_lite.events import Record
from datafly_lite.processor.passage import Inputs, Passage
from datafly_lite.processor.runner import Passed, data_layer, integration, passage_of
from datafly_lite.store import Store, configuration, data_layers, events, message_ids, raw_events
from datafly_lite.trace import AttemptTrace, Change, ConsentChange, DeliveryTrace, StepTrace, Trace

decode_inputs = msgspec.json.Decoder(Inputs).decode

RecordOf = Callable[[int, str, bytes, bytes], Record]
"""(offset, pipeline_id, envelope, raw) -> the record, as the log reads its rows."""


class DeliveryRows(NamedTuple):
    """One delivery, its attempts, and its attachment as it was; None where that is gone."""

    delivery: sqlite3.Row
    attempts: list[sqlite3.Row]
    attachment: sqlite3.Row | None


class Rows(NamedTuple):
    """What the store has of one event. `rules` are rows of the data layer and the consent settings."""

    raw: sqlite3.Row
    event: sqlite3.Row | None
    rules: tuple[sqlite3.Row | None, sqlite3.Row | None]
    consent_change: sqlite3.Row | None
    deliveries: list[DeliveryRows]


class Tracer:
    """Finds an event by its messageId and explains it."""

    def __init__(self, store: Store, live: LiveConfiguration, record_of: RecordOf) -> None:
        self._store = store
        self._live = live
        self._record_of = record_of

    async def trace(self, pipeline_id: str, message_id: str) -> Trace | None:
        """The whole way of an event; None where there is no such event."""
        rows = await self._store.read(_rows, pipeline_id, message_id)
        if rows is None:
            return None
        with scripting.asking(scripting.TRIALS):
            # In a thread: a script of the user's may be on the way.
            return await anyio.to_thread.run_sync(self._explain, rows)

    def _explain(self, rows: Rows) -> Trace:
        raw, row = rows.raw, rows.event
        record = self._record_of(raw["offset"], raw["pipeline_id"], raw["envelope"], raw["raw"])
        recorded = _recorded(row["steps"] if row else "")
        passage = _passage(record, row, rows.rules)
        steps = tuple(_compared(data_layer(passage), recorded, lambda: passage.event)) if passage else ()
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
            recomputed_alike=passage is None or [one.outcome for one in steps] == list(recorded.values()),
            drop_reason=row["drop_reason"] if row else None,
            detail=row["detail"] if row else None,
            data_layer_version=row["data_layer_version"] if row else None,
            consent_settings_version=row["consent_settings_version"] if row else None,
            inputs=msgspec.json.decode(row["inputs"]) if row else {},
            consent_change=_consent_change(rows.consent_change),
            steps=steps,
            deliveries=tuple(self._delivery(passage, one) for one in rows.deliveries),
        )

    def _delivery(self, passage: Passage | None, rows: DeliveryRows) -> DeliveryTrace:
        row = rows.delivery
        return DeliveryTrace(
            delivery_id=row["id"],
            pipeline_integration_id=row["pipeline_integration_id"],
            integration_name=row["integration_name"] or "(detached)",
            vendor=row["vendor"] or "",
            revision_id=row["revision_id"],
            revision_number=row["revision_number"],
            status=row["status"],
            reason=row["reason"],
            detail=row["detail"],
            attempts=row["attempts"],
            next_attempt_at=iso(row["next_attempt_at_ms"]) if row["status"] == "pending" else None,
            steps=tuple(self._steps(passage, rows)),
            history=tuple(map(_attempt, rows.attempts)),
        )

    def _steps(self, passage: Passage | None, rows: DeliveryRows) -> Iterator[StepTrace]:
        recorded = _recorded(rows.delivery["steps"])
        if passage is None or rows.attachment is None:  # what it did is all that is left to say
            return (StepTrace(name, outcome, outcome, ()) for name, outcome in recorded.items())
        draft = Draft(event=msgspec.structs.replace(passage.event))
        running = integration(passage, self._live.attachment_of(rows.attachment), draft)
        steps = _compared(running, recorded, lambda: {"event": draft.event, "payload": draft.payload})
        # From its first script on they run when the delivery is made, and leave no word before that.
        return (msgspec.structs.replace(one, recorded=one.recorded or one.outcome) for one in steps)


def _rows(connection: sqlite3.Connection, pipeline_id: str, message_id: str) -> Rows | None:
    offset = message_ids.find(connection, pipeline_id, message_id)
    raw = raw_events.at(connection, offset) if offset is not None else None
    if raw is None:
        return None
    event = events.at(connection, raw["offset"])
    return Rows(
        raw,
        event,
        _rules_rows(connection, event),
        events.consent_change_of(connection, raw["offset"]),
        [_delivery_rows(connection, one) for one in events.deliveries_of(connection, raw["offset"])],
    )


def _rules_rows(
    connection: sqlite3.Connection, event: sqlite3.Row | None
) -> tuple[sqlite3.Row | None, sqlite3.Row | None]:
    if event is None:
        return None, None
    return (
        data_layers.at(connection, "data_layers", event["data_layer_version"]),
        data_layers.at(connection, "consent_settings", event["consent_settings_version"]),
    )


def _delivery_rows(connection: sqlite3.Connection, delivery: sqlite3.Row) -> DeliveryRows:
    return DeliveryRows(
        delivery,
        events.attempts_of(connection, delivery["id"]),
        configuration.attachment(connection, delivery["pipeline_integration_id"], delivery["revision_id"]),
    )


def _passage(
    record: Record, row: sqlite3.Row | None, rules: tuple[sqlite3.Row | None, sqlite3.Row | None]
) -> Passage | None:
    if record.event is None or row is None:
        return None
    return passage_of(record, record.event, decode_inputs(row["inputs"]), rules_of(*rules))


def _consent_change(row: sqlite3.Row | None) -> ConsentChange | None:
    if row is None:
        return None
    return ConsentChange(
        before=msgspec.json.decode(row["choices_before"]),
        after=msgspec.json.decode(row["choices"]),
        cancelled_deliveries=row["cancelled_deliveries"],
    )


def _recorded(steps: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in steps.split())


def _compared(
    running: Iterator[Passed], recorded: Mapping[str, str], watched: Callable[[], Any]
) -> Iterator[StepTrace]:
    """Let the steps run on, and look at what is watched before and after each."""
    before = msgspec.to_builtins(watched())
    for passed in running:
        after = msgspec.to_builtins(watched())
        changes = tuple(differences(before, after))
        yield StepTrace(passed.name, passed.outcome, recorded.get(passed.name), changes, passed.detail)
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

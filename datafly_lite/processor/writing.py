"""From processed events to the rows of one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from datafly_lite import __version__
from datafly_lite.events import DeliveryStatus, encode_event
from datafly_lite.identity import Known, is_user_id
from datafly_lite.processor.runner import Fanout, Processed
from datafly_lite.store.events import Changes, DeliveryRow, EventRow, IdentityRow, LinkRow

encode_inputs = msgspec.json.Encoder().encode


def changes_of(
    batch: Sequence[Processed], before: Mapping[str, Known], after: Mapping[str, Known], now_ms: int
) -> Changes:
    """All that the batch changes, the offset of its last event included."""
    return Changes(
        offset=batch[-1].record.offset,
        events=[_event(done, now_ms) for done in batch],
        deliveries=[_delivery(done, one, now_ms) for done in batch for one in done.fanouts],
        identities=[
            IdentityRow(visitor, known.user_id, known.group_id, now_ms, now_ms)
            for visitor, known in after.items()
            if known != before.get(visitor, Known())
        ],
        links=[link for done in batch if (link := _link(done, now_ms))],
    )


def _event(done: Processed, now_ms: int) -> EventRow:
    record, event = done.record, done.event
    return EventRow(
        offset=record.offset,
        pipeline_id=record.pipeline_id,
        message_id=record.envelope.message_id,
        type=event.type if event else record.envelope.type or "unknown",
        event=(event.event or event.name) if event else None,
        anonymous_id=event.anonymous_id if event else record.envelope.anonymous_id,
        user_id=event.user_id if event else None,
        received_at_ms=record.envelope.received_at_ms,
        processed_at_ms=now_ms,
        drop_reason=done.reason,
        steps=done.steps,
        inputs=encode_inputs(done.inputs).decode(),
        program=__version__,
        body=encode_event(event) if event else b"",
    )


def _delivery(done: Processed, fanout: Fanout, now_ms: int) -> DeliveryRow:
    is_dropped = fanout.reason is not None
    return DeliveryRow(
        offset=done.record.offset,
        pipeline_id=done.record.pipeline_id,
        pipeline_integration_id=fanout.attachment.id,
        status=DeliveryStatus.DROPPED if is_dropped else DeliveryStatus.PENDING,
        reason=fanout.reason,
        next_attempt_at_ms=now_ms,
        created_at_ms=now_ms,
        finished_at_ms=now_ms if is_dropped else None,
        steps=fanout.steps,
    )


def _link(done: Processed, now_ms: int) -> LinkRow | None:
    """The event that made a link is kept with it, so that the link can be explained and undone."""
    event = done.event
    if event is None or event.type != "identify" or not event.anonymous_id or not event.user_id:
        return None
    if done.inputs.known.user_id == event.user_id or not is_user_id(event.user_id):
        return None
    return LinkRow(event.anonymous_id, event.user_id, done.record.offset, now_ms)

"""From processed events to the rows of one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from datafly_lite import __version__, consent
from datafly_lite.configuration import Attachment
from datafly_lite.events import DeliveryStatus, encode_event
from datafly_lite.processor.runner import Fanout, Processed
from datafly_lite.processor.state import State, Visitor, visitor_of
from datafly_lite.store.events import Changes, ConsentChangeRow, DeliveryRow, EventRow
from datafly_lite.store.visitors import IdentityRow, LinkRow, ProfileRow, SessionRow, VisitorChanges

encode = msgspec.json.Encoder().encode


def changes_of(
    batch: Sequence[Processed],
    before: State,
    after: State,
    attachments: Mapping[str, Attachment],
    now_ms: int,
) -> Changes:
    """All that the batch changes, the offset of its last event included.

    `attachments` are all there are, of which a withdrawal of consent cancels what waits.
    """
    return Changes(
        offset=batch[-1].record.offset,
        events=[_event(done, now_ms) for done in batch],
        deliveries=[_delivery(done, one, now_ms) for done in batch for one in done.fanouts],
        visitors=_visitors(before, after),
        consent_changes=[change for done in batch for change in _consent_change(done, attachments)],
        processed_at_ms=now_ms,
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
        detail=done.detail or None,
        steps=done.steps,
        data_layer_version=done.rules.data_layer_version,
        consent_settings_version=done.rules.consent_version,
        inputs=_text(done.inputs),
        program=__version__,
        body=encode_event(event) if event else b"",
    )


def _delivery(done: Processed, fanout: Fanout, now_ms: int) -> DeliveryRow:
    is_dropped = fanout.reason is not None
    return DeliveryRow(
        offset=done.record.offset,
        pipeline_id=done.record.pipeline_id,
        pipeline_integration_id=fanout.attachment.id,
        revision_id=fanout.attachment.revision_id,
        anonymous_id=visitor_of(done.record),
        status=DeliveryStatus.DROPPED if is_dropped else DeliveryStatus.PENDING,
        reason=fanout.reason,
        detail=fanout.detail or None,
        next_attempt_at_ms=now_ms,
        created_at_ms=now_ms,
        finished_at_ms=now_ms if is_dropped else None,
        steps=fanout.steps,
    )


def _visitors(before: State, after: State) -> VisitorChanges:
    return VisitorChanges(
        identities=[
            _identity(anonymous_id, one)
            for anonymous_id, one in after.visitors.items()
            if one is not before.visitors.get(anonymous_id)
        ],
        links=[LinkRow(*link) for link in after.links],
        profiles=[
            ProfileRow(*key, _text(one.traits), _text(one.set_at_ms))
            for key, one in after.profiles.items()
            if one is not before.profiles.get(key)
        ],
        sessions=[
            SessionRow(
                *key, one.id, one.number, one.started_at_ms, one.last_at_ms, one.ends_at_ms, one.has_start
            )
            for key, one in after.sessions.items()
            if one is not before.sessions.get(key)
        ],
        keys=[(digest, *one) for digest, one in after.keys.items() if one is not before.keys.get(digest)],
    )


def _identity(anonymous_id: str, visitor: Visitor) -> IdentityRow:
    known = visitor.known
    return IdentityRow(
        anonymous_id,
        known.user_id,
        known.linked_at_ms,
        known.group_id,
        _text(known.vendor_ids),
        _text(visitor.consent),
        visitor.first_seen_at_ms,
        visitor.last_seen_at_ms,
    )


def _consent_change(done: Processed, attachments: Mapping[str, Attachment]) -> Iterator[ConsentChangeRow]:
    """The audit of consent; with each withdrawal go the attachments that may no longer send for it."""
    passage = done.passage
    visitor = visitor_of(done.record)
    if passage is None or not visitor:
        return
    before, after = passage.inputs.consent, passage.consent
    if before.choices == after.choices:
        return
    withdrawn = consent.withdrawn(before, after)
    yield ConsentChangeRow(
        offset=done.record.offset,
        pipeline_id=done.record.pipeline_id,
        anonymous_id=visitor,
        choices_before=_text(before.choices),
        choices=_text(after.choices),
        at_ms=passage.at_ms,
        withdrawn=", ".join(sorted(withdrawn)),
        attachment_ids=tuple(_silenced(after, attachments)) if withdrawn else (),
    )


def _silenced(after: consent.State, attachments: Mapping[str, Attachment]) -> Iterator[str]:
    """Who may no longer send for the visitor."""
    for one in attachments.values():
        if consent.refused(after.choices, one.consent_categories):
            yield one.id


def _text(value: object) -> str:
    return encode(value).decode()

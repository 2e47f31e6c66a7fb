"""Datafly's own wire format (seed 000), which Segment's one-letter paths share.

`/v1/t`, `/v1/p`, `/v1/i`, `/v1/g` carry one event, `/v1/batch` carries `{"batch": [event, …]}`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event, EventType
from datafly_lite.gateway import bodies
from datafly_lite.gateway.dialect import Dialect, Item, Limits, Reading
from datafly_lite.gateway.timestamps import settled

MAX_NAME_CHARS = 200
MAX_ID_CHARS = 255

Identifier = str | int | None


class Wire(msgspec.Struct, rename="camel"):
    """One event as clients send it. Python SDKs send explicit nulls for what they do not have."""

    type: EventType | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    user_id: Identifier = None
    anonymous_id: Identifier = None
    group_id: Identifier = None
    previous_id: Identifier = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    timestamp: str | float | None = None
    original_timestamp: str | float | None = None
    sent_at: str | None = None
    message_id: str | None = None
    write_key: str | None = None


ABSENT = msgspec.Raw(b"null")


class Batch(msgspec.Struct, rename="camel"):
    """Events that share a request; each part is decoded for itself, so that one bad event hurts no other."""

    batch: list[msgspec.Raw]
    write_key: str | None = None
    sent_at: str | None = None
    context: msgspec.Raw = ABSENT
    integrations: msgspec.Raw = ABSENT


decode_wire = msgspec.json.Decoder(Wire, strict=True).decode
decode_batch = msgspec.json.Decoder(Batch, strict=True).decode
decode_shared = msgspec.json.Decoder(dict[str, Any] | None).decode


def normalise(envelope: Envelope, wire: Wire) -> Event:
    """The canonical event. Raises Refused `invalid_payload`, naming the field and what it needs."""
    kind = _type(envelope, wire)
    _check(kind, wire)
    original = wire.timestamp if wire.timestamp is not None else wire.original_timestamp
    sent_at = wire.sent_at or envelope.sent_at
    return Event(
        type=kind,
        message_id=envelope.message_id,
        timestamp=settled(original, sent_at, envelope.received_at_ms),
        received_at=iso(envelope.received_at_ms),
        original_timestamp=None if original is None else str(original),
        sent_at=sent_at,
        event=wire.event or None,
        name=wire.name or None,
        category=wire.category or None,
        user_id=bodies.text(wire.user_id),
        anonymous_id=envelope.anonymous_id,
        group_id=bodies.text(wire.group_id),
        previous_id=bodies.text(wire.previous_id),
        properties=wire.properties or {},
        traits=wire.traits or {},
        context=_merged(envelope, "context", wire.context),
        integrations=_merged(envelope, "integrations", wire.integrations),
    )


def _merged(envelope: Envelope, name: str, own: dict[str, Any] | None) -> dict[str, Any]:
    """What the batch says for all, under what the event says for itself (wire-formats.md, 2.4)."""
    shared = envelope.shared.get(name) if envelope.shared else None
    return {**shared, **(own or {})} if shared else own or {}


def _type(envelope: Envelope, wire: Wire) -> EventType:
    if envelope.type and wire.type and envelope.type != wire.type:
        raise Refused("invalid_payload", f"type is {wire.type!r}, but this path takes {envelope.type!r}")
    kind = wire.type or envelope.type
    if kind is None:
        raise Refused("invalid_payload", "type is required: track, page, identify, group, screen or alias")
    return kind  # type: ignore[return-value]  # an envelope's type comes from PATHS


def _check(kind: str, wire: Wire) -> None:
    if kind == "track" and not wire.event:
        raise Refused("invalid_payload", "event is required for type track: the name of what happened")
    if kind == "identify" and bodies.text(wire.user_id) is None:
        raise Refused("invalid_payload", "userId is required for type identify")
    if kind == "group" and bodies.text(wire.group_id) is None:
        raise Refused("invalid_payload", "groupId is required for type group")
    _check_length("event", wire.event, MAX_NAME_CHARS)
    for name, value in (
        ("messageId", wire.message_id),
        ("userId", wire.user_id),
        ("anonymousId", wire.anonymous_id),
        ("groupId", wire.group_id),
    ):
        _check_length(name, value, MAX_ID_CHARS)


def _check_length(name: str, value: Identifier, most: int) -> None:
    text = bodies.text(value) or ""
    if len(text) > most:
        raise Refused("invalid_payload", f"{name} has {len(text):,} characters, at most {most} are taken")


def read(body: bytes, kind: str | None, limits: Limits) -> Reading:
    """What a request holds. `kind` is the path's event type; None on the batch paths."""
    return _read_batch(body, limits) if kind is None else _read_one(body, limits)


def _read_one(body: bytes, limits: Limits) -> Reading:
    wire, repaired = bodies.decode(decode_wire, body, limits.max_depth)
    return Reading(write_key=wire.write_key, items=[_item(body, wire, repaired)])


def _read_batch(body: bytes, limits: Limits) -> Reading:
    batch, repaired = bodies.decode(decode_batch, body, None)
    if len(batch.batch) > limits.max_batch_events:
        raise Refused(
            "batch_too_large",
            f"{len(batch.batch):,} events in one batch, at most {limits.max_batch_events:,} are taken",
        )
    shared = {
        name: bodies.decode(decode_shared, bytes(raw), limits.max_depth)[0]
        for name, raw in (("context", batch.context), ("integrations", batch.integrations))
    }
    items = [_item_of_batch(bytes(raw), repaired, limits) for raw in batch.batch]
    return Reading(
        write_key=batch.write_key
        or next((item.wire.write_key for item in items if isinstance(item, Item)), None),
        items=items,
        is_batch=True,
        sent_at=batch.sent_at,
        shared={name: value for name, value in shared.items() if value},
        shared_size_bytes=len(bytes(batch.context)) + len(bytes(batch.integrations)),
    )


def _item_of_batch(raw: bytes, repaired: bool, limits: Limits) -> Item | Refused:
    try:
        wire, mended = bodies.decode(decode_wire, raw, limits.max_depth)
        return _item(raw, wire, repaired or mended)
    except Refused as refused:
        return refused


def _item(raw: bytes, wire: Wire, repaired: bool) -> Item:
    return Item(raw, wire, bodies.text(wire.message_id), bodies.text(wire.anonymous_id), repaired)


def event_of(envelope: Envelope, raw: bytes, limits: Limits) -> Event:
    """Decode what the log kept: the same bytes and envelope give the same event."""
    wire, _ = bodies.decode(decode_wire, raw, limits.max_depth)
    return normalise(envelope, wire)


DATAFLY = Dialect(
    name="datafly",
    paths={
        "/v1/t": "track",
        "/v1/p": "page",
        "/v1/i": "identify",
        "/v1/g": "group",
        "/v1/batch": None,
    },
    read=read,
    normalise=normalise,
    event_of=event_of,
)

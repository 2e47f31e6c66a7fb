"""Datafly's own wire format (seed 000), which Segment's, Dreamdata's and RudderStack's SDKs share.

`/v1/t`, `/v1/p`, `/v1/i`, `/v1/g` carry one event, `/v1/batch` carries `{"batch": [event, …]}`, and
`/v1/events` one event of any type with a signature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from datafly_lite.clock import iso
from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event, EventType
from datafly_lite.gateway import bodies
from datafly_lite.gateway.dialect import BATCH, Dialect, Item, Limits, Reading, Request
from datafly_lite.gateway.timestamps import parse_ms, settled

MAX_NAME_CHARS = 200
MAX_ID_CHARS = 255
MAX_TIME_CHARS = 40

Identifier = str | int | None
Time = str | int | float | None


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
    timestamp: Time = None
    original_timestamp: Time = None
    sent_at: Time = None
    message_id: str | None = None
    write_key: str | None = None
    challenge_token: str | None = None


class Complete(Wire, forbid_unknown_fields=True, rename="camel"):
    """An event that has no field beside these: most have none, and then nothing has to look for any."""


class Decoded(NamedTuple):
    """An event and the root fields that Wire has no name for."""

    wire: Wire
    unknown: dict[str, Any] = {}  # noqa: RUF012 - a default that is only read


ABSENT = msgspec.Raw(b"null")
KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(Wire))


class Batch(msgspec.Struct, rename="camel"):
    """Events that share a request; each part is decoded for itself, so that one bad event hurts no other."""

    batch: list[msgspec.Raw]
    write_key: str | None = None
    challenge_token: str | None = None
    sent_at: Time = None
    context: msgspec.Raw = ABSENT
    integrations: msgspec.Raw = ABSENT


class CompleteBatch(Batch, forbid_unknown_fields=True, rename="camel"):
    """A batch that has no field beside these."""


KNOWN_OF_BATCH = frozenset(field.encode_name for field in msgspec.structs.fields(Batch))

decode_complete = msgspec.json.Decoder(Complete).decode
decode_wire = msgspec.json.Decoder(Wire).decode
decode_root = msgspec.json.Decoder(dict[str, Any]).decode
decode_plain_batch = msgspec.json.Decoder(Batch).decode
decode_complete_batch = msgspec.json.Decoder(CompleteBatch).decode
decode_raw_root = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_shared = msgspec.json.Decoder(dict[str, Any] | None).decode


def decode_event(body: bytes) -> Decoded:
    """Raises what msgspec raises."""
    try:
        return Decoded(decode_complete(body))
    except msgspec.ValidationError:
        wire, root = decode_wire(body), decode_root(body)
    return Decoded(wire, {name: value for name, value in root.items() if name not in KNOWN})


def decode_batch(body: bytes) -> tuple[Batch, dict[str, msgspec.Raw]]:
    """The batch and the root fields that it has no name for. Raises what msgspec raises."""
    try:
        return decode_complete_batch(body), {}
    except msgspec.ValidationError:
        batch, root = decode_plain_batch(body), decode_raw_root(body)
    return batch, {name: value for name, value in root.items() if name not in KNOWN_OF_BATCH}


def normalise(envelope: Envelope, decoded: Decoded) -> Event:
    """The canonical event. Raises Refused `invalid_payload`, naming the field and what it needs."""
    wire = decoded.wire
    kind = _type(envelope, wire)
    _check(kind, wire)
    original = _time(wire)
    sent_at = bodies.text(wire.sent_at) or envelope.sent_at
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
        original=_original(envelope, decoded),
    )


def _time(wire: Wire) -> Time:
    """`timestamp`, unless it is none and `originalTimestamp` is one."""
    other = wire.original_timestamp
    if other is None or parse_ms(wire.timestamp) is not None:
        return wire.timestamp
    return other if wire.timestamp is None or parse_ms(other) is not None else wire.timestamp


def _original(envelope: Envelope, decoded: Decoded) -> dict[str, Any]:
    """What has no name here, and what the client said where the product goes by something else."""
    wire, found = decoded.wire, decoded.unknown
    if wire.message_id and wire.message_id != envelope.message_id:
        found = {**found, "messageId": wire.message_id}
    if _is_given(wire.anonymous_id) and str(wire.anonymous_id) != envelope.anonymous_id:
        found = {**found, "anonymousId": wire.anonymous_id}
    if wire.timestamp is not None and wire.original_timestamp is not None:
        found = {**found, **_other_time(wire)}
    if "batch" in envelope.shared:
        found = {**found, "batch": envelope.shared["batch"]}
    return found


def _other_time(wire: Wire) -> dict[str, Any]:
    times = {"timestamp": wire.timestamp, "originalTimestamp": wire.original_timestamp}
    del times["timestamp" if _time(wire) is wire.timestamp else "originalTimestamp"]
    return {name: value for name, value in times.items() if value != ""}


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
    missing = REQUIRED[kind](wire) if kind in REQUIRED else None
    if missing:
        raise Refused("invalid_payload", f"{missing} required for type {kind}")
    if wire.event is not None and len(wire.event) > MAX_NAME_CHARS:
        raise _too_long("event", len(wire.event), MAX_NAME_CHARS)
    for name, value in (
        ("messageId", wire.message_id),
        ("userId", wire.user_id),
        ("anonymousId", wire.anonymous_id),
        ("groupId", wire.group_id),
        ("previousId", wire.previous_id),
    ):
        if value is not None and len(str(value)) > MAX_ID_CHARS:
            raise _too_long(name, len(str(value)), MAX_ID_CHARS)


def _missing_in_identify(wire: Wire) -> str | None:
    """Segment's browser SDK sends the traits of people who are not logged in with an anonymousId alone."""
    return None if _is_given(wire.user_id) or _is_given(wire.anonymous_id) else "userId is"


def _missing_in_alias(wire: Wire) -> str | None:
    is_whole = _is_given(wire.user_id) and (_is_given(wire.previous_id) or _is_given(wire.anonymous_id))
    return None if is_whole else "userId and previousId are"


REQUIRED: dict[str, Callable[[Wire], str | None]] = {
    "track": lambda wire: None if wire.event else "event, the name of what happened, is",
    "identify": _missing_in_identify,
    "group": lambda wire: None if _is_given(wire.group_id) else "groupId is",
    "alias": _missing_in_alias,
}
"""Type -> what an event lacks, in words."""


def _is_given(value: Identifier) -> bool:
    return value is not None and value != ""


def _too_long(name: str, chars: int, most: int) -> Refused:
    return Refused("invalid_payload", f"{name} has {chars:,} characters, at most {most} are taken")


def read(request: Request) -> Reading:
    """What a request holds."""
    header = request.headers.get(b"sentat", b"")  # RudderStack's browser SDK (wire-formats.md, 2.6)
    sent_at = header.decode("latin-1") if 0 < len(header) <= MAX_TIME_CHARS else None
    if request.kind == BATCH:
        return _read_batch(request.body, request.limits, sent_at)
    bodies.check_size(len(request.body), request.limits.max_event_size_bytes)
    decoded, repaired = bodies.decode(decode_event, request.body, request.limits.max_depth)
    return Reading(
        write_key=decoded.wire.write_key,
        items=[item(request.body, decoded, repaired)],
        sent_at=sent_at,
        challenge_token=decoded.wire.challenge_token,
    )


def _read_batch(body: bytes, limits: Limits, sent_at: str | None) -> Reading:
    (batch, unknown), repaired = bodies.decode(decode_batch, body, None)
    if len(batch.batch) > limits.max_batch_events:
        raise Refused(
            "batch_too_large",
            f"{len(batch.batch):,} events in one batch, at most {limits.max_batch_events:,} are taken",
        )
    shared = _shared(batch, unknown, limits)
    items = [_item_of_batch(bytes(raw), repaired, limits) for raw in batch.batch]
    return Reading(
        write_key=batch.write_key or _first(items, "write_key"),
        items=items,
        sent_at=bodies.text(batch.sent_at) or sent_at,
        challenge_token=batch.challenge_token or _first(items, "challenge_token"),
        shared=shared,
        shared_size_bytes=sum(
            len(bytes(raw)) for raw in (batch.context, batch.integrations, *unknown.values())
        ),
    )


def _shared(batch: Batch, unknown: dict[str, msgspec.Raw], limits: Limits) -> dict[str, Any]:
    """What is said once for all: `context`, `integrations`, and as `batch` the unknown root fields."""

    def decoded(decoder: Callable[[bytes], Any], raw: msgspec.Raw) -> Any:
        return bodies.decode(decoder, bytes(raw), limits.max_depth)[0]

    shared = {
        "context": decoded(decode_shared, batch.context),
        "integrations": decoded(decode_shared, batch.integrations),
        "batch": {name: decoded(msgspec.json.decode, raw) for name, raw in unknown.items()},
    }
    return {name: value for name, value in shared.items() if value}


def _first(items: list[Item | Refused], name: str) -> str | None:
    """Of the batch's first event that can be read (wire-formats.md, section 0 rule 3)."""
    return next((getattr(one.wire.wire, name) for one in items if isinstance(one, Item)), None)


def _item_of_batch(raw: bytes, repaired: bool, limits: Limits) -> Item | Refused:
    try:
        bodies.check_size(len(raw), limits.max_event_size_bytes)
        decoded, mended = bodies.decode(decode_event, raw, limits.max_depth)
        return item(raw, decoded, repaired or mended)
    except Refused as refused:
        refused.body = raw
        return refused


def item(raw: bytes, decoded: Decoded, repaired: bool = False) -> Item:
    """The event with what the door must know of it."""
    wire = decoded.wire
    return Item(raw, decoded, bodies.text(wire.message_id), bodies.text(wire.anonymous_id), repaired)


def event_of(envelope: Envelope, raw: bytes, limits: Limits) -> Event:
    """Decode what the log kept: the same bytes and envelope give the same event."""
    decoded, _ = bodies.decode(decode_event, raw, limits.max_depth)
    return normalise(envelope, decoded)


DATAFLY = Dialect(
    name="datafly",
    paths={
        "/v1/t": "track",
        "/v1/p": "page",
        "/v1/i": "identify",
        "/v1/g": "group",
        "/v1/batch": BATCH,
    },
    read=read,
    normalise=normalise,
    event_of=event_of,
    knows_by_cookie=True,
)

DATAFLY_SERVER = msgspec.structs.replace(
    DATAFLY,
    name="datafly_server",
    paths={"/v1/events": None},
    authentication="signature",
    knows_by_cookie=False,
)
"""Events of the pipeline's own servers, signed with its secret (spec/datafly-signal.md, 3.2)."""

"""Inbound webhooks, POST /v1/webhook?source=wh_… (spec/datafly-signal.md, 3.5).

Stripe and Shopify send one object a request, HubSpot an array of them; each becomes an event. What it
becomes is said by the source's mapping: it goes into `shared` with the headers that count, so that the
log gives the same event again when the mapping is another. The whole body stays in `original`.

A vendor retries with the same id, which makes its messageId:

- Stripe: `$.id` of the event; `$.created` is in seconds (docs.stripe.com/api/events/object).
- Shopify: X-Shopify-Webhook-Id. X-Shopify-Event-Id is one for all the webhooks of different topics that
  one action causes, so it does only together with the topic (shopify.dev/docs/apps/build/webhooks).
- HubSpot: `eventId` is not promised to be unique, so what it is about and when stand beside it
  (developers.hubspot.com/docs/api/webhooks); `attemptNumber` changes with each attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import msgspec

from datafly_lite.clock import iso
from datafly_lite.configuration import WebhookSource
from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event, EventType
from datafly_lite.gateway import bodies
from datafly_lite.gateway.datafly import MAX_ID_CHARS, MAX_NAME_CHARS
from datafly_lite.gateway.dialect import Dialect, Item, Limits, Reading, Request
from datafly_lite.gateway.timestamps import settled
from datafly_lite.jsonpaths import Budget, parse

Body = dict[str, Any]
Found = Mapping[str, list[Any]]
"""Canonical path -> what the mapping's expression selects."""

EVENT_TYPE = "event_type_path"
SHOPIFY_HEADERS = {
    "topic": b"x-shopify-topic",
    "webhook_id": b"x-shopify-webhook-id",
    "event_id": b"x-shopify-event-id",
    "triggered_at": b"x-shopify-triggered-at",
    "shop": b"x-shopify-shop-domain",
}
HUBSPOT_ID = ("eventId", "subscriptionId", "objectId", "occurredAt")
TYPES = frozenset(get_args(EventType))
NEEDS = {"identify": "userId", "group": "groupId"}
"""A type that says nothing without this field; then the event is a track."""

EARLIEST_MS = 100_000_000_000
"""A smaller number of a time is in seconds: as milliseconds it would lie before March 1973."""
MAX_TIME_DIGITS = 16
MAX_SHARED_BYTES = 16_384

decode_body = msgspec.json.Decoder(Body).decode
decode_bodies = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Wire(NamedTuple):
    """One webhook, and what the mapping found in it."""

    body: Body
    found: Found


# ── Reading ──────────────────────────────────────────────────────────────────────────────────


def read(request: Request) -> Reading:
    """An object is one event, an array one for each of its objects."""
    if request.source is None:
        raise Refused("invalid_key", "a webhook needs its source: ?source=wh_…")
    shared = _shared(request.source, request.headers)
    if request.body.removeprefix(bodies.UTF8_BOM).lstrip()[:1] == b"[":
        items = _items(request.body, shared, request.limits)
    else:
        items = [_item(request.body, shared, request.limits, repaired=False)]
    return Reading(
        write_key=None, items=items, shared=shared, shared_size_bytes=len(msgspec.json.encode(shared))
    )


def _shared(source: WebhookSource, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    names = SHOPIFY_HEADERS if source.source_type == "shopify" else {}
    head = {
        name: headers[header].decode("latin-1")[:MAX_ID_CHARS]
        for name, header in names.items()
        if header in headers
    }
    return {
        "source_id": source.id,
        "source_type": source.source_type,
        "mappings": {**source.mappings, EVENT_TYPE: source.event_type_path},
        "head": head,
    }


def _items(body: bytes, shared: dict[str, Any], limits: Limits) -> list[Item | Refused]:
    raws, repaired = bodies.decode(decode_bodies, body, None)
    if len(raws) > limits.max_batch_events:
        raise Refused(
            "batch_too_large",
            f"{len(raws):,} webhooks in one request, at most {limits.max_batch_events:,} are taken",
        )
    return [_item_of_many(bytes(raw), shared, limits, repaired=repaired) for raw in raws]


def _item_of_many(raw: bytes, shared: dict[str, Any], limits: Limits, *, repaired: bool) -> Item | Refused:
    try:
        return _item(raw, shared, limits, repaired=repaired)
    except Refused as refused:
        return Refused(refused.code, refused.message, body=raw)


def _item(raw: bytes, shared: dict[str, Any], limits: Limits, *, repaired: bool) -> Item:
    wire, mended = _wire(raw, shared, limits)
    anonymous_id = _identifier(wire.found.get("anonymousId", []))
    return Item(raw, wire, _message_id(shared, wire), anonymous_id, repaired or mended)


def _wire(raw: bytes, shared: dict[str, Any], limits: Limits) -> tuple[Wire, bool]:
    body, mended = bodies.decode(decode_body, raw, limits.max_depth)
    budget = Budget(len(raw))
    try:
        found = {path: parse(text).find(body, budget) for path, text in shared["mappings"].items() if text}
    except ValueError as error:
        raise Refused("invalid_payload", f"the source's mapping: {error}") from None
    return Wire(body, found), mended


# ── The event ────────────────────────────────────────────────────────────────────────────────


def normalise(envelope: Envelope, wire: Wire) -> Event:
    """The canonical event. What the mapping finds nothing for, or nothing of use, is left out."""
    shared, found = envelope.shared, wire.found
    kind = _type(found)
    original = _time(_given_time(shared, wire))
    return Event(
        type=kind,
        message_id=envelope.message_id,
        timestamp=settled(original, None, envelope.received_at_ms),
        received_at=iso(envelope.received_at_ms),
        original_timestamp=None if original is None else str(original),
        event=_event_name(shared, found) if kind == "track" else None,
        name=_name(found.get("name", [])),
        user_id=_identifier(found.get("userId", [])),
        anonymous_id=envelope.anonymous_id,
        group_id=_identifier(found.get("groupId", [])),
        previous_id=_identifier(found.get("previousId", [])),
        properties=_object("properties", found),
        traits=_object("traits", found),
        context={"webhook": _origin(shared), **_object("context", found)},
        original=wire.body,
    )


def _type(found: Found) -> EventType:
    kind = next(iter(found.get("type", [])), None)
    if not isinstance(kind, str) or kind not in TYPES:
        return "track"
    needed = NEEDS.get(kind)
    if needed and _identifier(found.get(needed, [])) is None:
        return "track"
    return kind  # type: ignore[return-value]  # one of TYPES


def _event_name(shared: Mapping[str, Any], found: Found) -> str:
    """An event without any name is still one: it gets the name of what sent it."""
    return (
        _name(found.get("event", []))
        or _name(found.get(EVENT_TYPE, []))
        or _name([shared["head"].get("topic")])
        or f"{shared['source_type']} webhook"
    )


def _origin(shared: Mapping[str, Any]) -> dict[str, str]:
    head = {name: shared["head"][name] for name in ("topic", "shop") if name in shared["head"]}
    return {"source_id": shared["source_id"], "source_type": shared["source_type"], **head}


def _name(values: list[Any]) -> str | None:
    """A name that is too long is cut: the whole one stands in `original`."""
    text = _text(values)
    return text[:MAX_NAME_CHARS] if text else None


def _identifier(values: list[Any]) -> str | None:
    """Half an identifier would be somebody else's."""
    text = _text(values)
    return text if text and len(text) <= MAX_ID_CHARS else None


def _text(values: list[Any]) -> str | None:
    """The first that is a text or a number."""
    usable = (one for one in values if isinstance(one, str | int | float) and not isinstance(one, bool))
    return next((text for one in usable if (text := str(one).strip())), None)


def _object(root: str, found: Found) -> dict[str, Any]:
    """`properties.a.b` -> `{"a": {"b": value}}`; `properties` alone is the whole object, if it is one."""
    made: dict[str, Any] = {}
    inside = [path for path in found if found[path] and (path == root or path.startswith(f"{root}."))]
    for path in sorted(inside, key=lambda one: one.count(".")):
        values = found[path]
        value = values[0] if len(values) == 1 else values
        if path != root:
            _put(made, path.split(".")[1:], value)
        elif isinstance(value, dict):
            made.update(value)
    return made


def _put(made: dict[str, Any], path: list[str], value: Any) -> None:
    """Objects on the way are copied: they may be the body's own."""
    for name in path[:-1]:
        inner = made.get(name)
        made[name] = made = dict(inner) if isinstance(inner, dict) else {}
    made[path[-1]] = value


# ── What vendors say beside the mapping ──────────────────────────────────────────────────────


def _message_id(shared: Mapping[str, Any], wire: Wire) -> str | None:
    """The vendor's id below the source's, so that those of two sources never meet."""
    given = _text(wire.found.get("messageId", [])) or _vendor_id(shared, wire.body)
    if not given:
        return None
    whole = f"{shared['source_id']}:{given}"
    return whole if len(whole) <= MAX_ID_CHARS else f"{shared['source_id']}:{_digest(given)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _vendor_id(shared: Mapping[str, Any], body: Body) -> str | None:
    head = shared["head"]
    if shared["source_type"] == "stripe":
        return _text([body.get("id")])
    if shared["source_type"] == "shopify":
        if "event_id" in head and "webhook_id" not in head:
            return f"{head.get('topic', '')}:{head['event_id']}"
        return head.get("webhook_id") or None
    if shared["source_type"] == "hubspot" and _text([body.get("eventId")]):
        return ":".join(_text([body.get(name)]) or "" for name in HUBSPOT_ID)
    return None


def _given_time(shared: Mapping[str, Any], wire: Wire) -> Any:
    if wire.found.get("timestamp"):
        return wire.found["timestamp"][0]
    body, kind = wire.body, shared["source_type"]
    if kind == "stripe":
        return body.get("created")
    if kind == "hubspot":
        return body.get("occurredAt")
    if kind == "shopify":
        return shared["head"].get("triggered_at") or body.get("updated_at") or body.get("created_at")
    return None


def _time(value: Any) -> str | int | None:
    """ISO 8601 as it is, a number in milliseconds; anything else is no time."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_TIME_DIGITS:
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * 1000 if abs(value) < EARLIEST_MS else value)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS else None


# ── The dialect ──────────────────────────────────────────────────────────────────────────────


def event_of(envelope: Envelope, raw: bytes, limits: Limits) -> Event:
    """Decode what the log kept: the same bytes and envelope give the same event."""
    return normalise(envelope, _wire(raw, envelope.shared, limits)[0])


def _own_limits(limits: Limits) -> Limits:
    """A vendor's event is as large as it is: an order of a hundred lines has more than 64 KB."""
    return limits._replace(max_event_size_bytes=limits.max_body_size_bytes + MAX_SHARED_BYTES)


WEBHOOK = Dialect(
    name="webhook",
    paths={"/v1/webhook": None},
    read=read,
    normalise=normalise,
    event_of=event_of,
    authentication="source",
    names_visitor=True,
    limits=_own_limits,
)

"""Commanders Act's HTTP tracking API, versions 1.0 and 2.0, its batch and its pixel (seed 003).

`POST /events` carries one event, `POST /events/batch` carries `{"batch": [event, …]}`, `GET /events` is
the pixel with the event in its query (wire-formats.md, section 1). The web container adds `/cdp` on a
customer's own domain. What an event means is in commanders_act_events.py.

Beyond the documentation: a batch that is a bare list is read as one, and a body of `multipart/form-data`
is read as the JSON in its first part, since a beacon of FormData sends one (captures,
`commandersact-container-transport_beacon-formdata`).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway import bodies, callers, commanders_act_events
from datafly_lite.gateway.commanders_act_events import is_cookieless, message_id, visitor
from datafly_lite.gateway.dialect import BATCH, Dialect, Item, Limits, Reading, Request
from datafly_lite.gateway.query_objects import nested, pairs_of

MAX_EVENT_SIZE_BYTES = 32_768
MAX_BATCH_BODY_SIZE_BYTES = 512_000
"""`32KB` and `500KB`, taken as the larger of what they may mean (wire-formats.md, 1.4)."""

SHARED_PARAMETERS = ("tc_s", "tc_do_not_track")
MAX_SHARED_CHARS = 255
"""What is longer is no site id and no CAID. So little that it is not weighed against an event's 32 KB."""
CAID_COOKIE = re.compile(rb"(?:^|;)\s*CAID=([^;\s]{1,%d})\s*(?:;|$)" % MAX_SHARED_CHARS)
MULTIPART = b"--"


class Batch(msgspec.Struct):
    """Events of one request, each decoded for itself, so that one bad event hurts no other."""

    batch: list[msgspec.Raw]


decode_event = msgspec.json.Decoder(dict[str, Any]).decode
decode_batch = msgspec.json.Decoder(Batch | list[msgspec.Raw]).decode


def limits(of_settings: Limits) -> Limits:
    """The vendor's limits, or the settings' where these are lower."""
    return of_settings._replace(
        max_event_size_bytes=min(of_settings.max_event_size_bytes, MAX_EVENT_SIZE_BYTES),
        max_body_size_bytes=min(of_settings.max_body_size_bytes, MAX_EVENT_SIZE_BYTES),
        max_batch_body_size_bytes=min(of_settings.max_batch_body_size_bytes, MAX_BATCH_BODY_SIZE_BYTES),
    )


def read(request: Request) -> Reading:
    """A POST. Raises Refused `invalid_json` or `invalid_payload`, and `batch_too_large`.

    The key is in the query or a header, never in the body.
    """
    shared = _shared(pairs_of(request.query)[0], request)
    body = _json_of(request.body)
    is_batch = request.kind == BATCH
    items = _items(body, shared, request.limits) if is_batch else [_item(body, shared, request.limits)]
    return Reading(write_key=None, items=items, shared=shared, is_cookieless=is_cookieless(shared))


def _shared(pairs: list[tuple[str, str]], request: Request) -> dict[str, Any]:
    """What the query and the cookie say beside the event; the key is not among it."""
    given = dict(pairs)
    shared = {name: given[name] for name in SHARED_PARAMETERS if given.get(name)}
    found = CAID_COOKIE.search(request.headers.get(b"cookie", b""))
    if found is not None:
        shared["caid"] = found[1].decode("latin-1")
    return {name: value for name, value in shared.items() if len(value) <= MAX_SHARED_CHARS}


def _json_of(body: bytes) -> bytes:
    """The first part of a multipart body; no JSON starts with two hyphens, so no header is asked."""
    if not body.startswith(MULTIPART):
        return body
    boundary = body.partition(b"\r\n")[0].rstrip()
    return body.partition(b"\r\n\r\n")[2].partition(b"\r\n" + boundary)[0]


def _items(body: bytes, shared: dict[str, Any], within: Limits) -> list[Item | Refused]:
    decoded, repaired = bodies.decode(decode_batch, body, None)
    raws = decoded if isinstance(decoded, list) else decoded.batch
    if len(raws) > within.max_batch_events:
        raise Refused(
            "batch_too_large",
            f"{len(raws):,} events in one batch, at most {within.max_batch_events:,} are taken",
        )
    return [_item_of_batch(bytes(raw), shared, within, repaired) for raw in raws]


def _item_of_batch(raw: bytes, shared: dict[str, Any], within: Limits, repaired: bool) -> Item | Refused:
    try:
        item = _item(raw, shared, within)
    except Refused as refused:
        refused.body = raw
        return refused
    return item._replace(repaired=item.repaired or repaired)


def _item(raw: bytes, shared: dict[str, Any], within: Limits) -> Item:
    bodies.check_size(len(raw), within.max_event_size_bytes)
    wire, repaired = bodies.decode(decode_event, raw, within.max_depth)
    return Item(raw, wire, message_id(wire), _visitor(wire, shared), repaired)


def _visitor(wire: dict[str, Any], shared: dict[str, Any]) -> str | None:
    """Whom the event names, else whom the CAID cookie does: not where the page wants no cookies."""
    return visitor(wire) or (None if is_cookieless(shared) else shared.get("caid"))


def event_of(envelope: Envelope, raw: bytes, within: Limits) -> Event:
    """Decode what the log kept: the same bytes and envelope give the same event."""
    wire, _ = bodies.decode(decode_event, raw, within.max_depth)
    return commanders_act_events.normalise(envelope, wire)


def read_pixel(request: Request) -> Reading:
    """A GET: the event in PHP's brackets, or in dots as older pages had it (wire-formats.md, 1.8).

    The key's parameters are cut out of what is kept; all others stay as they were encoded.
    """
    raw = callers.without_keys(request.body)
    pairs, repaired = pairs_of(raw)
    shared = _shared(pairs, request)
    wire = _pixel_object(pairs)
    item = Item(raw, wire, message_id(wire), _visitor(wire, shared), repaired)
    return Reading(write_key=None, items=[item], shared=shared, is_cookieless=is_cookieless(shared))


def _pixel_object(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    return nested(pairs, dots=True)


def normalise_pixel(envelope: Envelope, wire: dict[str, Any]) -> Event:
    """As for a POST. What the query says of the request is no property of the event."""
    return commanders_act_events.normalise(envelope, wire, beside=SHARED_PARAMETERS)


def event_of_pixel(envelope: Envelope, raw: bytes, within: Limits) -> Event:
    """As event_of, from the query without its key."""
    return normalise_pixel(envelope, _pixel_object(pairs_of(raw)[0]))


COMMANDERS_ACT = Dialect(
    name="commanders_act",
    paths={"/events": None, "/events/batch": BATCH, "/cdp/events": None, "/cdp/events/batch": BATCH},
    read=read,
    normalise=commanders_act_events.normalise,
    event_of=event_of,
    names_visitor=True,
    is_lenient=True,
    limits=limits,
)

COMMANDERS_ACT_PIXEL = Dialect(
    name="commanders_act_pixel",
    paths={"/events": None, "/cdp/events": None},
    read=read_pixel,
    normalise=normalise_pixel,
    event_of=event_of_pixel,
    method="GET",
    names_visitor=True,
    knows_by_cookie=True,
    is_lenient=True,
    limits=limits,
)

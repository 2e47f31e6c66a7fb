"""The values that travel: what a client sent, what the log keeps, what a vendor answered."""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec

EventType = Literal["track", "page", "identify", "group", "screen", "alias"]


class Event(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The canonical event (spec/datafly-signal.md, 3.6), in the wire's own camelCase names.

    All timestamps are ISO 8601 strings in UTC with milliseconds.
    `original_timestamp` is what the client claimed, `timestamp` what the product goes by.
    """

    type: EventType
    message_id: str
    timestamp: str
    received_at: str
    original_timestamp: str | None = None
    sent_at: str | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    group_id: str | None = None
    previous_id: str | None = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    context: dict[str, Any] = {}
    integrations: dict[str, Any] = {}
    original: dict[str, Any] = {}
    """What the client said that has no other place here, so that nothing of it is lost: unknown root
    fields of a Datafly or Segment event, the whole body of a Commanders Act event or a webhook."""
    vendor_ids: dict[str, str] = {}


class Envelope(msgspec.Struct, kw_only=True, frozen=True, rename="camel", omit_defaults=True):
    """What the gateway knew beside the body: with the raw bytes it gives the same Event again.

    `dialect` names the gateway's file that decodes the bytes; `type` is the event type that the
    path gives. `is_pixel`: an image was asked for, and so by the visitor's own machine. `has_gpc`: it said
    `Sec-GPC: 1`. `cookies` are those of vendors (vendor_ids.py). `session` is set on a session_start or
    session_end that the processor made (sessions.py). `shared` holds what a request says once for all its
    events.
    """

    dialect: str
    message_id: str
    received_at_ms: int
    type: str | None = None
    anonymous_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    origin: str | None = None
    request_id: str | None = None
    sent_at: str | None = None
    repaired: bool = False
    is_pixel: bool = False
    has_gpc: bool = False
    cookies: dict[str, str] = {}
    session: dict[str, Any] = {}
    shared: dict[str, Any] = {}


class Arrival(msgspec.Struct, frozen=True):
    """An event at the door of the log: not yet committed."""

    pipeline_id: str
    envelope: Envelope
    raw: bytes
    event: Event


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or one event of a batch, that the door refused: kept for its owner to see (api.md, 1).

    `pipeline_id` is None where no known key came with it, `dialect` where no path was met. `body` is
    all of it, of which the beginning is kept. `code` is one of errors.Refused.STATUS.
    """

    code: str
    message: str
    refused_at_ms: int
    path: str
    pipeline_id: str | None = None
    dialect: str | None = None
    body: bytes = b""
    body_size_bytes: int = 0
    user_agent: str | None = None
    origin: str | None = None
    ip: str | None = None
    request_id: str | None = None


class Record(msgspec.Struct, frozen=True):
    """An event in the log. `offset` is its place, rising by one without holes."""

    offset: int
    pipeline_id: str
    envelope: Envelope
    raw: bytes
    event: Event | None
    """None where today's program can no longer read what an older one accepted."""
    error: str = ""
    """Why not."""


class DropReason(enum.StrEnum):
    """Why an event goes no further: the closed list of the ledger (design.md, section 1).

    SCHEMA is an event that cannot be read, or that lacks what its type needs; CUSTOM_JS one that the data
    layer's script failed on: these two are the topic `dlq-events`. SHADOW is a request that
    was made and kept but not sent (api.md, section 2, attachments). DETACHED waited when its integration
    was taken from the pipeline, or the pipeline deleted.
    """

    CONSENT = "consent"
    BOT = "bot"
    FILTER = "filter"
    ROUTING = "routing"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"
    SCHEMA = "schema"
    CUSTOM_JS = "custom_js"
    SHADOW = "shadow"
    DETACHED = "detached"
    DISCARDED = "discarded"  # by a person, from the dead letters


class DeliveryStatus(enum.StrEnum):
    """Where one event stands with one integration."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    DEAD = "dead"


class Verdict(enum.StrEnum):
    """What an attempt's answer means for the delivery and for the integration."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GIVE_UP = "give_up"
    PAUSE = "pause"  # the credentials are wrong: keep the event, stop the integration
    DISABLE = "disable"  # the vendor said 410: keep the event, stop for good


class Outcome(msgspec.Struct, frozen=True):
    """What came of one attempt. `status` is None when no HTTP answer arrived."""

    verdict: Verdict
    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None


encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Event).decode
encode_envelope = msgspec.json.Encoder().encode
decode_envelope = msgspec.json.Decoder(Envelope).decode

"""What a wire format gives the door: its paths, its manners, and three pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from datafly_lite.configuration import WebhookSource
from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event

BATCH = "batch"
"""The kind of a path that carries many events."""


class Limits(NamedTuple):
    """What a body may be (settings.py)."""

    max_depth: int
    max_event_size_bytes: int
    max_body_size_bytes: int
    max_batch_body_size_bytes: int
    max_batch_events: int


class Request(NamedTuple):
    """What a dialect reads. `body` is inflated; for a pixel it is the query string.

    `kind` is the event type that the path gives, BATCH, or None where the body alone says it.
    `headers` have lower-case names. `source` is the webhook source that the request was signed for.
    """

    body: bytes
    kind: str | None
    limits: Limits
    headers: Mapping[bytes, bytes] = {}
    query: bytes = b""
    source: WebhookSource | None = None


class Item(NamedTuple):
    """One event of a request: its own bytes and the dialect's decoding of them."""

    raw: bytes
    wire: Any
    message_id: str | None
    anonymous_id: str | None
    repaired: bool


class Reading(NamedTuple):
    """A decoded request. A refused event of a batch stands in its place among `items`.

    `shared` is what the request says once for all its events, in the body, the head or the query; it is
    kept with each of them, so that the log alone gives the same event again. `is_cookieless`: the page
    asks that its visitor be given no cookie.
    """

    write_key: str | None
    items: list[Item | Refused] | list[Item]
    sent_at: str | None = None
    challenge_token: str | None = None
    shared: dict[str, Any] = {}  # noqa: RUF012 - a default that is only read
    shared_size_bytes: int = 0
    is_cookieless: bool = False


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A wire format. `paths` says of each path what kind of body it takes (see Request.kind).

    `read` raises Refused for the whole request, `normalise` for one event. `event_of` reads again
    what the log kept, and gives the same event for the same bytes and envelope.
    """

    name: str
    paths: dict[str, str | None]
    read: Callable[[Request], Reading]
    normalise: Callable[[Envelope, Any], Event]
    event_of: Callable[[Envelope, bytes, Limits], Event]
    method: Literal["POST", "GET"] = "POST"
    """GET is a pixel: its query is its body, and its answer an image."""
    authentication: Literal["key", "signature", "source"] = "key"
    """What a request brings: a pipeline's key, the key and a signature, or a webhook source's signature."""
    names_visitor: bool = False
    """Whether the visitor that an event names goes before the cookie `_dfid`, also in a browser."""
    knows_by_cookie: bool = False
    """Whether the cookie `_dfid` is given and read also where no Origin says that a browser asks."""
    is_lenient: bool = False
    """Whether an event that cannot be used is answered 200 all the same, and listed as refused."""
    limits: Callable[[Limits], Limits] = lambda limits: limits
    """This format's own limits, from those of the settings."""

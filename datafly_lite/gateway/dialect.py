"""What a wire format gives the door: its paths, and three pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event


class Limits(NamedTuple):
    """What a body may be (settings.py)."""

    max_depth: int
    max_event_size_bytes: int
    max_body_size_bytes: int
    max_batch_body_size_bytes: int
    max_batch_events: int


class Item(NamedTuple):
    """One event of a request: its own bytes and the dialect's decoding of them."""

    raw: bytes
    wire: Any
    message_id: str | None
    anonymous_id: str | None
    repaired: bool


class Reading(NamedTuple):
    """A decoded request. A refused event of a batch stands in its place among `items`."""

    write_key: str | None
    items: list[Item | Refused] | list[Item]
    is_batch: bool = False
    sent_at: str | None = None
    shared: dict[str, Any] = {}  # noqa: RUF012 - a default that is only read
    shared_size_bytes: int = 0


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A wire format. `paths` says which event type each path carries; None = a batch.

    `read` raises Refused for the whole request, `normalise` for one event. `event_of` reads again
    what the log kept, and gives the same event for the same bytes and envelope.
    """

    name: str
    paths: dict[str, str | None]
    read: Callable[[bytes, str | None, Limits], Reading]
    normalise: Callable[[Envelope, Any], Event]
    event_of: Callable[[Envelope, bytes, Limits], Event]

"""Events that were taken, refused, delivered or given up (api.md, section 2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from datafly_lite.errors import Refused
from datafly_lite.events import DeliveryStatus
from datafly_lite.management.schemas import From, Instant, KeyText, PageQuery, SearchText, To

EventType = Literal["track", "page", "identify", "group", "screen", "alias"]
Reason = Annotated[str, Meta(extra_json_schema={"enum": [*Refused.STATUS]})]


class EventFilters(PageQuery, kw_only=True):
    """Empty ones do not count. `status` is a delivery's. A page can be short while `has_more` is true."""

    pipeline_id: SearchText | UnsetType = UNSET
    type: EventType | UnsetType = UNSET
    event: SearchText | UnsetType = UNSET
    user_id: SearchText | UnsetType = UNSET
    anonymous_id: SearchText | UnsetType = UNSET
    message_id: SearchText | UnsetType = UNSET
    status: DeliveryStatus | UnsetType = UNSET
    from_: From | UnsetType = field(default=UNSET, name="from")
    to: To | UnsetType = UNSET


class DeliveryCounts(Struct):
    """How many of an event's deliveries stand where."""

    delivered: int
    pending: int
    dropped: int
    dead: int


class EventSummary(Struct):
    """An event in the list. `drop_reason` is why all integrations were spared it, `detail` more of that."""

    offset: int
    pipeline_id: str
    pipeline_name: str | None
    message_id: str
    type: str
    event: str | None
    user_id: str | None
    anonymous_id: str | None
    received_at: Instant
    drop_reason: str | None
    detail: str | None
    deliveries: DeliveryCounts


class DeliveryFilters(PageQuery, kw_only=True):
    """Empty ones do not count. A page can be short while `has_more` is true."""

    pipeline_id: SearchText | UnsetType = UNSET
    integration_id: SearchText | UnsetType = UNSET
    pipeline_integration_id: SearchText | UnsetType = UNSET
    status: DeliveryStatus | UnsetType = UNSET
    reason: SearchText | UnsetType = UNSET
    type: EventType | UnsetType = UNSET
    event: SearchText | UnsetType = UNSET
    user_id: SearchText | UnsetType = UNSET
    anonymous_id: SearchText | UnsetType = UNSET
    message_id: SearchText | UnsetType = UNSET
    from_: From | UnsetType = field(default=UNSET, name="from")
    to: To | UnsetType = UNSET


class StatsFilters(Struct, kw_only=True):
    """By default the last 60 minutes, 24 hours or 30 days."""

    from_: From | UnsetType = field(default=UNSET, name="from")
    to: To | UnsetType = UNSET
    bucket: Literal["minute", "hour", "day"] = "hour"
    pipeline_id: KeyText | UnsetType = UNSET


class DeadLetterFilters(PageQuery, kw_only=True):
    """Empty ones do not count."""

    pipeline_id: KeyText | UnsetType = UNSET
    pipeline_integration_id: KeyText | UnsetType = UNSET
    reason: KeyText | UnsetType = UNSET


class DeadLetter(Struct):
    """A delivery that was given up."""

    id: int
    offset: int
    pipeline_id: str
    pipeline_name: str | None
    pipeline_integration_id: str
    integration_id: str | None
    integration_name: str | None
    vendor: str | None
    type: str | None
    event: str | None
    message_id: str | None
    reason: str | None
    attempts: int
    last_status: int | None
    last_error: str | None
    finished_at: Instant | None


class DeadLetterFilter(Struct, forbid_unknown_fields=True):
    """All fields that are given must match; none: all dead letters."""

    pipeline_id: KeyText | UnsetType = UNSET
    pipeline_integration_id: KeyText | UnsetType = UNSET
    reason: KeyText | UnsetType = UNSET


class SelectionByIds(Struct, forbid_unknown_fields=True):
    """These dead letters. Those that are there no more are passed over."""

    ids: Annotated[list[Annotated[int, Meta(ge=1, le=2**53)]], Meta(max_length=10_000)]
    filter: UnsetType | None = UNSET


class SelectionByFilter(Struct, forbid_unknown_fields=True):
    """All dead letters that the filter finds."""

    filter: DeadLetterFilter
    ids: UnsetType | None = UNSET


Selection = (SelectionByIds, SelectionByFilter)


class Replayed(Struct):
    """How many are sent again."""

    replayed: int


class Discarded(Struct):
    """How many are never sent."""

    discarded: int


class RefusedEventFilters(PageQuery, kw_only=True):
    """Empty ones do not count. The pipeline `none`: those without a known key."""

    pipeline_id: KeyText | UnsetType = UNSET
    code: Reason | UnsetType = UNSET
    dialect: KeyText | UnsetType = UNSET
    from_: From | UnsetType = field(default=UNSET, name="from")
    to: To | UnsetType = UNSET


class RefusedEvent(Struct):
    """What the door refused, with the beginning of its body, kept for 24 hours."""

    id: int
    pipeline_id: str | None
    pipeline_name: str | None
    code: Reason
    message: str
    dialect: str | None
    path: str
    library: str | None
    user_agent: str | None
    origin: str | None
    ip: str | None
    request_id: str | None
    refused_at: Instant
    body: str
    body_size_bytes: int
    body_truncated: bool


class RefusedCountsFilter(Struct):
    """The pipeline `none`: those without a known key."""

    pipeline_id: KeyText | UnsetType = UNSET


class RefusedCounts(Struct):
    """Since the store was made, also those that the list has no room for."""

    total: int
    counts: dict[str, int]

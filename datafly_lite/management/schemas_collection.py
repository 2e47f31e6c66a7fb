"""What the collection paths take and give (api.md, section 1), for the document alone.

Fields that are null count as absent, and whatever else an event holds is kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from datafly_lite.errors import Refused
from datafly_lite.management.schemas import Instant

Code = Annotated[str, Meta(extra_json_schema={"enum": [*Refused.STATUS]})]
Done = Annotated[bool, Meta(extra_json_schema={"const": True})]
NotDone = Annotated[bool, Meta(extra_json_schema={"const": False})]
Identifier = Annotated[str, Meta(max_length=255)] | int | None
EventName = Annotated[str, Meta(max_length=200)] | None
MessageId = Annotated[str, Meta(max_length=255)] | None
GivenId = Annotated[str, Meta(min_length=1, max_length=255)] | int
Time = Annotated[str | int | float | None, Meta(description="ISO 8601, or milliseconds since 1970.")]
FreeObject = dict[str, Any] | None


class _Event(Struct, rename="camel", kw_only=True):
    anonymous_id: Identifier | UnsetType = UNSET
    message_id: MessageId | UnsetType = UNSET
    timestamp: Time | UnsetType = UNSET
    sent_at: Time | UnsetType = UNSET
    context: FreeObject | UnsetType = UNSET
    integrations: FreeObject | UnsetType = UNSET
    write_key: str | UnsetType | None = UNSET
    challenge_token: str | UnsetType | None = UNSET


class TrackEvent(_Event, rename="camel", kw_only=True):
    """Something happened. The key can also stand in the header Authorization or the query."""

    event: Annotated[str, Meta(min_length=1, max_length=200)]
    user_id: Identifier | UnsetType = UNSET
    properties: FreeObject | UnsetType = UNSET


class PageEvent(_Event, rename="camel", kw_only=True):
    """A page or a screen was seen."""

    name: str | UnsetType | None = UNSET
    category: str | UnsetType | None = UNSET
    user_id: Identifier | UnsetType = UNSET
    properties: FreeObject | UnsetType = UNSET


class IdentifyEvent(_Event, rename="camel", kw_only=True):
    """Who somebody is."""

    user_id: GivenId
    traits: FreeObject | UnsetType = UNSET


class GroupEvent(_Event, rename="camel", kw_only=True):
    """Which group somebody belongs to."""

    group_id: GivenId
    user_id: Identifier | UnsetType = UNSET
    traits: FreeObject | UnsetType = UNSET


class AliasEvent(_Event, rename="camel", kw_only=True):
    """Two identifiers are one person."""

    user_id: GivenId
    previous_id: GivenId


class Batch(Struct, rename="camel", kw_only=True):
    """Events of any type, each with its `type`. What stands beside them counts for all."""

    batch: Annotated[list[dict[str, Any]], Meta(max_length=2500)]
    write_key: str | UnsetType | None = UNSET
    sent_at: Time | UnsetType = UNSET
    context: FreeObject | UnsetType = UNSET
    integrations: FreeObject | UnsetType = UNSET


class TypedEvent(_Event, rename="camel", kw_only=True):
    """An event of the type that it names."""

    type: Literal["track", "page", "identify", "group", "screen", "alias"]
    event: EventName | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    user_id: Identifier | UnsetType = UNSET
    group_id: Identifier | UnsetType = UNSET
    previous_id: Identifier | UnsetType = UNSET
    properties: FreeObject | UnsetType = UNSET
    traits: FreeObject | UnsetType = UNSET


class CommandersActEvent(Struct, kw_only=True):
    """An event of the HTTP tracking API 2.0 or 1.0 (seed 003). All other fields are its properties."""

    event_name: str | UnsetType = UNSET
    user: dict[str, Any] | UnsetType = UNSET
    context: dict[str, Any] | UnsetType = UNSET


class CommandersActBatch(Struct, kw_only=True):
    """At most 500 KB."""

    events: list[CommandersActEvent]


class ChallengeAsk(Struct):
    """The pipeline's public key."""

    pipeline_key: str


class CrossDomainAsk(Struct):
    """Where the visitor is about to go, who must be known by the cookie `_dfid`."""

    pipeline_key: str
    to: str


class Accepted(Struct, kw_only=True):
    """`deduplicated`: an event with this messageId was taken in the last 7 days, and counts once."""

    success: Done
    deduplicated: Done | UnsetType = UNSET


class RejectedEvent(Struct):
    """One event of a batch, by its place, and why it was refused."""

    index: int
    code: Code
    message: str


class BatchAccepted(Struct, kw_only=True):
    """How many were taken; of these `deduplicated` were known. `errors` are what was refused."""

    success: Done
    accepted: int
    deduplicated: int | UnsetType = UNSET
    rejected: int | UnsetType = UNSET
    errors: list[RejectedEvent] | UnsetType = UNSET


class Challenge(Struct):
    """For the header X-Challenge-Token or the field `challengeToken`, for 15 minutes."""

    success: Done
    token: str
    expires_at: Instant


class CrossDomain(Struct):
    """For the parameter of a link to `to`, once, for two minutes. Null where nobody is to be handed over."""

    success: Done
    token: str | None
    expires_at: Instant | None
    parameter: str


class SegmentSettings(Struct, rename="camel"):
    """What Segment's SDKs fetch before they send: where to."""

    integrations: dict[str, Any]
    plan: dict[str, Any]
    middleware_settings: dict[str, Any]
    enabled_middleware: dict[str, Any]
    remote_plugins: list[Any]


class Refusal(Struct):
    """The one shape of all refusals of the collection paths; `code` is what metrics and lists call it."""

    success: NotDone
    code: Code
    message: str


class KeyQuery(Struct):
    """Where no header can be sent."""

    writeKey: Annotated[str, Meta(description="The pipeline's key.")] | UnsetType = UNSET


class PixelQuery(Struct):
    """`p.*` are properties, `t.*` traits; `cb` is for nothing but the cache."""

    wk: Annotated[str, Meta(description="The pipeline's key.")]
    e: Annotated[str, Meta(description="The event.")] | UnsetType = UNSET
    n: Annotated[str, Meta(description="A page's name.")] | UnsetType = UNSET
    uid: Annotated[str, Meta(description="The userId.")] | UnsetType = UNSET
    aid: Annotated[str, Meta(description="The anonymousId.")] | UnsetType = UNSET
    gid: Annotated[str, Meta(description="The groupId.")] | UnsetType = UNSET
    ts: Annotated[str, Meta(description="Milliseconds since 1970.")] | UnsetType = UNSET
    mid: Annotated[str, Meta(description="The messageId.")] | UnsetType = UNSET


class SyncQuery(Struct):
    """A link to another site, which its visitor follows through here."""

    wk: Annotated[str, Meta(description="The pipeline's key.")]
    to: Annotated[str, Meta(description="Where to go: https:// or http://, a listed host.")]
    from_: Annotated[str, Meta(description="The site that the link is on.")] | UnsetType = field(
        default=UNSET, name="from"
    )


class CommandersActQuery(Struct):
    """The key stands in `token`, in `tc_skey`, or as Bearer."""

    token: str | UnsetType = UNSET
    tc_skey: str | UnsetType = UNSET
    tc_s: Annotated[str, Meta(description="The site's id; kept with each event.")] | UnsetType = UNSET


class WebhookQuery(Struct):
    """Which webhook source it is for; its third party signs the request."""

    source: Annotated[str, Meta(examples=["wh_a1b2c3"])]

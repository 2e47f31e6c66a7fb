"""Visitors and what is known of them (identities.py), and what could not be processed (dlq_events.py)."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from datafly_lite.management.schemas import From, Instant, KeyText, PageQuery, SearchText, To


class IdentityFilters(PageQuery, kw_only=True):
    """Empty ones do not count. A `user_id` or `group_id` is the visitor's present one. With a group a page
    can be short while `has_more` is true.
    """

    anonymous_id: SearchText | UnsetType = UNSET
    user_id: SearchText | UnsetType = UNSET
    group_id: SearchText | UnsetType = UNSET


class VendorIdentity(Struct, kw_only=True):
    """An id that a vendor knows the visitor by; after `expires_at` it is no longer sent."""

    value: str
    set_at: Instant
    expires_at: Instant | None


class Identity(Struct, kw_only=True):
    """A visitor. `consent` holds what they said, by category, and nothing of what they did not. Times are
    those of events.
    """

    anonymous_id: str
    user_id: str | None
    group_id: str | None
    vendor_ids: dict[str, VendorIdentity]
    consent: dict[str, bool]
    consent_at: Instant | None
    first_seen_at: Instant
    last_seen_at: Instant


class IdentityLink(Struct, kw_only=True):
    """`linked_at` is the time of the event that made it; its ids are null once it is gone. `is_current`: the
    visitor is this user now.
    """

    user_id: str
    is_current: bool
    linked_at: Instant
    unlinked_at: Instant | None
    pipeline_id: str | None
    message_id: str | None


class IdentityTraits(Struct, kw_only=True):
    """Of each trait the newest value."""

    user: dict[str, Any]
    group: dict[str, Any]


class OtherIdentity(Struct, kw_only=True):
    """Another visitor who is the same user."""

    anonymous_id: str
    first_seen_at: Instant
    last_seen_at: Instant


class IdentitySession(Struct, kw_only=True):
    """The newest session on a pipeline; `number` counts them from 1."""

    pipeline_id: str
    pipeline_name: str
    id: str
    number: int
    started_at: Instant
    last_at: Instant


class ConsentChangeOfIdentity(Struct, kw_only=True):
    """`cancelled_deliveries` waited for what is no longer agreed to. `message_id` is null once the event that
    made the change is gone.
    """

    before: dict[str, bool]
    after: dict[str, bool]
    cancelled_deliveries: int
    at: Instant
    pipeline_id: str
    message_id: str | None


class IdentityDetail(Identity, kw_only=True):
    """With the newest 100 links, the first 100 other visitors of the same user, and the newest 50 changes of
    consent.
    """

    links: list[IdentityLink]
    traits: IdentityTraits
    other_identities: list[OtherIdentity]
    sessions: list[IdentitySession]
    consent_changes: list[ConsentChangeOfIdentity]


DeadReason = Literal["schema", "custom_js"]
DeadWord = Literal["schema_validation_failed", "custom_js_failed"]


class DlqEventFilters(PageQuery, kw_only=True):
    """Empty ones do not count. A page can be short while `has_more` is true."""

    pipeline_id: KeyText | UnsetType = UNSET
    reason: DeadReason | UnsetType = UNSET
    from_: From | UnsetType = field(default=UNSET, name="from")
    to: To | UnsetType = UNSET


class DlqEvent(Struct, kw_only=True):
    """An event that no step could go on with. `original_event` is what came: JSON, a text where it is none,
    null where it is no longer kept.
    """

    error: DeadWord
    details: str
    original_event: Any
    offset: int
    pipeline_id: str
    pipeline_name: str | None
    message_id: str
    type: str
    event: str | None
    anonymous_id: str | None
    user_id: str | None
    received_at: Instant

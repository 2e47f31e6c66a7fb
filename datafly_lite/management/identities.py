"""Visitors: found by their ids, looked at, and unlinked from a user (api.md, section 2; design.md, 3)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.events import LONGEST_FILTER
from datafly_lite.management.paging import check_limit, decode_key, page_by_key
from datafly_lite.management.schemas_identities import (
    ConsentChangeOfIdentity,
    Identity,
    IdentityDetail,
    IdentityLink,
    IdentitySession,
    IdentityTraits,
    OtherIdentity,
    VendorIdentity,
)
from datafly_lite.services import Services
from datafly_lite.store import identities as rows
from datafly_lite.vendor_ids import DAY_MS, KINDS

LAST_MS = 253_402_300_799_999
"""The end of the year 9999: an event may be from there, and no time that is shown is later."""

_text = f.text(LONGEST_FILTER)
FILTER_CHECKS: dict[str, f.Check] = dict.fromkeys(("anonymous_id", "user_id", "group_id"), _text)


async def list_identities(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, in the order of the anonymous ids, which stays while visitors
    come back. Filters: anonymous_id, user_id, group_id (the present ones); empty ones do not count.

    With a group a page can be shorter than `limit` while `has_more` is true.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    after, limit = decode_key(cursor), check_limit(limit)
    found = await services.store.read(rows.page, given, after, limit)
    return page_by_key([_identity(row) for row in found.rows], found.after)


async def recent_identities(services: Services, limit: int) -> list[Identity]:
    """The visitors of the newest events, who was there last first."""
    return [_identity(row) for row in await services.store.read(rows.recent, limit)]


async def get_identity(services: Services, anonymous_id: str) -> IdentityDetail:
    """All that is known of a visitor. Raises NOT_FOUND."""
    found = await services.store.read(_detail, anonymous_id)
    if found is None:
        raise AdminError("NOT_FOUND", "there is no such visitor")
    return found


async def unlink(services: Services, anonymous_id: str, user_id: str) -> None:
    """The visitor is this user no longer: its next events carry no user, until one identifies it again.

    What was sent stays sent. Raises NOT_FOUND, also where the link was undone before.
    """
    audited = Audited("identity.unlinked", "identity")
    await auditing.write_alone(services, audited, _unlink, anonymous_id, user_id, services.clock())


def _unlink(connection: sqlite3.Connection, anonymous_id: str, user_id: str, now_ms: int) -> Changed[None]:
    before = rows.one(connection, anonymous_id)
    if not rows.unlink(connection, anonymous_id, user_id, now_ms):
        raise AdminError("NOT_FOUND", "there is no such link")
    old: dict[str, Any] = {"user_id": user_id}
    if before is not None and before["user_id"] == user_id:
        old["group_id"] = before["group_id"]
    return Changed(None, anonymous_id, auditing.differences(old, {}))


def _detail(connection: sqlite3.Connection, anonymous_id: str) -> IdentityDetail | None:
    row = rows.one(connection, anonymous_id)
    if row is None:
        return None
    user_id = row["user_id"]
    return IdentityDetail(
        **_fields(row),
        links=[_link(one, user_id) for one in rows.links(connection, anonymous_id)],
        traits=IdentityTraits(
            user=_traits(rows.traits(connection, "user", user_id)),
            group=_traits(rows.traits(connection, "group", row["group_id"])),
        ),
        other_identities=[
            _other(one) for one in (rows.others_of(connection, user_id, anonymous_id) if user_id else ())
        ],
        sessions=[_session(one) for one in rows.sessions(connection, anonymous_id)],
        consent_changes=[_consent_change(one) for one in rows.consent_changes(connection, anonymous_id)],
    )


# ── Objects ──────────────────────────────────────────────────────────────────────────────────


def _identity(row: sqlite3.Row) -> Identity:
    return Identity(**_fields(row))


def _fields(row: sqlite3.Row) -> dict[str, Any]:
    consent = msgspec.json.decode(row["consent"])
    choices = consent.get("choices", {})
    return {
        "anonymous_id": row["anonymous_id"],
        "user_id": row["user_id"],
        "group_id": row["group_id"],
        "vendor_ids": {
            name: _vendor_id(name, one) for name, one in msgspec.json.decode(row["vendor_ids"]).items()
        },
        "consent": choices,
        "consent_at": iso(consent.get("atMs", 0)) if choices else None,
        "first_seen_at": iso(row["first_seen_at_ms"]),
        "last_seen_at": iso(row["last_seen_at_ms"]),
    }


def _vendor_id(name: str, stored: Mapping[str, Any]) -> VendorIdentity:
    """One that this version does not know has no end that it could tell."""
    set_at_ms = stored["setAtMs"]
    ends_at_ms = set_at_ms + KINDS[name].days * DAY_MS if name in KINDS else None
    return VendorIdentity(
        value=stored["value"],
        set_at=iso(set_at_ms),
        expires_at=None if ends_at_ms is None else iso(min(ends_at_ms, LAST_MS)),
    )


def _traits(stored: str) -> dict[str, Any]:
    """Null is kept of what was taken back (profiles.py)."""
    return {name: value for name, value in msgspec.json.decode(stored).items() if value is not None}


def _link(row: sqlite3.Row, user_id: str | None) -> IdentityLink:
    unlinked_at_ms = row["unlinked_at_ms"]
    return IdentityLink(
        user_id=row["user_id"],
        is_current=row["user_id"] == user_id,
        linked_at=iso(row["linked_at_ms"]),
        unlinked_at=None if unlinked_at_ms is None else iso(unlinked_at_ms),
        pipeline_id=row["pipeline_id"],
        message_id=row["message_id"],
    )


def _other(row: sqlite3.Row) -> OtherIdentity:
    return OtherIdentity(
        anonymous_id=row["anonymous_id"],
        first_seen_at=iso(row["first_seen_at_ms"]),
        last_seen_at=iso(row["last_seen_at_ms"]),
    )


def _session(row: sqlite3.Row) -> IdentitySession:
    return IdentitySession(
        pipeline_id=row["pipeline_id"],
        pipeline_name=row["pipeline_name"],
        id=row["id"],
        number=row["number"],
        started_at=iso(row["started_at_ms"]),
        last_at=iso(row["last_at_ms"]),
    )


def _consent_change(row: sqlite3.Row) -> ConsentChangeOfIdentity:
    return ConsentChangeOfIdentity(
        before=msgspec.json.decode(row["choices_before"]),
        after=msgspec.json.decode(row["choices"]),
        cancelled_deliveries=row["cancelled_deliveries"],
        at=iso(row["at_ms"]),
        pipeline_id=row["pipeline_id"],
        message_id=row["message_id"],
    )

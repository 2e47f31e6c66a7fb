"""Deliveries, one an event and an integration: where each stands, and what its attempts got (api.md, 2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.errors import AdminError
from datafly_lite.events import DeliveryStatus
from datafly_lite.management import fields as f
from datafly_lite.management.events import BOUNDS, LONGEST_FILTER, instant
from datafly_lite.management.paging import LARGEST_OFFSET, check_limit, decode_cursor, page
from datafly_lite.services import Services
from datafly_lite.store import delivery_list as rows

_text = f.text(LONGEST_FILTER)
FILTER_CHECKS: dict[str, f.Check] = {
    "pipeline_id": _text,
    "integration_id": _text,
    "pipeline_integration_id": _text,
    "status": f.one_of(*DeliveryStatus),
    "reason": _text,
    "type": f.one_of("track", "page", "identify", "group", "screen", "alias"),
    "event": _text,
    "user_id": _text,
    "anonymous_id": _text,
    "message_id": _text,
    "from": instant,
    "to": instant,
}


class LastAttempt(msgspec.Struct, kw_only=True, frozen=True):
    """The newest request. `status` is the HTTP status, null where no answer came; secrets are redacted."""

    attempt: int
    at: str
    duration_ms: int
    revision_id: str
    verdict: str
    status: int | None
    error: str | None


class Attempt(LastAttempt, kw_only=True, frozen=True):
    """`request` is {"method", "url", "headers", "body"}, `response` {"headers", "body"} or null."""

    request: dict[str, Any]
    response: dict[str, Any] | None


class Delivery(msgspec.Struct, kw_only=True, frozen=True):
    """`attempts` counts since it was queued, or queued again; the number of an attempt rises through both.

    `detail` says more of the reason: the categories refused, the step and why. `next_attempt_at` is null
    unless it waits, `finished_at` while it does.
    """

    id: int
    offset: int
    pipeline_id: str
    pipeline_name: str | None
    pipeline_integration_id: str
    integration_id: str | None
    integration_name: str | None
    vendor: str | None
    message_id: str
    type: str
    event: str | None
    user_id: str | None
    anonymous_id: str | None
    status: str
    reason: str | None
    detail: str | None
    attempts: int
    next_attempt_at: str | None
    created_at: str
    finished_at: str | None
    last_attempt: LastAttempt | None


class DeliveryDetail(Delivery, kw_only=True, frozen=True):
    """With its newest 100 attempts, oldest first."""

    history: list[Attempt]


async def list_deliveries(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first. Filters: pipeline_id, integration_id,
    pipeline_integration_id, status, reason, type, event, user_id, anonymous_id, message_id, from, to (when it
    was made); empty ones do not count.

    A page can be shorter than `limit` while `has_more` is true: a search stops after 50,000 deliveries.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    asked = {BOUNDS.get(name, name): value for name, value in given.items()}
    before, limit = decode_cursor(cursor), check_limit(limit)
    found = await services.store.read(rows.page, asked, before, limit)
    return page([Delivery(**_shown(row)) for row in found.rows], found.before)


async def get_delivery(services: Services, delivery_id: str) -> DeliveryDetail:
    """One with its attempts. Raises NOT_FOUND."""
    is_id = delivery_id.isascii() and delivery_id.isdecimal() and len(delivery_id) < 17
    found = await services.store.read(_get, int(delivery_id)) if is_id else None
    if found is None:
        raise AdminError("NOT_FOUND", "there is no such delivery")
    return found


def _get(connection: sqlite3.Connection, delivery_id: int) -> DeliveryDetail | None:
    row = rows.one(connection, delivery_id) if delivery_id <= LARGEST_OFFSET else None
    if row is None:
        return None
    history = [_attempt(one) for one in rows.attempts(connection, delivery_id)]
    return DeliveryDetail(**_shown(row), history=history)


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    same = (
        *("id", "offset", "pipeline_id", "pipeline_name", "pipeline_integration_id", "integration_id"),
        *("integration_name", "vendor", "message_id", "type", "event", "user_id", "anonymous_id"),
        *("status", "reason", "detail", "attempts"),
    )
    is_waiting = row["status"] == DeliveryStatus.PENDING
    return {
        **{name: row[name] for name in same},
        "next_attempt_at": iso(row["next_attempt_at_ms"]) if is_waiting else None,
        "created_at": iso(row["created_at_ms"]),
        "finished_at": None if row["finished_at_ms"] is None else iso(row["finished_at_ms"]),
        "last_attempt": None if row["attempt"] is None else _last_attempt(row),
    }


def _last_attempt(row: sqlite3.Row) -> LastAttempt:
    return LastAttempt(
        attempt=row["attempt"],
        at=iso(row["at_ms"]),
        duration_ms=row["duration_ms"],
        revision_id=row["revision_id"],
        verdict=row["verdict"],
        status=row["http_status"],
        error=row["error"],
    )


def _attempt(row: sqlite3.Row) -> Attempt:
    return Attempt(
        attempt=row["attempt"],
        at=iso(row["at_ms"]),
        duration_ms=row["duration_ms"],
        revision_id=row["revision_id"],
        verdict=row["verdict"],
        status=row["status"],
        error=row["error"],
        request=msgspec.json.decode(row["request"]),
        response=None if row["response"] is None else msgspec.json.decode(row["response"]),
    )

"""Events that were taken: a list with filters, and one event's whole way (api.md, section 2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.errors import AdminError
from datafly_lite.events import DeliveryStatus
from datafly_lite.management import fields as f
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.services import Services
from datafly_lite.store import event_list

LONGEST_FILTER = 1000


def instant(value: Any) -> int:
    """An ISO 8601 time -> milliseconds since 1970; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(f.text(50)(value))
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise f.FieldError("must be a time such as 2026-02-25T10:00:00Z") from None


_text = f.text(LONGEST_FILTER)
FILTER_CHECKS: dict[str, f.Check] = {
    "pipeline_id": _text,
    "type": f.one_of("track", "page", "identify", "group", "screen", "alias"),
    "event": _text,
    "user_id": _text,
    "anonymous_id": _text,
    "message_id": _text,
    "status": f.one_of(*DeliveryStatus),
    "from": instant,
    "to": instant,
}
BOUNDS = {"from": "from_ms", "to": "to_ms"}


async def list_events(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first. Filters: pipeline_id, type, event, user_id,
    anonymous_id, message_id, status (of a delivery), from, to; empty ones do not count.

    A page can be shorter than `limit` while `has_more` is true: a search stops after 100,000 events.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    bounds = {BOUNDS.get(name, name): value for name, value in given.items()}
    before = decode_cursor(cursor)
    return await services.store.read(_list, bounds, before, check_limit(limit))


async def get_event(services: Services, pipeline_id: str, message_id: str) -> dict[str, Any]:
    """The event's trace (trace.py), as JSON values. Raises NOT_FOUND."""
    trace = await services.trace(pipeline_id, message_id)
    if trace is None:
        raise AdminError("NOT_FOUND", "there is no such event")
    found: dict[str, Any] = msgspec.to_builtins(trace)
    return found


def _list(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, limit: int
) -> dict[str, Any]:
    found = event_list.page(connection, filters, before, limit)
    counts = event_list.delivery_counts(connection, [row["offset"] for row in found.rows])
    return page([_summary(row, counts.get(row["offset"], {})) for row in found.rows], found.before)


def _summary(row: sqlite3.Row, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "offset": row["offset"],
        "pipeline_id": row["pipeline_id"],
        "pipeline_name": row["pipeline_name"],
        "message_id": row["message_id"],
        "type": row["type"],
        "event": row["event"],
        "user_id": row["user_id"],
        "anonymous_id": row["anonymous_id"],
        "received_at": iso(row["received_at_ms"]),
        "drop_reason": row["drop_reason"],
        "detail": row["detail"],
        "deliveries": {name: counts.get(name, 0) for name in ("delivered", "pending", "dropped", "dead")},
    }

"""The audit log, newest first (spec/datafly-signal.md, 9.5). What goes into it is in auditing.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.management import fields as f
from datafly_lite.management.events import BOUNDS, instant
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.services import Services
from datafly_lite.store import audit_logs as rows

MOST_PEOPLE = 1_000

_text = f.text(200)
FILTER_CHECKS: dict[str, f.Check] = {
    "action": _text,
    "user_id": _text,
    "resource_type": _text,
    "resource_id": _text,
    "from": instant,
    "to": instant,
}


async def list_audit_logs(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first, of the last 90 days.

    Filters: action, user_id, resource_type, resource_id, from, to; empty ones do not count.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    asked = {BOUNDS.get(name, name): value for name, value in given.items()}
    before, limit = decode_cursor(cursor), check_limit(limit)
    found = await services.store.read(rows.page, asked, before, services.clock(), limit + 1)
    next_number = found[limit - 1]["number"] if len(found) > limit else None
    return page([_entry(row) for row in found[:limit]], next_number)


async def list_people(services: Services) -> list[dict[str, Any]]:
    """`{"user_id", "user_email"}` of those who are in the log, by e-mail address; also who is gone since."""
    found = await services.store.read(rows.people, MOST_PEOPLE)
    return [{"user_id": row["user_id"], "user_email": row["user_email"]} for row in found]


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "action": row["action"],
        "user_id": row["user_id"],
        "user_email": row["user_email"],
        "resource_type": row["resource_type"],
        "resource_id": row["resource_id"],
        "changes": msgspec.json.decode(row["changes"]),
        "ip_address": row["ip_address"],
        "user_agent": row["user_agent"],
        "timestamp": iso(row["at_ms"]),
    }

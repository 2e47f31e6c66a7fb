"""What the door refused, newest first, and how often for each reason (gateway/refusals.py; api.md, 2)."""

from __future__ import annotations

import codecs
import sqlite3
from collections.abc import Mapping
from typing import Any

from datafly_lite.clock import iso
from datafly_lite.errors import Refused
from datafly_lite.management import fields as f
from datafly_lite.management.events import instant
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.services import Services
from datafly_lite.store import refused_events as rows

NO_PIPELINE = "none"
"""In a filter: those that came without a known key."""

_text = f.text(200)
FILTER_CHECKS: dict[str, f.Check] = {
    "pipeline_id": _text,
    "code": f.one_of(*Refused.STATUS),
    "dialect": _text,
    "from": instant,
    "to": instant,
}
COUNT_CHECKS: dict[str, f.Check] = {"pipeline_id": _text}
BOUNDS = {"from": "from_ms", "to": "to_ms"}


async def list_refused_events(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first.

    Filters: pipeline_id (`none`: without a known key), code, dialect, from, to; empty ones do not count.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    asked = {BOUNDS.get(name, name): value for name, value in given.items()}
    if asked.get("pipeline_id") == NO_PIPELINE:
        asked["pipeline_id"] = None
    before, limit = decode_cursor(cursor), check_limit(limit)
    found = await services.store.read(rows.page, asked, before, services.clock(), limit + 1)
    return page(
        [_shown(row) for row in found[:limit]], found[limit - 1]["id"] if len(found) > limit else None
    )


async def count_refused_events(services: Services, *, filters: Mapping[str, Any]) -> dict[str, Any]:
    """`{"total", "counts": {code: n}}` since the store was made, the greatest first.

    They count every refusal, also those that the list has no room for. Filter: pipeline_id, as the list's.
    """
    pipeline_id = f.checked(f.given(filters), COUNT_CHECKS).get("pipeline_id")
    counts = await services.store.read(rows.counts, "" if pipeline_id == NO_PIPELINE else pipeline_id)
    return {"total": sum(counts.values()), "counts": counts}


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    is_cut = row["body_size_bytes"] > len(row["body"])
    return {
        "id": row["id"],
        "pipeline_id": row["pipeline_id"],
        "pipeline_name": row["pipeline_name"],
        "code": row["code"],
        "message": row["message"],
        "dialect": row["dialect"],
        "path": row["path"],
        "library": row["library"],
        "user_agent": row["user_agent"],
        "origin": row["origin"],
        "ip": row["ip"],
        "request_id": row["request_id"],
        "refused_at": iso(row["refused_at_ms"]),
        "body": _text_of(row["body"], is_cut=is_cut),
        "body_size_bytes": row["body_size_bytes"],
        "body_truncated": is_cut,
    }


def _text_of(body: bytes, *, is_cut: bool) -> str:
    """A character that the cut went through is left out; what is no UTF-8 is replaced."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(body, final=not is_cut)

"""The topic dlq-events: events that no step could go on with (spec/datafly-signal.md, 4.2, step 1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.events import DropReason
from datafly_lite.management import fields as f
from datafly_lite.management.events import BOUNDS, instant
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.management.schemas_identities import DeadWord, DlqEvent
from datafly_lite.services import Services
from datafly_lite.store import dlq_events as rows

ERRORS: dict[str, DeadWord] = {
    DropReason.SCHEMA: "schema_validation_failed",
    DropReason.CUSTOM_JS: "custom_js_failed",
}
"""A reason in the list of events -> the documented word."""

_text = f.text(200)
FILTER_CHECKS: dict[str, f.Check] = {
    "pipeline_id": _text,
    "reason": f.one_of(*ERRORS),
    "from": instant,
    "to": instant,
}


async def list_dlq_events(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first. Filters: pipeline_id, reason, from, to; empty ones
    do not count.

    A page can be shorter than `limit` while `has_more` is true: a search stops after 20,000 of them.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    asked = {BOUNDS.get(name, name): value for name, value in given.items()}
    before, limit = decode_cursor(cursor), check_limit(limit)
    found = await services.store.read(rows.page, asked, before, limit)
    return page([_shown(row) for row in found.rows], found.before)


async def count_dlq_events(services: Services, since_ms: int, most: int) -> int:
    """How many came since then; `most` stands for as many or more."""
    return await services.store.read(rows.count, since_ms, most)


def _shown(row: sqlite3.Row) -> DlqEvent:
    return DlqEvent(
        error=ERRORS[row["drop_reason"]],
        details=row["detail"] or "",
        original_event=None if row["raw"] is None else original(row["raw"]),
        offset=row["offset"],
        pipeline_id=row["pipeline_id"],
        pipeline_name=row["pipeline_name"],
        message_id=row["message_id"],
        type=row["type"],
        event=row["event"],
        anonymous_id=row["anonymous_id"],
        user_id=row["user_id"],
        received_at=iso(row["received_at_ms"]),
    )


def original(raw: bytes) -> Any:
    """What came: as JSON, or as the text that it is."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw.decode("utf-8", "replace")

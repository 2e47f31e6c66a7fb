"""Processed events as a list: newest first, filtered, with what became of their deliveries."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from datafly_lite.store import message_ids

SCANNED_OFFSETS = 100_000
"""Most events that one page looks at: a filter that matches little must not hold a reader for seconds."""

CONDITIONS = {
    "pipeline_id": "e.pipeline_id = :pipeline_id",
    "type": "e.type = :type",
    "event": "e.event = :event",
    "user_id": "e.user_id = :user_id",
    "anonymous_id": "e.anonymous_id = :anonymous_id",
    "message_id": "e.offset IN (SELECT value FROM json_each(:places))",
    "from_ms": "e.received_at_ms >= :from_ms",
    "to_ms": "e.received_at_ms <= :to_ms",
    "status": "EXISTS (SELECT 1 FROM deliveries AS d WHERE d.offset = e.offset AND d.status = :status)",
}


INDEXED = {"pipeline_id"}
"""What an index finds without looking at other events."""


class EventPage(NamedTuple):
    """Rows, and below which offset to go on; None where the log's beginning was reached."""

    rows: list[sqlite3.Row]
    before: int | None


def page(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, limit: int
) -> EventPage:
    """Up to `limit` events below the offset `before`, newest first. `filters` has names of CONDITIONS.

    A page can be short, or empty, while there is more: it looks at SCANNED_OFFSETS events at most.
    """
    newest = connection.execute("SELECT max(offset) FROM events").fetchone()[0] or 0
    top = newest + 1 if before is None else min(before, newest + 1)
    is_direct = "message_id" in filters or filters.keys() <= INDEXED
    bottom = 0 if is_direct else max(top - SCANNED_OFFSETS, 0)
    found = places(connection, filters["message_id"]) if "message_id" in filters else []
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in filters)
    rows = connection.execute(
        f"""
        SELECT e.offset, e.pipeline_id, p.name AS pipeline_name, e.message_id, e.type, e.event, e.user_id,
               e.anonymous_id, e.received_at_ms, e.drop_reason, e.detail
          FROM events AS e LEFT JOIN pipelines AS p ON p.id = e.pipeline_id
         WHERE e.offset < :top AND e.offset >= :bottom{conditions}
         ORDER BY e.offset DESC LIMIT :limit
        """,  # noqa: S608 - only texts of CONDITIONS
        {**filters, "top": top, "bottom": bottom, "limit": limit, "places": _json(found)},
    ).fetchall()
    end = rows[-1]["offset"] if len(rows) == limit else bottom
    has_more = connection.execute("SELECT 1 FROM events WHERE offset < ? LIMIT 1", (end,)).fetchone()
    return EventPage(rows, end if has_more else None)


def places(connection: sqlite3.Connection, message_id: str) -> list[int]:
    """The offsets of this messageId in any pipeline, deleted ones too."""
    pipelines = [row["id"] for row in connection.execute("SELECT id FROM pipelines")]
    found = [message_ids.find(connection, pipeline_id, message_id) for pipeline_id in pipelines]
    return [offset for offset in found if offset is not None]


def delivery_counts(connection: sqlite3.Connection, offsets: Sequence[int]) -> dict[int, dict[str, int]]:
    """offset -> how many deliveries have each status."""
    counts: dict[int, dict[str, int]] = {}
    for offset, status, count in connection.execute(
        """
        SELECT offset, status, count(*) FROM deliveries
         WHERE offset IN (SELECT value FROM json_each(?)) GROUP BY offset, status
        """,
        (_json(offsets),),
    ):
        counts.setdefault(offset, {})[status] = count
    return counts


def _json(offsets: Sequence[int]) -> str:
    return msgspec.json.encode(offsets).decode()

"""The topic dlq-events: what no step could go on with, newest first (spec/datafly-signal.md, 4.2, step 1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

SCANNED_EVENTS = 20_000
"""Most of them that one page looks at: those of another pipeline may be many."""

DEAD = "drop_reason IN ('schema', 'custom_js')"
"""As the index `events_dead` says it (schema.sql)."""

CONDITIONS = {
    "pipeline_id": "e.pipeline_id = :pipeline_id",
    "reason": "e.drop_reason = :reason",
    "from_ms": "e.received_at_ms >= :from_ms",
    "to_ms": "e.received_at_ms <= :to_ms",
}


class DeadPage(NamedTuple):
    """Rows, and below which offset to go on; None where there are no more."""

    rows: list[sqlite3.Row]
    before: int | None


def page(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, limit: int
) -> DeadPage:
    """Up to `limit` below the offset `before`, with the raw bytes. `filters` has names of CONDITIONS.

    A page can be short, or empty, while there is more: it looks at SCANNED_EVENTS at most.
    """
    top = 2**62 if before is None else before
    bottom = _bottom(connection, top) if filters else None
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in filters)
    rows = connection.execute(
        f"""
        SELECT e.offset, e.pipeline_id, p.name AS pipeline_name, e.message_id, e.type, e.event,
               e.anonymous_id, e.user_id, e.received_at_ms, e.drop_reason, e.detail, r.raw
          FROM events AS e INDEXED BY events_dead
          LEFT JOIN pipelines AS p ON p.id = e.pipeline_id
          LEFT JOIN raw_events AS r ON r.offset = e.offset
         WHERE e.{DEAD} AND e.offset < :top AND e.offset >= :bottom{conditions}
         ORDER BY e.offset DESC LIMIT :limit
        """,  # noqa: S608 - only texts of this file
        {**filters, "top": top, "bottom": bottom or 0, "limit": limit + 1},
    ).fetchall()
    if len(rows) > limit:
        return DeadPage(rows[:limit], rows[limit - 1]["offset"])
    return DeadPage(rows, bottom)


def _bottom(connection: sqlite3.Connection, top: int) -> int | None:
    """The offset of the last one that a page may look at; None where all that is left is few enough."""
    row = connection.execute(
        f"""
        SELECT offset FROM events INDEXED BY events_dead WHERE {DEAD} AND offset < ?
         ORDER BY offset DESC LIMIT 1 OFFSET ?
        """,  # noqa: S608 - a text of this file
        (top, SCANNED_EVENTS - 1),
    ).fetchone()
    return None if row is None else int(row[0])


def count(connection: sqlite3.Connection, since_ms: int, most: int) -> int:
    """How many of the newest `most` came at that time or after it."""
    row = connection.execute(
        f"""
        SELECT count(*) FROM (
            SELECT received_at_ms FROM events INDEXED BY events_dead WHERE {DEAD}
             ORDER BY offset DESC LIMIT ?)
         WHERE received_at_ms >= ?
        """,  # noqa: S608 - a text of this file
        (most, since_ms),
    ).fetchone()
    return int(row[0])

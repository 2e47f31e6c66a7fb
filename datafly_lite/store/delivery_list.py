"""Deliveries as a list: newest first, filtered, each with its last attempt."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from datafly_lite.store import event_list, figures

SCANNED = 50_000
"""Most deliveries that one page looks at: a filter that matches little must not hold a reader for seconds."""

SORTED = 10_000
"""Most open deliveries of all integrations that are looked at at once, instead of those near the cursor."""

ATTEMPTS = 100
"""Most attempts that are shown of one delivery."""

CONDITIONS = {
    "pipeline_id": "d.pipeline_id = :pipeline_id",
    "integration_id": (
        "d.pipeline_integration_id IN"
        " (SELECT id FROM pipeline_integrations WHERE integration_id = :integration_id)"
    ),
    "pipeline_integration_id": "d.pipeline_integration_id = :pipeline_integration_id",
    "status": "d.status = :status",
    "reason": "d.reason = :reason",
    "type": "e.type = :type",
    "event": "e.event = :event",
    "user_id": "e.user_id = :user_id",
    "anonymous_id": "e.anonymous_id = :anonymous_id",
    "message_id": "d.offset IN (SELECT value FROM json_each(:places))",
    "from_ms": "d.created_at_ms >= :from_ms",
    "to_ms": "d.created_at_ms <= :to_ms",
}

OPEN = {
    "pending": ("INDEXED BY deliveries_waiting", " AND d.status = 'pending'"),
    "dead": ("INDEXED BY deliveries_dead", " AND d.status = 'dead'"),
}
"""Status -> the index that holds these alone. It is not used for a parameter, so the status is text."""

SELECT = """
SELECT d.id, d.offset, d.pipeline_id, p.name AS pipeline_name, d.pipeline_integration_id,
       i.id AS integration_id, i.name AS integration_name, i.vendor, e.message_id, e.type, e.event,
       e.user_id, e.anonymous_id, d.status, d.reason, d.detail, d.attempts, d.next_attempt_at_ms,
       d.created_at_ms, d.finished_at_ms, t.attempt, t.at_ms, t.duration_ms, t.revision_id, t.verdict,
       t.status AS http_status, t.error
"""

JOINS = """
 CROSS JOIN events AS e ON e.offset = d.offset
  LEFT JOIN pipelines AS p ON p.id = d.pipeline_id
  LEFT JOIN pipeline_integrations AS a ON a.id = d.pipeline_integration_id
  LEFT JOIN integrations AS i ON i.id = a.integration_id
  LEFT JOIN delivery_attempts AS t ON t.delivery_id = d.id
   AND t.attempt = (SELECT max(attempt) FROM delivery_attempts WHERE delivery_id = d.id)
"""


class DeliveryPage(NamedTuple):
    """Rows, and below which id to go on; None where the beginning was reached."""

    rows: list[sqlite3.Row]
    before: int | None


class Way(NamedTuple):
    """How the rows of a page are found: by which index, and whether without looking at others."""

    hint: str
    status: str
    is_direct: bool


def page(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, limit: int
) -> DeliveryPage:
    """Up to `limit` deliveries below the id `before`, newest first. `filters` has names of CONDITIONS.

    A page can be short, or empty, while there is more: it looks at SCANNED deliveries at most.
    """
    newest = connection.execute("SELECT max(id) FROM deliveries").fetchone()[0] or 0
    top = newest + 1 if before is None else min(before, newest + 1)
    way = _way(connection, filters)
    bottom = 0 if way.is_direct else max(top - SCANNED, 0)
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in filters)
    rows = connection.execute(
        f"""
        {SELECT} FROM deliveries AS d {way.hint} {JOINS}
         WHERE d.id < :top AND d.id >= :bottom{way.status}{conditions}
         ORDER BY d.id DESC LIMIT :limit
        """,
        {**filters, "top": top, "bottom": bottom, "limit": limit, "places": _places(connection, filters)},
    ).fetchall()
    end = rows[-1]["id"] if len(rows) == limit else bottom
    has_more = connection.execute("SELECT 1 FROM deliveries WHERE id < ? LIMIT 1", (end,)).fetchone()
    return DeliveryPage(rows, end if has_more else None)


def one(connection: sqlite3.Connection, delivery_id: int) -> sqlite3.Row | None:
    """As a row of a page."""
    row: sqlite3.Row | None = connection.execute(
        f"{SELECT} FROM deliveries AS d {JOINS} WHERE d.id = ?",
        (delivery_id,),
    ).fetchone()
    return row


def attempts(connection: sqlite3.Connection, delivery_id: int) -> list[sqlite3.Row]:
    """The newest ATTEMPTS of a delivery, oldest first."""
    found = connection.execute(
        "SELECT * FROM delivery_attempts WHERE delivery_id = ? ORDER BY attempt DESC LIMIT ?",
        (delivery_id, ATTEMPTS),
    ).fetchall()
    return found[::-1]


def _way(connection: sqlite3.Connection, filters: Mapping[str, Any]) -> Way:
    if "message_id" in filters:
        return Way("", "", True)
    status = filters.get("status")
    if status not in OPEN:
        return Way("NOT INDEXED", "", False)
    if "pipeline_integration_id" in filters or figures.deliveries(connection, status) <= SORTED:
        return Way(*OPEN[status], True)
    return Way("NOT INDEXED", "", False)


def _places(connection: sqlite3.Connection, filters: Mapping[str, Any]) -> str:
    message_id = filters.get("message_id")
    found = [] if message_id is None else event_list.places(connection, message_id)
    return msgspec.json.encode(found).decode()

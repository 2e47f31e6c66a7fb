"""The audit log's rows: added with the change that they tell of, never changed, dropped by age."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

KEPT_FOR_MS = 90 * 86_400_000
"""spec/datafly-signal.md, 9.5: retained for 90 days."""

AGED_OUT_AT_ONCE = 100
"""Most rows that one new one drops for their age: more than ever come in, and soon done."""

CONDITIONS = {
    "action": "action = :action",
    "user_id": "user_id = :user_id",
    "resource_type": "resource_type = :resource_type",
    "resource_id": "resource_id = :resource_id",
    "from_ms": "at_ms >= :from_ms",
    "to_ms": "at_ms <= :to_ms",
}


class Entry(NamedTuple):
    """A row before it has a number. `changes` is JSON."""

    id: str
    action: str
    user_id: str | None
    user_email: str | None
    resource_type: str
    resource_id: str | None
    changes: str
    ip_address: str | None
    user_agent: str | None
    at_ms: int


def insert(connection: sqlite3.Connection, entry: Entry) -> None:
    """Add it, and drop some of those that are too old."""
    connection.execute("INSERT INTO audit_logs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", entry)
    _trim(connection, entry.at_ms - KEPT_FOR_MS)


def _trim(connection: sqlite3.Connection, before_ms: int) -> None:
    """Numbers rise with time, so this reads no further than the first row that stays."""
    connection.execute(
        """
        DELETE FROM audit_logs WHERE number IN (
            SELECT number FROM audit_logs
             WHERE number < (SELECT number FROM audit_logs WHERE at_ms > :before_ms ORDER BY number LIMIT 1)
             ORDER BY number LIMIT :most)
        """,
        {"before_ms": before_ms, "most": AGED_OUT_AT_ONCE},
    )


def page(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, now_ms: int, limit: int
) -> list[sqlite3.Row]:
    """Up to `limit` below the number `before`, newest first, none older than KEPT_FOR_MS.

    `filters` has names of CONDITIONS.
    """
    below = "" if before is None else " AND number < :before"
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in filters)
    return connection.execute(
        f"""
        SELECT * FROM audit_logs WHERE at_ms > :oldest_ms{below}{conditions}
         ORDER BY number DESC LIMIT :limit
        """,  # noqa: S608 - only texts of CONDITIONS
        {**filters, "before": before, "oldest_ms": now_ms - KEPT_FOR_MS, "limit": limit},
    ).fetchall()


def people(connection: sqlite3.Connection, limit: int) -> list[sqlite3.Row]:
    """`user_id` and newest `user_email` of those who did something, by e-mail address."""
    return connection.execute(
        """
        SELECT user_id, user_email, max(number) FROM audit_logs WHERE user_id IS NOT NULL
         GROUP BY user_id ORDER BY user_email LIMIT ?
        """,
        (limit,),
    ).fetchall()

"""Numbers of the overview, each found without reading what it counts where that could be much."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from datafly_lite.store import refused_events


class Figures(NamedTuple):
    """`stored_since` has one number for each of the times that were asked for."""

    pipelines: int
    stored: int
    stored_since: tuple[int, ...]
    refused: int
    deliveries_pending: int
    deliveries_dead: int
    attachments_in_trouble: int


def figures(connection: sqlite3.Connection, since_ms: tuple[int, ...]) -> Figures:
    """All of them, in one snapshot."""
    last = _number(connection, "SELECT coalesce(max(offset), 0) FROM raw_events")
    return Figures(
        pipelines=_number(connection, "SELECT count(*) FROM pipelines WHERE deleted_at_ms IS NULL"),
        stored=last,
        stored_since=tuple(last - _last_before(connection, one, last) for one in since_ms),
        refused=sum(refused_events.counts(connection, None).values()),
        deliveries_pending=deliveries(connection, "pending"),
        deliveries_dead=deliveries(connection, "dead"),
        attachments_in_trouble=_number(
            connection,
            """
            SELECT count(*) FROM pipeline_integrations AS a
              JOIN pipelines AS p ON p.id = a.pipeline_id AND p.deleted_at_ms IS NULL
             WHERE a.trouble IS NOT NULL AND a.detached_at_ms IS NULL
            """,
        ),
    )


def deliveries(connection: sqlite3.Connection, status: str) -> int:
    """How many have it, from the counts of each integration."""
    row = connection.execute(
        """
        SELECT coalesce(sum(value), 0) FROM delivery_counts
         WHERE name = :status OR name LIKE :status || ':%'
        """,
        {"status": status},
    ).fetchone()
    return int(row[0])


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _last_before(connection: sqlite3.Connection, time_ms: int, last: int) -> int:
    """The last offset that was received before the time: by halves, because the log is in that order."""
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            "SELECT received_at_ms FROM raw_events WHERE offset >= ? ORDER BY offset LIMIT 1", (middle,)
        ).fetchone()
        if row[0] < time_ms:
            low = middle
        else:
            high = middle - 1
    return low

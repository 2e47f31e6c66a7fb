"""How an integration on a pipeline does: what waits, what was given up, how its last attempt went."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from datafly_lite.store import dead_letters

MOST_COUNTED = 1_000
"""A count stops above it, so that a page costs the same however much waits."""

NEWEST_DELIVERIES = 1_000
CANDIDATES = 100


class Attempt(NamedTuple):
    """The newest attempt. `http_status` is None where no answer came; `error` is redacted."""

    at_ms: int
    verdict: str
    http_status: int | None
    error: str | None


class AttachmentHealth(NamedTuple):
    """`pending` and `dead` are MOST_COUNTED + 1 where there are more. `next_due_at_ms` may be past."""

    pending: int
    dead: int
    last: Attempt | None
    next_due_at_ms: int | None


def health(connection: sqlite3.Connection, pipeline_integration_id: str) -> AttachmentHealth:
    """Of one attachment, from indexes alone and a bounded number of rows."""
    next_due = connection.execute(
        """
        SELECT next_attempt_at_ms FROM deliveries
         WHERE pipeline_integration_id = ? AND status = 'pending' ORDER BY next_attempt_at_ms LIMIT 1
        """,
        (pipeline_integration_id,),
    ).fetchone()
    return AttachmentHealth(
        pending=_count(connection, pipeline_integration_id, "pending"),
        dead=_count(connection, pipeline_integration_id, "dead"),
        last=_last_attempt(connection, pipeline_integration_id),
        next_due_at_ms=None if next_due is None else next_due[0],
    )


def _count(connection: sqlite3.Connection, pipeline_integration_id: str, status: str) -> int:
    # The status stands in the text: a partial index is not used for a parameter.
    query = f"""
        SELECT count(*) FROM (SELECT 1 FROM deliveries
         WHERE pipeline_integration_id = ? AND status = '{status}' LIMIT {MOST_COUNTED + 1})
        """  # noqa: S608 - only this file's own words
    return int(connection.execute(query, (pipeline_integration_id,)).fetchone()[0])


def _last_attempt(connection: sqlite3.Connection, pipeline_integration_id: str) -> Attempt | None:
    """Attempts have no index by time, so it is looked for where it must be.

    That is among the newest deliveries of all, or this attachment's dead ones, or those that wait: at
    either end, for what failed is put off beyond what was never tried.
    """
    row = connection.execute(
        """
        WITH due AS NOT MATERIALIZED (
               SELECT id, next_attempt_at_ms FROM deliveries
                WHERE pipeline_integration_id = :attachment AND status = 'pending'),
             tried (id) AS (
               SELECT id FROM (SELECT id FROM deliveries NOT INDEXED
                 WHERE id > (SELECT max(id) FROM deliveries) - :newest
                   AND pipeline_integration_id = :attachment ORDER BY id DESC LIMIT :most)
               UNION SELECT id FROM (SELECT id FROM due ORDER BY next_attempt_at_ms LIMIT :most)
               UNION SELECT id FROM (SELECT id FROM due ORDER BY next_attempt_at_ms DESC LIMIT :most)
               UNION SELECT id FROM (SELECT id FROM deliveries
                 WHERE pipeline_integration_id = :attachment AND status = 'dead'
                 ORDER BY id DESC LIMIT :most))
        SELECT a.at_ms, a.verdict, a.status, a.error
          FROM tried CROSS JOIN delivery_attempts AS a ON a.delivery_id = tried.id
         ORDER BY a.at_ms DESC LIMIT 1
        """,
        {"attachment": pipeline_integration_id, "newest": NEWEST_DELIVERIES, "most": CANDIDATES},
    ).fetchone()
    return None if row is None else Attempt(*row)


def held_letters(connection: sqlite3.Connection, selection: Mapping[str, Any]) -> int:
    """How many of these dead letters would only wait when queued again: paused, or disabled.

    `selection` has names of `dead_letters.CONDITIONS`.
    """
    held = {
        row[0]
        for row in connection.execute(
            "SELECT id FROM pipeline_integrations WHERE NOT enabled OR mode = 'paused'"
        )
    }
    found = dead_letters.matching(connection, selection)
    return sum(row["pipeline_integration_id"] in held for row in found)


class Standing(NamedTuple):
    """How an attachment stands, from counts: exact however much waits. `row` is its own with its names.

    `oldest_ms` is when the oldest delivery that waits was made; times are None where there was none.
    """

    row: sqlite3.Row
    pending: int
    dead: int
    delivered: int
    oldest_ms: int | None
    next_due_at_ms: int | None
    last_success_ms: int | None
    last: Attempt | None


def standings(connection: sqlite3.Connection, after: str, limit: int) -> list[Standing]:
    """Up to `limit` attachments beyond the id `after`, in the order of their ids: those that are attached."""
    found = connection.execute(
        """
        SELECT a.*, p.name AS pipeline_name, i.name AS integration_name, i.vendor, r.revision_number
          FROM pipeline_integrations AS a
          JOIN pipelines AS p ON p.id = a.pipeline_id AND p.deleted_at_ms IS NULL
          JOIN integrations AS i ON i.id = a.integration_id
          JOIN revisions AS r ON r.id = a.revision_id
         WHERE a.detached_at_ms IS NULL AND a.id > ? ORDER BY a.id LIMIT ?
        """,
        (after, limit),
    ).fetchall()
    return [_standing(connection, row) for row in found]


def _standing(connection: sqlite3.Connection, row: sqlite3.Row) -> Standing:
    counts = {
        name: (value, at_ms)
        for name, value, at_ms in connection.execute(
            "SELECT name, value, last_at_ms FROM delivery_counts WHERE pipeline_integration_id = ?",
            (row["id"],),
        )
    }
    delivered, last_success_ms = counts.get("delivered", (0, None))
    oldest, next_due = _waiting(connection, row["id"])
    return Standing(
        row=row,
        pending=counts.get("pending", (0, 0))[0],
        dead=sum(value for name, (value, _) in counts.items() if name.partition(":")[0] == "dead"),
        delivered=delivered,
        oldest_ms=oldest,
        next_due_at_ms=next_due,
        last_success_ms=last_success_ms,
        last=_last_attempt(connection, row["id"]),
    )


def _waiting(connection: sqlite3.Connection, attachment_id: str) -> tuple[int | None, int | None]:
    """When the oldest that waits was made, and when the next one is due."""
    row = connection.execute(
        """
        SELECT (SELECT created_at_ms FROM deliveries
                 WHERE pipeline_integration_id = :id AND status = 'pending' ORDER BY id LIMIT 1),
               (SELECT next_attempt_at_ms FROM deliveries
                 WHERE pipeline_integration_id = :id AND status = 'pending'
                 ORDER BY next_attempt_at_ms LIMIT 1)
        """,
        {"id": attachment_id},
    ).fetchone()
    return row[0], row[1]

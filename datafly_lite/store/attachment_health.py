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

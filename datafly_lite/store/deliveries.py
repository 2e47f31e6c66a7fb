"""The outbox: what is to be delivered, what came of it, and the attachments that delivery stops."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Due(NamedTuple):
    """A delivery to be made. `attempts` counts since it was queued, or queued again from the dead letters.

    `consent` is JSON: what its visitor agrees to now, whatever was true when the event came.
    """

    id: int
    attempts: int
    message_id: str
    body: bytes
    consent: str | None = None


class Page(NamedTuple):
    """Deliveries that are due, and when to look again: `next_due_at_ms` is None when nothing waits."""

    due: list[Due]
    next_due_at_ms: int | None


class Attempted(NamedTuple):
    """What came of one delivery: an attempt to be kept and the delivery's new state.

    `request` and `response` are JSON. Without `verdict` no request was made, so no attempt is kept.
    """

    delivery_id: int
    attempts: int
    status: str
    reason: str | None
    next_attempt_at_ms: int
    at_ms: int
    duration_ms: int = 0
    revision_id: str = ""
    verdict: str | None = None
    http_status: int | None = None
    error: str | None = None
    request: str = ""
    response: str | None = None
    detail: str | None = None


PENDING = "pending"


def due(
    connection: sqlite3.Connection,
    pipeline_integration_id: str,
    now_ms: int,
    limit: int,
    limit_bytes: int,
    under_way: frozenset[int] = frozenset(),
) -> Page:
    """Up to `limit` deliveries of an attachment whose time has come, the oldest first, without `under_way`.

    It stops early once their bodies pass `limit_bytes`, so memory stays flat however many wait.
    """
    rows = connection.execute(
        """
        SELECT d.id, d.attempts, e.message_id, e.body, i.consent
          FROM deliveries AS d
          JOIN events AS e ON e.offset = d.offset
          LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
         WHERE d.pipeline_integration_id = ? AND d.status = 'pending' AND d.next_attempt_at_ms <= ?
         ORDER BY d.next_attempt_at_ms, d.id
         LIMIT ?
        """,
        (pipeline_integration_id, now_ms, limit + len(under_way)),
    )
    found: list[Due] = []
    size_bytes = 0
    for row in rows:
        if row["id"] in under_way:
            continue
        found.append(Due(*row))
        size_bytes += len(row["body"])
        if len(found) >= limit or size_bytes > limit_bytes:
            return Page(found, now_ms)
    return Page(found, _next_due_at_ms(connection, pipeline_integration_id, now_ms))


def _next_due_at_ms(connection: sqlite3.Connection, pipeline_integration_id: str, now_ms: int) -> int | None:
    row = connection.execute(
        """
        SELECT next_attempt_at_ms FROM deliveries
         WHERE pipeline_integration_id = ? AND status = 'pending' AND next_attempt_at_ms > ?
         ORDER BY next_attempt_at_ms LIMIT 1
        """,
        (pipeline_integration_id, now_ms),
    ).fetchone()
    return None if row is None else row[0]


def pull_back(
    connection: sqlite3.Connection, pipeline_integration_id: str, latest_ms: int, now_ms: int
) -> None:
    """Make due what a clock that was ahead put off beyond `latest_ms`."""
    connection.execute(
        """
        UPDATE deliveries SET next_attempt_at_ms = ?
         WHERE pipeline_integration_id = ? AND status = 'pending' AND next_attempt_at_ms > ?
        """,
        (now_ms, pipeline_integration_id, latest_ms),
    )


def record_attempts(connection: sqlite3.Connection, items: Sequence[Attempted]) -> list[None]:
    """Keep the attempts and move their deliveries on.

    The number of an attempt rises through replays, `deliveries.attempts` begins again with each. A
    delivery that was deleted or finished meanwhile (an erasure, a user) is left as it is.
    """
    connection.executemany(
        """
        INSERT INTO delivery_attempts (delivery_id, attempt,
               at_ms, duration_ms, revision_id, verdict, status, error, request, response)
        SELECT d.id, 1 + coalesce((SELECT max(attempt) FROM delivery_attempts WHERE delivery_id = d.id), 0),
               ?, ?, ?, ?, ?, ?, ?, ?
          FROM deliveries AS d WHERE d.id = ?
        """,
        [
            (
                one.at_ms,
                one.duration_ms,
                one.revision_id,
                one.verdict,
                one.http_status,
                one.error,
                one.request,
                one.response,
                one.delivery_id,
            )
            for one in items
            if one.verdict is not None
        ],
    )
    connection.executemany(
        """
        UPDATE deliveries
           SET status = ?, reason = ?, detail = ?, attempts = ?, next_attempt_at_ms = ?, finished_at_ms = ?
         WHERE id = ? AND (status = 'pending'
               -- it was dropped while the vendor took the event: delivered is what it is
               OR (status = 'dropped' AND reason IN ('detached', 'consent') AND ?1 = 'delivered'))
        """,
        [
            (
                one.status,
                one.reason,
                one.detail,
                one.attempts,
                one.next_attempt_at_ms,
                None if one.status == PENDING else one.at_ms + one.duration_ms,
                one.delivery_id,
            )
            for one in items
        ],
    )
    return [None] * len(items)


def pause_attachment(
    connection: sqlite3.Connection, pipeline_integration_id: str, revision_id: str, trouble: str, now_ms: int
) -> None:
    """Stop sending and say why; what waits, waits. A newer revision than the failed one is left alone."""
    connection.execute(
        """
        UPDATE pipeline_integrations SET mode = 'paused', trouble = ?, updated_at_ms = ?
         WHERE id = ? AND revision_id = ? AND mode = 'live'
        """,
        (trouble, now_ms, pipeline_integration_id, revision_id),
    )


def disable_attachment(
    connection: sqlite3.Connection, pipeline_integration_id: str, revision_id: str, trouble: str, now_ms: int
) -> None:
    """As `pause_attachment`, and no new deliveries are queued for it either."""
    connection.execute(
        """
        UPDATE pipeline_integrations SET enabled = 0, trouble = ?, updated_at_ms = ?
         WHERE id = ? AND revision_id = ? AND enabled = 1
        """,
        (trouble, now_ms, pipeline_integration_id, revision_id),
    )


def replay(connection: sqlite3.Connection, delivery_ids: Iterable[int], now_ms: int) -> int:
    """Queue dead letters again with all their attempts before them; how many there were."""
    return connection.executemany(
        """
        UPDATE deliveries
           SET status = 'pending', reason = NULL, detail = NULL, attempts = 0,
               next_attempt_at_ms = ?, finished_at_ms = NULL
         WHERE id = ? AND status = 'dead'
        """,
        [(now_ms, one) for one in delivery_ids],
    ).rowcount

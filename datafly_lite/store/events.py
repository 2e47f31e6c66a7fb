"""Processed events and what they cause, written as one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import NamedTuple

from datafly_lite.store import counters, visitors
from datafly_lite.store.tallies import Tally
from datafly_lite.store.visitors import VisitorChanges

DROPPED = "event_dropped:"
"""A counter's name: before the reason why an event went to no integration at all."""


class EventRow(NamedTuple):
    """A row of `events`, in the table's order."""

    offset: int
    pipeline_id: str
    message_id: str
    type: str
    event: str | None
    anonymous_id: str | None
    user_id: str | None
    received_at_ms: int
    processed_at_ms: int
    drop_reason: str | None
    detail: str | None
    steps: str
    data_layer_version: int
    consent_settings_version: int
    inputs: str
    program: str
    body: bytes


class DeliveryRow(NamedTuple):
    """A new row of `deliveries`."""

    offset: int
    pipeline_id: str
    pipeline_integration_id: str
    revision_id: str
    anonymous_id: str | None
    status: str
    reason: str | None
    detail: str | None
    next_attempt_at_ms: int
    created_at_ms: int
    finished_at_ms: int | None
    steps: str


class ConsentChangeRow(NamedTuple):
    """A visitor's choices before and after an event. `withdrawn` are the categories that it took back, in
    words, and `attachment_ids` those that may no longer send for the visitor.
    """

    offset: int
    pipeline_id: str
    anonymous_id: str
    choices_before: str
    choices: str
    at_ms: int
    withdrawn: str
    attachment_ids: tuple[str, ...]


class Changes(NamedTuple):
    """One batch of the processor; `offset` is its last event's."""

    offset: int
    events: list[EventRow]
    deliveries: list[DeliveryRow]
    visitors: VisitorChanges
    consent_changes: list[ConsentChangeRow]
    processed_at_ms: int


def position(connection: sqlite3.Connection, consumer: str) -> int:
    """The offset that the consumer has finished with; 0 at first."""
    row = connection.execute("SELECT offset FROM offsets WHERE consumer = ?", (consumer,)).fetchone()
    return int(row[0]) if row else 0


def write_processed(connection: sqlite3.Connection, consumer: str, changes: Changes) -> None:
    """The outbox: events, deliveries, what is known of visitors, and the consumer's offset."""
    marks = ", ".join("?" * len(EventRow._fields))
    connection.executemany(f"INSERT INTO events VALUES ({marks})", changes.events)  # noqa: S608 - only marks
    connection.executemany(
        """
        INSERT INTO deliveries (offset, pipeline_id, pipeline_integration_id, revision_id, anonymous_id,
               status, reason, detail, next_attempt_at_ms, created_at_ms, finished_at_ms, steps)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        changes.deliveries,
    )
    if changes.deliveries:
        _drop_detached(connection, changes.deliveries[0])
    for change in changes.consent_changes:
        _write_consent_change(connection, change, changes.processed_at_ms)
    _count(connection, changes)
    visitors.write(connection, changes.visitors)
    connection.execute(
        "INSERT INTO offsets VALUES (?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset",
        (consumer, changes.offset),
    )


def _write_consent_change(connection: sqlite3.Connection, change: ConsentChangeRow, now_ms: int) -> None:
    """With a withdrawal, what still waits for what is no longer consented to is cancelled, and counted."""
    cancelled = 0
    for attachment_id in change.attachment_ids:
        cancelled += connection.execute(
            """
            UPDATE deliveries SET status = 'dropped', reason = 'consent', detail = ?, finished_at_ms = ?
             WHERE anonymous_id = ? AND status = 'pending' AND offset < ? AND pipeline_integration_id = ?
            """,
            (f"withdrawn: {change.withdrawn}", now_ms, change.anonymous_id, change.offset, attachment_id),
        ).rowcount
    connection.execute(
        "INSERT INTO consent_changes VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            change.offset,
            change.pipeline_id,
            change.anonymous_id,
            change.choices_before,
            change.choices,
            cancelled,
            change.at_ms,
        ),
    )


def _count(connection: sqlite3.Connection, changes: Changes) -> None:
    """What the processor says it did; the triggers say what became of it (schema.sql, Figures)."""
    happened = Counter((row.processed_at_ms, row.pipeline_id, "processed") for row in changes.events)
    happened.update(
        (row.processed_at_ms, row.pipeline_id, DROPPED + row.drop_reason)
        for row in changes.events
        if row.drop_reason is not None
    )
    counters.count(connection, [Tally(*key, number) for key, number in happened.items()])
    matched = Counter((row.pipeline_integration_id, row.created_at_ms) for row in changes.deliveries)
    connection.executemany(
        """
        INSERT INTO delivery_counts VALUES (?, 'matched', ?, ?)
            ON CONFLICT DO UPDATE SET value = value + excluded.value, last_at_ms = excluded.last_at_ms
        """,
        [(attachment_id, number, at_ms) for (attachment_id, at_ms), number in matched.items()],
    )


def _drop_detached(connection: sqlite3.Connection, first: DeliveryRow) -> None:
    """An integration may have been detached since the batch was routed: nobody would send for it."""
    connection.execute(
        """
        UPDATE deliveries SET status = 'dropped', reason = 'detached', finished_at_ms = ?
         WHERE offset >= ? AND status = 'pending' AND pipeline_integration_id IN (
               SELECT a.id FROM pipeline_integrations AS a JOIN pipelines AS p ON p.id = a.pipeline_id
                WHERE a.detached_at_ms IS NOT NULL OR p.deleted_at_ms IS NOT NULL)
        """,
        (first.created_at_ms, first.offset),
    )


def at(connection: sqlite3.Connection, offset: int) -> sqlite3.Row | None:
    """The processed event at `offset`."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM events WHERE offset = ?", (offset,)
    ).fetchone()
    return row


def deliveries_of(connection: sqlite3.Connection, offset: int) -> list[sqlite3.Row]:
    """The event's deliveries, with the names of their integrations where those still exist."""
    return connection.execute(
        """
        SELECT d.*, i.name AS integration_name, i.vendor, r.revision_number
          FROM deliveries AS d
          LEFT JOIN pipeline_integrations AS a ON a.id = d.pipeline_integration_id
          LEFT JOIN integrations AS i ON i.id = a.integration_id
          LEFT JOIN revisions AS r ON r.id = d.revision_id
         WHERE d.offset = ? ORDER BY d.id
        """,
        (offset,),
    ).fetchall()


def attempts_of(connection: sqlite3.Connection, delivery_id: int) -> list[sqlite3.Row]:
    """All attempts of a delivery, oldest first."""
    return connection.execute(
        "SELECT * FROM delivery_attempts WHERE delivery_id = ? ORDER BY attempt", (delivery_id,)
    ).fetchall()


def consent_change_of(connection: sqlite3.Connection, offset: int) -> sqlite3.Row | None:
    """What the event changed of its visitor's consent."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM consent_changes WHERE offset = ?", (offset,)
    ).fetchone()
    return row

"""Processed events and what they cause, written as one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import NamedTuple

from datafly_lite.store import counters
from datafly_lite.store.tallies import Tally

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
    steps: str
    inputs: str
    program: str
    body: bytes


class DeliveryRow(NamedTuple):
    """A new row of `deliveries`."""

    offset: int
    pipeline_id: str
    pipeline_integration_id: str
    status: str
    reason: str | None
    next_attempt_at_ms: int
    created_at_ms: int
    finished_at_ms: int | None
    steps: str


class IdentityRow(NamedTuple):
    """What is now known of a visitor."""

    anonymous_id: str
    user_id: str | None
    group_id: str | None
    first_seen_at_ms: int
    last_seen_at_ms: int


class LinkRow(NamedTuple):
    """A visitor and a user, and the event that joined them."""

    anonymous_id: str
    user_id: str
    offset: int
    linked_at_ms: int


class Changes(NamedTuple):
    """One batch of the processor; `offset` is its last event's."""

    offset: int
    events: list[EventRow]
    deliveries: list[DeliveryRow]
    identities: list[IdentityRow]
    links: list[LinkRow]


def position(connection: sqlite3.Connection, consumer: str) -> int:
    """The offset that the consumer has finished with; 0 at first."""
    row = connection.execute("SELECT offset FROM offsets WHERE consumer = ?", (consumer,)).fetchone()
    return int(row[0]) if row else 0


def write_processed(connection: sqlite3.Connection, consumer: str, changes: Changes) -> None:
    """The outbox: events, deliveries, identities, links and the consumer's offset."""
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", changes.events
    )
    connection.executemany(
        """
        INSERT INTO deliveries (offset, pipeline_id, pipeline_integration_id, status, reason,
                                next_attempt_at_ms, created_at_ms, finished_at_ms, steps)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        changes.deliveries,
    )
    if changes.deliveries:
        _drop_detached(connection, changes.deliveries[0])
    _count(connection, changes)
    connection.executemany(
        """
        INSERT INTO identities VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (anonymous_id) DO UPDATE
            SET user_id = excluded.user_id,
                group_id = excluded.group_id,
                last_seen_at_ms = excluded.last_seen_at_ms
        """,
        changes.identities,
    )
    connection.executemany("INSERT OR IGNORE INTO identity_links VALUES (?, ?, ?, ?)", changes.links)
    connection.execute(
        "INSERT INTO offsets VALUES (?, ?) ON CONFLICT DO UPDATE SET offset = excluded.offset",
        (consumer, changes.offset),
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
        SELECT d.*, i.name AS integration_name, i.vendor
          FROM deliveries AS d
          LEFT JOIN pipeline_integrations AS a ON a.id = d.pipeline_integration_id
          LEFT JOIN integrations AS i ON i.id = a.integration_id
         WHERE d.offset = ? ORDER BY d.id
        """,
        (offset,),
    ).fetchall()


def attempts_of(connection: sqlite3.Connection, delivery_id: int) -> list[sqlite3.Row]:
    """All attempts of a delivery, oldest first."""
    return connection.execute(
        "SELECT * FROM delivery_attempts WHERE delivery_id = ? ORDER BY attempt", (delivery_id,)
    ).fetchall()

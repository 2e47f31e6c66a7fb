"""What the processor knows of the visitors of a batch: read before it, written with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple


class Wanted(NamedTuple):
    """Whom and what a batch is about. Users are those that its events name themselves."""

    anonymous_ids: Collection[str]
    pipeline_ids: Collection[str]
    user_ids: Collection[str]
    group_ids: Collection[str]
    digests: Collection[bytes]


class Found(NamedTuple):
    """Rows of identities, sessions, profiles (of the visitors' known users too) and idempotency_keys."""

    identities: list[sqlite3.Row]
    sessions: list[sqlite3.Row]
    profiles: list[sqlite3.Row]
    keys: list[sqlite3.Row]


class IdentityRow(NamedTuple):
    """A row of `identities`."""

    anonymous_id: str
    user_id: str | None
    linked_at_ms: int
    group_id: str | None
    vendor_ids: str
    consent: str
    first_seen_at_ms: int
    last_seen_at_ms: int


class LinkRow(NamedTuple):
    """A visitor and a user, and the event that joined them."""

    anonymous_id: str
    user_id: str
    offset: int
    linked_at_ms: int


class ProfileRow(NamedTuple):
    """A row of `profiles`."""

    kind: str
    id: str
    traits: str
    set_at_ms: str


class SessionRow(NamedTuple):
    """A row of `sessions`."""

    pipeline_id: str
    anonymous_id: str
    id: str
    number: int
    started_at_ms: int
    last_at_ms: int
    ends_at_ms: int | None
    has_start: bool


class VisitorChanges(NamedTuple):
    """What a batch changes. `keys` are (digest, offset, at_ms)."""

    identities: list[IdentityRow]
    links: list[LinkRow]
    profiles: list[ProfileRow]
    sessions: list[SessionRow]
    keys: list[tuple[bytes, int, int]]


def read(connection: sqlite3.Connection, wanted: Wanted) -> Found:
    """All of it, in one snapshot."""
    identities = _among(connection, "SELECT * FROM identities WHERE anonymous_id IN", wanted.anonymous_ids)
    users = {*wanted.user_ids, *(row["user_id"] for row in identities if row["user_id"])}
    profiles = _among(connection, "SELECT * FROM profiles WHERE kind = 'user' AND id IN", users)
    profiles += _among(connection, "SELECT * FROM profiles WHERE kind = 'group' AND id IN", wanted.group_ids)
    sessions = [
        row
        for pipeline_id in wanted.pipeline_ids
        for row in _among(
            connection,
            "SELECT * FROM sessions WHERE pipeline_id = ? AND anonymous_id IN",
            wanted.anonymous_ids,
            pipeline_id,
        )
    ]
    keys = _among(connection, "SELECT * FROM idempotency_keys WHERE digest IN", wanted.digests)
    return Found(identities, sessions, profiles, keys)


def _among(
    connection: sqlite3.Connection, sql: str, values: Collection[str | bytes], *first: str
) -> list[sqlite3.Row]:
    if not values:
        return []
    marks = ", ".join("?" * len(values))
    return connection.execute(f"{sql} ({marks})", (*first, *values)).fetchall()


def write(connection: sqlite3.Connection, changes: VisitorChanges) -> None:
    """Rows as they are after the batch; of a link the first event, unless it was undone meanwhile."""
    connection.executemany(
        "INSERT OR REPLACE INTO identities VALUES (?, ?, ?, ?, ?, ?, ?, ?)", changes.identities
    )
    connection.executemany(
        """
        INSERT INTO identity_links (anonymous_id, user_id, offset, linked_at_ms) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE
            SET offset = excluded.offset, linked_at_ms = excluded.linked_at_ms, unlinked_at_ms = NULL
          WHERE unlinked_at_ms IS NOT NULL
        """,
        changes.links,
    )
    connection.executemany("INSERT OR REPLACE INTO profiles VALUES (?, ?, ?, ?)", changes.profiles)
    connection.executemany(
        "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", changes.sessions
    )
    connection.executemany("INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?)", changes.keys)


def ending(connection: sqlite3.Connection, now_ms: int, limit: int) -> list[sqlite3.Row]:
    """Sessions whose session_end is due, the oldest first."""
    return connection.execute(
        "SELECT * FROM sessions WHERE ends_at_ms <= ? ORDER BY ends_at_ms LIMIT ?", (now_ms, limit)
    ).fetchall()


def has_keys(connection: sqlite3.Connection, before_ms: int) -> bool:
    """Whether there are idempotency keys as old as that."""
    sql = "SELECT 1 FROM idempotency_keys WHERE at_ms < ? LIMIT 1"
    return connection.execute(sql, (before_ms,)).fetchone() is not None


def forget_keys(connection: sqlite3.Connection, before_ms: int) -> None:
    """Idempotency keys that no window reaches any more."""
    connection.execute("DELETE FROM idempotency_keys WHERE at_ms < ?", (before_ms,))

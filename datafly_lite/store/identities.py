"""What is known of visitors, read for people, and a link that a person undoes.

The processor writes these rows (visitors.py). `unlink` must not come between what it reads and what it
writes: hand it to `Processor.alone`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

CONDITIONS = {
    "anonymous_id": "anonymous_id = :anonymous_id",
    "user_id": "user_id = :user_id",
    "group_id": "group_id = :group_id",
}
INDEXED = {"anonymous_id", "user_id", "group_id"}
"""What an index finds without looking at other visitors."""

SCANNED_VISITORS = 50_000
"""Most visitors that one page looks at where no index finds them."""

RECENT_EVENTS = 1_000
"""So many events are looked at for the visitors who were there last: no index is in the order of their
times, because each event would have to move its visitor in it."""

MOST_LINKS = 100
MOST_VISITORS_OF_A_USER = 100
MOST_CONSENT_CHANGES = 50


class VisitorPage(NamedTuple):
    """Rows, and beyond which anonymous id to go on; None where there are no more."""

    rows: list[sqlite3.Row]
    after: str | None


def page(connection: sqlite3.Connection, filters: Mapping[str, Any], after: str, limit: int) -> VisitorPage:
    """Up to `limit` visitors beyond the id `after`, in the order of their ids, which never moves while the
    times do. `filters` has names of CONDITIONS.

    A page can be short, or empty, while there is more: it looks at SCANNED_VISITORS at most.
    """
    is_direct = "anonymous_id" in filters or (len(filters) < 2 and filters.keys() <= INDEXED)
    edge = None if is_direct else _edge(connection, filters, after)
    bound = "" if edge is None else " AND anonymous_id <= :edge"
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in filters)
    rows = connection.execute(
        f"""
        SELECT * FROM identities WHERE anonymous_id > :after{bound}{conditions}
         ORDER BY anonymous_id LIMIT :limit
        """,  # noqa: S608 - only texts of CONDITIONS
        {**filters, "after": after, "edge": edge, "limit": limit + 1},
    ).fetchall()
    if len(rows) > limit:
        return VisitorPage(rows[:limit], rows[limit - 1]["anonymous_id"])
    return VisitorPage(rows, edge)


def _edge(connection: sqlite3.Connection, filters: Mapping[str, Any], after: str) -> str | None:
    """The last id that a page may look at; None where all that is left is few enough."""
    found = {name: value for name, value in filters.items() if name in INDEXED}
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in found)
    row = connection.execute(
        f"""
        SELECT anonymous_id FROM identities WHERE anonymous_id > :after{conditions}
         ORDER BY anonymous_id LIMIT 1 OFFSET :scanned
        """,  # noqa: S608 - only texts of CONDITIONS
        {**found, "after": after, "scanned": SCANNED_VISITORS - 1},
    ).fetchone()
    return None if row is None else str(row[0])


def recent(connection: sqlite3.Connection, limit: int) -> list[sqlite3.Row]:
    """The visitors of the newest RECENT_EVENTS events, who was there last first."""
    return connection.execute(
        """
        SELECT i.* FROM (
            SELECT anonymous_id, max(offset) AS newest
              FROM (SELECT anonymous_id, offset FROM events ORDER BY offset DESC LIMIT :events)
             GROUP BY anonymous_id) AS e
          JOIN identities AS i ON i.anonymous_id = e.anonymous_id
         ORDER BY e.newest DESC LIMIT :limit
        """,
        {"events": RECENT_EVENTS, "limit": limit},
    ).fetchall()


def one(connection: sqlite3.Connection, anonymous_id: str) -> sqlite3.Row | None:
    """The visitor's row."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM identities WHERE anonymous_id = ?", (anonymous_id,)
    ).fetchone()
    return row


def links(connection: sqlite3.Connection, anonymous_id: str) -> list[sqlite3.Row]:
    """The visitor's newest MOST_LINKS, newest first, each with pipeline_id and message_id of its event."""
    return connection.execute(
        """
        SELECT l.user_id, l.linked_at_ms, l.unlinked_at_ms, e.pipeline_id, e.message_id
          FROM identity_links AS l LEFT JOIN events AS e ON e.offset = l.offset
         WHERE l.anonymous_id = ? ORDER BY l.linked_at_ms DESC, l.offset DESC LIMIT ?
        """,
        (anonymous_id, MOST_LINKS),
    ).fetchall()


def others_of(connection: sqlite3.Connection, user_id: str, anonymous_id: str) -> list[sqlite3.Row]:
    """Other visitors who are the same user now: the first MOST_VISITORS_OF_A_USER, by their ids."""
    return connection.execute(
        """
        SELECT anonymous_id, first_seen_at_ms, last_seen_at_ms FROM identities
         WHERE user_id = ? AND anonymous_id <> ? ORDER BY anonymous_id LIMIT ?
        """,
        (user_id, anonymous_id, MOST_VISITORS_OF_A_USER),
    ).fetchall()


def traits(connection: sqlite3.Connection, kind: str, id_: str | None) -> str:
    """JSON: what is known of a `user` or `group`."""
    row = connection.execute("SELECT traits FROM profiles WHERE kind = ? AND id = ?", (kind, id_)).fetchone()
    return "{}" if row is None else str(row[0])


def sessions(connection: sqlite3.Connection, anonymous_id: str) -> list[sqlite3.Row]:
    """The visitor's newest session on each pipeline, with the pipeline's name, newest first."""
    return connection.execute(
        """
        SELECT s.*, p.name AS pipeline_name
          FROM pipelines AS p CROSS JOIN sessions AS s ON s.pipeline_id = p.id AND s.anonymous_id = ?
         ORDER BY s.last_at_ms DESC
        """,  # CROSS: in this order of the tables, the sessions' own key finds them
        (anonymous_id,),
    ).fetchall()


def consent_changes(connection: sqlite3.Connection, anonymous_id: str) -> list[sqlite3.Row]:
    """The newest MOST_CONSENT_CHANGES, newest first, each with message_id of its event."""
    return connection.execute(
        """
        SELECT c.*, e.message_id
          FROM consent_changes AS c LEFT JOIN events AS e ON e.offset = c.offset
         WHERE c.anonymous_id = ? ORDER BY c.offset DESC LIMIT ?
        """,
        (anonymous_id, MOST_CONSENT_CHANGES),
    ).fetchall()


def unlink(connection: sqlite3.Connection, anonymous_id: str, user_id: str, now_ms: int) -> bool:
    """Undo the link; where it is the visitor's present one, forget user and group. False: there is none."""
    is_linked = connection.execute(
        """
        UPDATE identity_links SET unlinked_at_ms = ?
         WHERE anonymous_id = ? AND user_id = ? AND unlinked_at_ms IS NULL
        """,
        (now_ms, anonymous_id, user_id),
    ).rowcount
    connection.execute(
        """
        UPDATE identities SET user_id = NULL, linked_at_ms = 0, group_id = NULL
         WHERE anonymous_id = ? AND user_id = ? AND ?
        """,
        (anonymous_id, user_id, is_linked),
    )
    return bool(is_linked)

"""The log's rows: append with deduplication, read by offset, find by messageId."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from datafly_lite.events import Arrival, encode_envelope

SEGMENT_ROWS = 250_000
"""At half a million random ids one segment's inserts cost half as much again (stack.md)."""
SEGMENT_MS = 12 * 3_600_000
DAY_MS = 86_400_000


class Appended(NamedTuple):
    """Where an event stands in the log. A duplicate stands where its first copy does."""

    offset: int
    duplicate: bool


class Append(NamedTuple):
    """The events of one request: stored all or none."""

    arrivals: Sequence[Arrival]
    window_days: int


class _Segments(NamedTuple):
    """`current` takes inserts; `older` ones inside the window are asked too."""

    current: int
    older: tuple[int, ...]


def digest(pipeline_id: str, message_id: str) -> bytes:
    """The key of a messageId, which is unique for each pipeline."""
    return hashlib.blake2b(f"{pipeline_id}\0{message_id}".encode(), digest_size=16).digest()


def append(connection: sqlite3.Connection, items: list[Append]) -> list[list[Appended]]:
    """Store what is new, in order; one list of results an item. A batched function of the writer."""
    received_at_ms = items[0].arrivals[0].envelope.received_at_ms
    segments = _segments(connection, received_at_ms, items[0].window_days * DAY_MS)
    first = offset = _end(connection) + 1
    rows: list[tuple[int, str, int, bytes, bytes]] = []
    counts: Counter[tuple[str, str]] = Counter()
    results: list[list[Appended]] = []
    for item in items:
        placed: list[Appended] = []
        for arrival in item.arrivals:
            key = digest(arrival.pipeline_id, arrival.envelope.message_id)
            seen_at = _claim(connection, segments, key, offset)
            placed.append(Appended(seen_at or offset, seen_at is not None))
            counts[arrival.pipeline_id, "stored" if seen_at is None else "duplicates"] += 1
            if seen_at is None:
                envelope = arrival.envelope
                rows.append(
                    (
                        offset,
                        arrival.pipeline_id,
                        envelope.received_at_ms,
                        encode_envelope(envelope),
                        arrival.raw,
                    )
                )
                offset += 1
        results.append(placed)
    connection.executemany("INSERT INTO raw_events VALUES (?, ?, ?, ?, ?)", rows)
    _count(connection, counts, segments.current, offset - first)
    return results


def _claim(connection: sqlite3.Connection, segments: _Segments, key: bytes, offset: int) -> int | None:
    """None where the id is new and now taken; else the offset that has it."""
    if segments.older:
        found = connection.execute(_older_sql(len(segments.older)), (key, *segments.older)).fetchone()
        if found:
            return int(found[0])
    claimed = connection.execute(
        "INSERT OR IGNORE INTO message_ids VALUES (?, ?, ?)", (segments.current, key, offset)
    )
    if claimed.rowcount:
        return None
    found = connection.execute(_older_sql(1), (key, segments.current)).fetchone()
    return int(found[0])


def _older_sql(count: int) -> str:
    return f"SELECT offset FROM message_ids WHERE digest = ? AND segment IN ({', '.join('?' * count)})"  # noqa: S608 - only marks


def _segments(connection: sqlite3.Connection, now_ms: int, window_ms: int) -> _Segments:
    """The segments of now; opens a new one when the newest is old or full."""
    rows = connection.execute(
        "SELECT segment, opened_at_ms, rows FROM message_id_segments ORDER BY segment"
    ).fetchall()
    opened = [(row["segment"], row["opened_at_ms"]) for row in rows]
    if not rows or rows[-1]["rows"] >= SEGMENT_ROWS or now_ms - rows[-1]["opened_at_ms"] >= SEGMENT_MS:
        opened.append((opened[-1][0] + 1 if opened else 1, now_ms))
        connection.execute("INSERT INTO message_id_segments VALUES (?, ?, 0)", opened[-1])
    # A segment took its last id when the next one opened: until that is out of the window it counts.
    older = [one for (one, _), (_, closed_ms) in pairwise(opened) if now_ms - closed_ms < window_ms]
    return _Segments(opened[-1][0], tuple(older))


def _end(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'raw_events'").fetchone()
    return int(row[0]) if row else 0


def _count(
    connection: sqlite3.Connection, counts: Counter[tuple[str, str]], segment: int, stored: int
) -> None:
    connection.execute("UPDATE message_id_segments SET rows = rows + ? WHERE segment = ?", (stored, segment))
    connection.executemany(
        "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(pipeline_id, name, value) for (pipeline_id, name), value in counts.items()],
    )


def end(connection: sqlite3.Connection) -> int:
    """The offset of the newest event, 0 in an empty log."""
    return _end(connection)


def after(connection: sqlite3.Connection, offset: int, limit: int) -> list[sqlite3.Row]:
    """Up to `limit` rows beyond `offset`, oldest first."""
    return connection.execute(
        "SELECT * FROM raw_events WHERE offset > ? ORDER BY offset LIMIT ?", (offset, limit)
    ).fetchall()


def at(connection: sqlite3.Connection, offset: int) -> sqlite3.Row | None:
    """The row at `offset`."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM raw_events WHERE offset = ?", (offset,)
    ).fetchone()
    return row


def find(connection: sqlite3.Connection, pipeline_id: str, message_id: str) -> int | None:
    """The offset of the newest event with this messageId."""
    row = connection.execute(
        """
        SELECT offset FROM message_ids
         WHERE digest = ? AND segment IN (SELECT segment FROM message_id_segments)
         ORDER BY offset DESC LIMIT 1
        """,
        (digest(pipeline_id, message_id),),
    ).fetchone()
    return int(row[0]) if row else None

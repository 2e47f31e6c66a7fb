"""Which messageIds are in the log, and where: exact inside the window, whatever the log's size."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from operator import itemgetter

SEGMENT_ROWS = 100_000
"""Sorted into a segment at once: about 0.15 s of the writer, once in so many events."""
SEGMENT_MS = 86_400_000
KEYS_A_QUERY = 100


def digest(pipeline_id: str, message_id: str) -> bytes:
    """The key of a messageId, which is unique for each pipeline."""
    return hashlib.blake2b(f"{pipeline_id}\0{message_id}".encode(), digest_size=16).digest()


def find(connection: sqlite3.Connection, pipeline_id: str, message_id: str) -> int | None:
    """The offset of the newest event with this messageId."""
    key = digest(pipeline_id, message_id)
    row = connection.execute(
        """
        SELECT max(offset) FROM (
            SELECT offset FROM recent_message_ids WHERE digest = ?
            UNION ALL
            SELECT offset FROM message_ids
             WHERE digest = ? AND segment IN (SELECT segment FROM message_id_segments)
        )
        """,
        (key, key),
    ).fetchone()
    return None if row[0] is None else int(row[0])


class Seen:
    """The writer's view: the recent ids in memory, the segments of the window in the table.

    Only the writer's thread uses it. Its memory runs ahead of a transaction that fails; `open` sees
    that by what the table lacks, and reads it anew.
    """

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._recent: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}
        self._new: list[tuple[int, bytes]] = []
        self._top = 0
        """The highest offset given out: beyond the log's end where its transaction failed."""
        self._closes_at_ms = 0
        self._closed = -1  # no segment: nothing is loaded yet
        self._segments: tuple[int, ...] = ()
        self._next_look_ms = 0

    def open(self, connection: sqlite3.Connection, end: int, now_ms: int, keys: Sequence[bytes]) -> None:
        """Begin a batch of the writer that asks for `keys`; `end` is the newest event's offset."""
        if self._is_ahead(connection, end):
            self._load(connection, now_ms)
            self._top = end
        self._new = []
        if len(self._recent) >= SEGMENT_ROWS or now_ms >= self._closes_at_ms:
            self._close_segment(connection, now_ms)
        if now_ms >= self._next_look_ms:
            self._look(connection, now_ms)
        self._older = {}
        for start in range(0, len(keys) if self._segments else 0, KEYS_A_QUERY):
            self._older |= self._in_segments(connection, keys[start : start + KEYS_A_QUERY])

    def take(self, connection: sqlite3.Connection, key: bytes, offset: int, now_ms: int) -> int | None:
        """None where the id is new in the window, and now stands at `offset`; else where it stands."""
        found = self._recent.get(key) or self._older.get(key)
        if found is not None and (
            found >= offset - len(self._new) or self._is_inside(connection, found, now_ms)
        ):
            return found
        self._recent[key] = offset
        self._new.append((offset, key))
        self._top = offset
        return None

    def save(self, connection: sqlite3.Connection) -> None:
        """Write what was taken in this batch."""
        connection.executemany("INSERT INTO recent_message_ids VALUES (?, ?)", self._new)

    def _is_ahead(self, connection: sqlite3.Connection, end: int) -> bool:
        if self._top > end:
            return True
        sql = "SELECT max(segment) FROM message_id_segments"
        return self._closed != (connection.execute(sql).fetchone()[0] or 0)

    def _load(self, connection: sqlite3.Connection, now_ms: int) -> None:
        rows = connection.execute("SELECT digest, offset FROM recent_message_ids ORDER BY offset").fetchall()
        self._recent = {row[0]: row[1] for row in rows}
        oldest_ms = _received_at_ms(connection, rows[0][1]) if rows else None
        self._closes_at_ms = (now_ms if oldest_ms is None else oldest_ms) + SEGMENT_MS
        self._closed = connection.execute("SELECT max(segment) FROM message_id_segments").fetchone()[0] or 0
        self._next_look_ms = 0

    def _is_inside(self, connection: sqlite3.Connection, offset: int, now_ms: int) -> bool:
        """A segment holds ids of a day, so whether an old one still counts is asked of its event."""
        received_at_ms = _received_at_ms(connection, offset)
        return received_at_ms is not None and now_ms - received_at_ms < self._window_ms

    def _in_segments(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, int]:
        segments, digests = ", ".join("?" * len(self._segments)), ", ".join("?" * len(keys))
        sql = (
            "SELECT digest, offset FROM message_ids"  # noqa: S608 - only marks
            f" WHERE segment IN ({segments}) AND digest IN ({digests})"
        )
        rows = connection.execute(sql, (*self._segments, *keys)).fetchall()
        return dict(sorted(map(tuple, rows), key=itemgetter(1)))  # the newest of two stands

    def _close_segment(self, connection: sqlite3.Connection, now_ms: int) -> None:
        if self._recent:
            made = connection.execute("INSERT INTO message_id_segments (closed_at_ms) VALUES (?)", (now_ms,))
            connection.execute(
                "INSERT OR REPLACE INTO message_ids"
                " SELECT ?, digest, offset FROM recent_message_ids ORDER BY digest, offset",
                (made.lastrowid,),
            )
            connection.execute("DELETE FROM recent_message_ids")
            self._closed = made.lastrowid or 0
        self._recent = {}
        self._closes_at_ms = now_ms + SEGMENT_MS
        self._next_look_ms = 0

    def _look(self, connection: sqlite3.Connection, now_ms: int) -> None:
        """Which segments may hold an id of the window: all that were closed inside it."""
        rows = connection.execute("SELECT segment, closed_at_ms FROM message_id_segments").fetchall()
        inside = [(row[0], row[1]) for row in rows if now_ms - row[1] < self._window_ms]
        self._segments = tuple(segment for segment, _ in inside)
        self._next_look_ms = min((closed_ms for _, closed_ms in inside), default=now_ms) + self._window_ms


def _received_at_ms(connection: sqlite3.Connection, offset: int) -> int | None:
    row = connection.execute("SELECT received_at_ms FROM raw_events WHERE offset = ?", (offset,)).fetchone()
    return None if row is None else int(row[0])

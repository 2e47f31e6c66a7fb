"""The log's rows: append with deduplication, read by offset."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from datafly_lite.events import Arrival, encode_envelope
from datafly_lite.store import counters
from datafly_lite.store.message_ids import Seen, digest
from datafly_lite.store.tallies import MINUTE_MS, Tally

DAY_MS = 86_400_000

Row = tuple[int, str, int, bytes, bytes]


class Appended(NamedTuple):
    """Where an event stands in the log. A duplicate stands where its first copy does."""

    offset: int
    duplicate: bool


class Appender:
    """Stores what is new. Its `append` is a batched function of the writer (store/writer.py)."""

    def __init__(self, window_days: int) -> None:
        self._seen = Seen(window_days * DAY_MS)

    def append(
        self, connection: sqlite3.Connection, requests: list[Sequence[Arrival]]
    ) -> list[list[Appended]]:
        """Store the events of each request in order; a list of results for each."""
        before = end(connection)
        keys = [[_key(arrival) for arrival in arrivals] for arrivals in requests]
        now_ms = requests[-1][-1].envelope.received_at_ms
        self._seen.open(connection, before, now_ms, [key for one in keys for key in one])
        rows: list[Row] = []
        results = [
            [
                self._place(connection, arrival, key, before + 1, rows)
                for arrival, key in zip(*one, strict=True)
            ]
            for one in zip(requests, keys, strict=True)
        ]
        connection.executemany("INSERT INTO raw_events VALUES (?, ?, ?, ?, ?)", rows)
        self._seen.save(connection)
        _count(connection, requests, results)
        return results

    def _place(
        self, connection: sqlite3.Connection, arrival: Arrival, key: bytes, first: int, rows: list[Row]
    ) -> Appended:
        envelope = arrival.envelope
        offset = first + len(rows)
        found = self._seen.take(connection, key, offset, envelope.received_at_ms)
        if found is not None:
            return Appended(found, True)
        sealed = encode_envelope(envelope)
        rows.append((offset, arrival.pipeline_id, envelope.received_at_ms, sealed, arrival.raw))
        return Appended(offset, False)


def _key(arrival: Arrival) -> bytes:
    return digest(arrival.pipeline_id, arrival.envelope.message_id)


def _count(
    connection: sqlite3.Connection, requests: list[Sequence[Arrival]], results: list[list[Appended]]
) -> None:
    counts = Counter(
        (
            arrival.envelope.received_at_ms // MINUTE_MS,
            arrival.pipeline_id,
            "duplicates" if placed.duplicate else "stored",
        )
        for arrivals, placements in zip(requests, results, strict=True)
        for arrival, placed in zip(arrivals, placements, strict=True)
    )
    counters.count(
        connection,
        [
            Tally(minute * MINUTE_MS, pipeline_id, name, number)
            for (minute, pipeline_id, name), number in counts.items()
        ],
    )


def end(connection: sqlite3.Connection) -> int:
    """The offset of the newest event, 0 in an empty log."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'raw_events'").fetchone()
    return int(row[0]) if row else 0


def after(connection: sqlite3.Connection, offset: int, limit: int) -> list[sqlite3.Row]:
    """Up to `limit` rows beyond `offset`, oldest first."""
    return connection.execute(
        "SELECT * FROM raw_events WHERE offset > ? ORDER BY offset LIMIT ?", (offset, limit)
    ).fetchall()


def at(connection: sqlite3.Connection, offset: int) -> sqlite3.Row | None:
    """The row at `offset`."""
    row: sqlite3.Row | None
    row = connection.execute("SELECT * FROM raw_events WHERE offset = ?", (offset,)).fetchone()
    return row

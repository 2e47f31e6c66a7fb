"""How often things happened in a minute, an hour and a day: what a chart is drawn from, in bounded time.

They are written in the transaction of what they count: here for the door and the processor, by triggers
of schema.sql for deliveries. So a chart reads a row a bucket, however many events there are.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

SPANS = (MINUTE_MS, HOUR_MS, DAY_MS)
KEPT_MS = {MINUTE_MS: 2 * DAY_MS, HOUR_MS: 92 * DAY_MS}
"""Span -> how long its rows are kept; days stay for ever."""

DROPPED_AT_ONCE_MS = 6 * HOUR_MS
"""Most of a span's age that one transaction drops, so that the one after a long stop is short too."""


class Tally(NamedTuple):
    """Something happened `number` times at a time."""

    at_ms: int
    pipeline_id: str
    name: str
    number: int = 1


class Bucket(NamedTuple):
    """One name's number in one span of time, of one pipeline or all."""

    start_ms: int
    name: str
    number: int


def add(connection: sqlite3.Connection, tallies: Iterable[Tally]) -> None:
    """Count them in the minute, the hour and the day that they belong to."""
    counts: Counter[tuple[int, int, str, str]] = Counter()
    for one in tallies:
        for span_ms in SPANS:
            counts[span_ms, one.at_ms - one.at_ms % span_ms, one.pipeline_id, one.name] += one.number
    connection.executemany(
        "INSERT INTO tallies VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(*key, number) for key, number in counts.items()],
    )


def buckets(
    connection: sqlite3.Connection, span_ms: int, from_ms: int, to_ms: int, pipeline_id: str | None
) -> list[Bucket]:
    """Of the spans that begin at `from_ms` or later and before `to_ms`; None is all pipelines."""
    of_one = "" if pipeline_id is None else " AND pipeline_id = :pipeline_id"
    found = connection.execute(
        f"""
        SELECT start_ms, name, sum(value) FROM tallies
         WHERE span_ms = :span_ms AND start_ms >= :from_ms AND start_ms < :to_ms{of_one}
         GROUP BY start_ms, name ORDER BY start_ms, name
        """,  # noqa: S608 - one of two texts
        {"span_ms": span_ms, "from_ms": from_ms, "to_ms": to_ms, "pipeline_id": pipeline_id},
    )
    return [Bucket(*row) for row in found]


def trim(connection: sqlite3.Connection, now_ms: int) -> None:
    """Drop what is older than KEPT_MS, bit by bit."""
    for span_ms, kept_ms in KEPT_MS.items():
        connection.execute(
            """
            DELETE FROM tallies WHERE span_ms = :span_ms AND start_ms < min(:oldest_ms, :most_ms + (
                   SELECT start_ms FROM tallies WHERE span_ms = :span_ms ORDER BY start_ms LIMIT 1))
            """,
            {"span_ms": span_ms, "oldest_ms": now_ms - kept_ms, "most_ms": DROPPED_AT_ONCE_MS},
        )

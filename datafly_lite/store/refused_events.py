"""What the door refused: written by the second, bounded by age and number, counted for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from datafly_lite.store import counters, tallies
from datafly_lite.store.tallies import Tally

KEPT_FOR_MS = 86_400_000
KEPT_A_PIPELINE = 1_000
"""Also of those without a pipeline: a flood with unknown keys pushes out none of a pipeline's own."""

AGED_OUT_AT_ONCE = 1_000
"""Most rows that one transaction drops for their age, so that the one after a long stop is short too."""

COUNTER = "refused:"

CONDITIONS = {
    "pipeline_id": "r.pipeline_id IS :pipeline_id",
    "code": "r.code = :code",
    "dialect": "r.dialect = :dialect",
    "from_ms": "r.refused_at_ms >= :from_ms",
    "to_ms": "r.refused_at_ms <= :to_ms",
}


class RefusedEvent(NamedTuple):
    """A row before it has an id. `body` is the beginning of what came, `body_size_bytes` all of it."""

    pipeline_id: str | None
    code: str
    message: str
    dialect: str | None
    path: str
    library: str | None
    user_agent: str | None
    origin: str | None
    ip: str | None
    request_id: str | None
    refused_at_ms: int
    body: bytes
    body_size_bytes: int


class Refusals(NamedTuple):
    """Rows to keep, and (pipeline or '', code) -> how many were refused, with or without a row."""

    rows: list[RefusedEvent]
    counts: Mapping[tuple[str, str], int]
    now_ms: int


def add(connection: sqlite3.Connection, given: list[Refusals]) -> list[None]:
    """Keep, count and trim: a batched function of the writer (store/writer.py)."""
    rows = [row for one in given for row in one.rows]
    connection.executemany(
        "INSERT INTO refused_events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
    )
    _count(connection, given)
    for pipeline_id in {row.pipeline_id for row in rows}:
        _trim_number(connection, pipeline_id)
    now_ms = max(one.now_ms for one in given)
    _trim_age(connection, now_ms - KEPT_FOR_MS)
    tallies.trim(connection, now_ms)  # here, because this runs once a minute also where nothing comes
    return [None] * len(given)


def _count(connection: sqlite3.Connection, given: list[Refusals]) -> None:
    happened = [
        Tally(one.now_ms, pipeline_id, COUNTER + code, number)
        for one in given
        for (pipeline_id, code), number in one.counts.items()
    ]
    counters.count(connection, happened)


def _trim_number(connection: sqlite3.Connection, pipeline_id: str | None) -> None:
    connection.execute(
        """
        DELETE FROM refused_events WHERE pipeline_id IS :pipeline_id AND id <= (
            SELECT id FROM refused_events WHERE pipeline_id IS :pipeline_id
             ORDER BY id DESC LIMIT 1 OFFSET :kept)
        """,
        {"pipeline_id": pipeline_id, "kept": KEPT_A_PIPELINE},
    )


def _trim_age(connection: sqlite3.Connection, before_ms: int) -> None:
    """Ids rise with time, so this reads no further than the first row that stays."""
    connection.execute(
        """
        DELETE FROM refused_events WHERE id IN (
            SELECT id FROM refused_events WHERE id < coalesce(
                (SELECT id FROM refused_events WHERE refused_at_ms > :before_ms ORDER BY id LIMIT 1),
                (SELECT max(id) + 1 FROM refused_events))
             ORDER BY id LIMIT :most)
        """,
        {"before_ms": before_ms, "most": AGED_OUT_AT_ONCE},
    )


def page(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, now_ms: int, limit: int
) -> list[sqlite3.Row]:
    """Up to `limit` below the id `before`, newest first, none older than KEPT_FOR_MS.

    `filters` has names of CONDITIONS; a `pipeline_id` of None asks for those without one.
    """
    below = "" if before is None else " AND r.id < :before"
    conditions = "".join(f" AND {CONDITIONS[name]}" for name in filters)
    return connection.execute(
        f"""
        SELECT r.*, p.name AS pipeline_name
          FROM refused_events AS r LEFT JOIN pipelines AS p ON p.id = r.pipeline_id
         WHERE r.refused_at_ms > :oldest_ms{below}{conditions}
         ORDER BY r.id DESC LIMIT :limit
        """,  # noqa: S608 - only texts of CONDITIONS
        {**filters, "before": before, "oldest_ms": now_ms - KEPT_FOR_MS, "limit": limit},
    ).fetchall()


def counts(connection: sqlite3.Connection, pipeline_id: str | None) -> dict[str, int]:
    """Code -> how many were refused since the store was made: of a pipeline, '' is none, None is all."""
    of_one = "" if pipeline_id is None else " AND pipeline_id = :pipeline_id"
    found = connection.execute(
        f"""
        SELECT substr(name, length(:counter) + 1), sum(value) FROM counters
         WHERE substr(name, 1, length(:counter)) = :counter{of_one}
         GROUP BY name ORDER BY sum(value) DESC, name
        """,  # noqa: S608 - one of two texts
        {"counter": COUNTER, "pipeline_id": pipeline_id},
    )
    return {code: number for code, number in found}

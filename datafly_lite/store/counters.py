"""Counters that never fall: of a pipeline, or of none (''), since the store was made."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from datafly_lite.store import tallies
from datafly_lite.store.tallies import Tally


def count(connection: sqlite3.Connection, happened: Sequence[Tally]) -> None:
    """Count what happened, since the beginning and in its minute, hour and day."""
    numbers: Counter[tuple[str, str]] = Counter()
    for one in happened:
        numbers[one.pipeline_id, one.name] += one.number
    connection.executemany(
        "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
        [(*key, number) for key, number in numbers.items()],
    )
    tallies.add(connection, happened)


def totals(connection: sqlite3.Connection) -> dict[str, int]:
    """Name -> its sum over all pipelines."""
    return dict(connection.execute("SELECT name, sum(value) FROM counters GROUP BY name").fetchall())

"""The newest events of a pipeline as they came in, with what their steps took from state: for dry runs."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from datafly_lite.store import raw_events


class RecentEvent(NamedTuple):
    """A row of the log, and the inputs of its processed event as JSON."""

    raw: sqlite3.Row
    inputs: str


class Recent(NamedTuple):
    """Newest first, and how many more there would have been but for their size."""

    events: list[RecentEvent]
    left_out: int


def newest(connection: sqlite3.Connection, pipeline_id: str | None, most: int, most_bytes: int) -> Recent:
    """Up to `most` processed events that together have `most_bytes` at most; of all pipelines for None.

    The log is asked for one row after the other, because what is left out can be large.
    """
    chosen = connection.execute(
        f"""
        SELECT offset, inputs FROM events
         {"" if pipeline_id is None else "WHERE pipeline_id = :pipeline_id"}
         ORDER BY offset DESC LIMIT :most
        """,  # noqa: S608 - one of two texts
        {"pipeline_id": pipeline_id, "most": most},
    ).fetchall()
    found: list[RecentEvent] = []
    size_bytes = 0
    for number, (offset, inputs) in enumerate(chosen):
        raw = raw_events.at(connection, offset)
        if raw is None:  # its time in the log is over
            continue
        size_bytes += len(raw["raw"]) + len(raw["envelope"]) + len(inputs)
        if size_bytes > most_bytes:
            return Recent(found, len(chosen) - number)
        found.append(RecentEvent(raw, inputs))
    return Recent(found, 0)

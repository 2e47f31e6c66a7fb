"""The newest events of a pipeline as they came in, with what their steps took from state: for dry runs."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class Recent(NamedTuple):
    """Rows, newest first, and how many more there would have been but for their size."""

    rows: list[sqlite3.Row]
    left_out: int


def newest(connection: sqlite3.Connection, pipeline_id: str | None, most: int, most_bytes: int) -> Recent:
    """Up to `most` processed events that together have `most_bytes` at most; of all pipelines for None."""
    found = connection.execute(
        f"""
        SELECT e.offset, r.pipeline_id, r.received_at_ms, r.envelope, r.raw, e.inputs
          FROM events AS e JOIN raw_events AS r ON r.offset = e.offset
         {"" if pipeline_id is None else "WHERE e.pipeline_id = :pipeline_id"}
         ORDER BY e.offset DESC LIMIT :most
        """,  # noqa: S608 - one of two texts
        {"pipeline_id": pipeline_id, "most": most},
    )
    rows: list[sqlite3.Row] = []
    size_bytes = left_out = 0
    for row in found:
        size_bytes += len(row["raw"]) + len(row["envelope"]) + len(row["inputs"])
        if size_bytes > most_bytes:
            left_out += 1
        else:
            rows.append(row)
    return Recent(rows, left_out)

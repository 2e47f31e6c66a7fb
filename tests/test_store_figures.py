"""The overview's numbers: counted by place in the log."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest

from datafly_lite.store.figures import figures
from kit import open_store

TIMES_MS = (1_000, 2_000, 2_000, 3_000, 5_000)


def _fill(connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO raw_events (pipeline_id, received_at_ms, envelope, raw) VALUES ('pip_a', ?, x'', x'')",
        [(time_ms,) for time_ms in TIMES_MS],
    )


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    async def look() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            found = await store.read(figures, (0, 10_000))
            assert (found.stored, found.stored_since, found.pipelines) == (0, (0, 0), 0)

    anyio.run(look)


@pytest.mark.parametrize("since_ms", [0, 1_000, 1_001, 2_000, 2_500, 3_000, 5_000, 5_001])
def test_events_since_a_time_are_those_received_then_or_later(tmp_path: Path, since_ms: int) -> None:
    async def look() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            await store.write(_fill)
            found = await store.read(figures, (since_ms,))
            assert found.stored == len(TIMES_MS)
            assert found.stored_since == (sum(time_ms >= since_ms for time_ms in TIMES_MS),)

    anyio.run(look)

"""What the card of an integration says, found among many others without reading them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio

from datafly_lite.store.attachment_health import CANDIDATES, MOST_COUNTED, AttachmentHealth, Attempt, health
from kit import open_store

OURS, OTHERS = "pi_ours", "pi_others"


def deliveries(
    connection: sqlite3.Connection,
    attachment: str,
    status: str,
    *,
    count: int = 1,
    at_ms: int = 0,
    failed_at_ms: int | None = None,
) -> None:
    """`at_ms` is when the next attempt is due, `failed_at_ms` when the last one failed with 500."""
    for _ in range(count):
        start = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM deliveries").fetchone()[0]
        connection.execute(
            """
            INSERT INTO deliveries (id, offset, pipeline_id, pipeline_integration_id, revision_id, status,
                                    next_attempt_at_ms, created_at_ms, steps)
            VALUES (?, ?, 'pip_a', ?, 'rev_1', ?, ?, 0, '')
            """,
            (start, start, attachment, status, at_ms),
        )
        if failed_at_ms is not None:
            connection.execute(
                """
                INSERT INTO delivery_attempts (delivery_id, attempt, at_ms, duration_ms, revision_id, verdict,
                                               status, request)
                VALUES (?, 1, ?, 5, 'rev_1', 'retry', 500, '{}')
                """,
                (start, failed_at_ms),
            )


def look(path: Path, *fills: tuple[str, str, dict[str, int]]) -> AttachmentHealth:
    async def run() -> AttachmentHealth:
        async with open_store(path / "datafly.db") as store:
            for attachment, status, options in fills:
                await store.write(lambda c, a, s, o: deliveries(c, a, s, **o), attachment, status, options)
            return await store.read(health, OURS)

    return anyio.run(run)


def test_without_deliveries_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert look(tmp_path) == AttachmentHealth(0, 0, None, None)


def test_others_do_not_count(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        (OURS, "pending", {"count": 2, "at_ms": 70, "failed_at_ms": 50}),
        (OURS, "dead", {"failed_at_ms": 40}),
        (OTHERS, "pending", {"count": 3, "at_ms": 10, "failed_at_ms": 60}),
    )
    assert found == AttachmentHealth(2, 1, Attempt(50, "retry", 500, None), 70)


def test_counts_stop_above_the_most(tmp_path: Path) -> None:
    found = look(tmp_path, (OURS, "pending", {"count": MOST_COUNTED + 5}), (OURS, "dead", {}))
    assert (found.pending, found.dead) == (MOST_COUNTED + 1, 1)


def test_the_last_attempt_is_found_behind_all_that_was_never_tried(tmp_path: Path) -> None:
    """An old delivery that failed, under a backlog and under newer deliveries to others."""
    found = look(
        tmp_path,
        (OURS, "pending", {"at_ms": 9_000, "failed_at_ms": 5_000}),
        (OURS, "pending", {"count": CANDIDATES + 1, "at_ms": 10}),
        (OTHERS, "delivered", {"count": MOST_COUNTED + 1}),
    )
    assert found.last == Attempt(5_000, "retry", 500, None)
    assert found.next_due_at_ms == 10


def test_no_whole_table_is_read(tmp_path: Path) -> None:
    async def plans() -> list[str]:
        async with open_store(tmp_path / "datafly.db") as store:
            return await store.read(_plans)

    steps = anyio.run(plans)
    assert steps
    whole = [step for step in steps if step.startswith(("SCAN deliver", "SCAN due", "MATERIALIZE"))]
    assert whole == []


def _plans(connection: sqlite3.Connection) -> list[str]:
    """How SQLite goes about each statement of `health`."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    health(connection, OURS)
    connection.set_trace_callback(None)
    queries = [one for one in asked if one.lstrip().startswith(("SELECT", "WITH"))]
    return [row["detail"] for one in queries for row in connection.execute(f"EXPLAIN QUERY PLAN {one}")]

"""Builds of the collector. A finished one never changes; the newest ready one is what a pipeline serves."""

from __future__ import annotations

import sqlite3
from typing import Any


def start(connection: sqlite3.Connection, build_id: str, pipeline_id: str, at_ms: int) -> None:
    """A build that is under way."""
    connection.execute(
        "INSERT INTO collector_builds (id, pipeline_id, status, started_at_ms) VALUES (?, ?, 'building', ?)",
        (build_id, pipeline_id, at_ms),
    )


def finish(connection: sqlite3.Connection, build_id: str, built: dict[str, Any], at_ms: int) -> None:
    """Ready. `built` has version_hash, script, script_gzip, script_brotli, modules and report (JSON text)."""
    connection.execute(
        """
        UPDATE collector_builds
           SET status = 'ready', version_hash = :version_hash, script = :script, script_gzip = :script_gzip,
               script_brotli = :script_brotli, modules = :modules, report = :report, built_at_ms = :at_ms
         WHERE id = :id AND status = 'building'
        """,
        {**built, "id": build_id, "at_ms": at_ms},
    )


def fail(connection: sqlite3.Connection, build_id: str, error: str, at_ms: int) -> None:
    """Failed, with the reason in words."""
    connection.execute(
        """
        UPDATE collector_builds SET status = 'failed', error = ?, built_at_ms = ?
         WHERE id = ? AND status = 'building'
        """,
        (error, at_ms, build_id),
    )


def fail_interrupted(connection: sqlite3.Connection, own: str, error: str, at_ms: int) -> int:
    """Fail what an earlier process left under way; `own` is the JSON list of this process's builds.

    Gives how many there were.
    """
    return connection.execute(
        """
        UPDATE collector_builds SET status = 'failed', error = ?, built_at_ms = ?
         WHERE status = 'building' AND id NOT IN (SELECT value FROM json_each(?))
        """,
        (error, at_ms, own),
    ).rowcount


def latest(connection: sqlite3.Connection, pipeline_id: str) -> sqlite3.Row | None:
    """The newest build, whatever its status."""
    return _one(
        connection,
        "SELECT * FROM collector_builds WHERE pipeline_id = ? ORDER BY started_at_ms DESC, id DESC LIMIT 1",
        pipeline_id,
    )


def latest_ready(connection: sqlite3.Connection, pipeline_id: str) -> sqlite3.Row | None:
    """The newest build that is ready."""
    return _one(
        connection,
        """
        SELECT * FROM collector_builds WHERE pipeline_id = ? AND status = 'ready'
         ORDER BY started_at_ms DESC, id DESC LIMIT 1
        """,
        pipeline_id,
    )


def by_hash(connection: sqlite3.Connection, pipeline_id: str, version_hash: str) -> sqlite3.Row | None:
    """A ready build by its hash; builds of the same hash have the same bytes."""
    return _one(
        connection,
        """
        SELECT * FROM collector_builds
         WHERE pipeline_id = ? AND version_hash = ? AND status = 'ready' LIMIT 1
        """,
        pipeline_id,
        version_hash,
    )


def _one(connection: sqlite3.Connection, query: str, *values: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(query, values).fetchone()
    return row

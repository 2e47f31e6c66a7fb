"""Deliveries that were given up: listed, queued again, discarded."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

CONDITIONS = {
    "ids": "d.id IN (SELECT value FROM json_each(:ids))",
    "pipeline_id": "d.pipeline_id = :pipeline_id",
    "pipeline_integration_id": "d.pipeline_integration_id = :pipeline_integration_id",
    "reason": "d.reason = :reason",
}


def page(
    connection: sqlite3.Connection, filters: Mapping[str, Any], before: int | None, limit: int
) -> list[sqlite3.Row]:
    """Up to `limit` below the id `before`, newest first, with names and the last attempt."""
    below = "" if before is None else " AND d.id < :before"
    return connection.execute(
        # The partial index holds dead rows only, however many others there are.
        f"""
        SELECT d.id, d.offset, d.pipeline_id, p.name AS pipeline_name, d.pipeline_integration_id,
               i.id AS integration_id, i.name AS integration_name, i.vendor, e.type, e.event, e.message_id,
               d.reason, d.attempts, d.finished_at_ms, t.status AS last_status, t.error AS last_error
          FROM deliveries AS d INDEXED BY deliveries_dead
          JOIN events AS e ON e.offset = d.offset
          LEFT JOIN pipelines AS p ON p.id = d.pipeline_id
          LEFT JOIN pipeline_integrations AS a ON a.id = d.pipeline_integration_id
          LEFT JOIN integrations AS i ON i.id = a.integration_id
          LEFT JOIN delivery_attempts AS t ON t.delivery_id = d.id
           AND t.attempt = (SELECT max(attempt) FROM delivery_attempts WHERE delivery_id = d.id)
         WHERE d.status = 'dead'{below}{_where(filters)}
         ORDER BY d.id DESC LIMIT :limit
        """,  # noqa: S608 - only texts of CONDITIONS
        {**_values(filters), "before": before, "limit": limit},
    ).fetchall()


def matching(connection: sqlite3.Connection, filters: Mapping[str, Any]) -> list[sqlite3.Row]:
    """`id` and `pipeline_integration_id` of those that can be sent again: still attached."""
    return connection.execute(
        f"""
        SELECT d.id, d.pipeline_integration_id
          FROM deliveries AS d INDEXED BY deliveries_dead
          JOIN pipeline_integrations AS a ON a.id = d.pipeline_integration_id AND a.detached_at_ms IS NULL
          JOIN pipelines AS p ON p.id = d.pipeline_id AND p.deleted_at_ms IS NULL
         WHERE d.status = 'dead'{_where(filters)}
        """,  # noqa: S608 - only texts of CONDITIONS
        _values(filters),
    ).fetchall()


def discard(connection: sqlite3.Connection, filters: Mapping[str, Any], reason: str, now_ms: int) -> int:
    """Dropped for `reason`, so that the ledger still knows them; how many there were."""
    return connection.execute(
        f"""
        UPDATE deliveries AS d INDEXED BY deliveries_dead
           SET status = 'dropped', reason = :dropped_for, finished_at_ms = :now_ms
         WHERE d.status = 'dead'{_where(filters)}
        """,  # noqa: S608 - only texts of CONDITIONS
        {**_values(filters), "dropped_for": reason, "now_ms": now_ms},
    ).rowcount


def _where(filters: Mapping[str, Any]) -> str:
    return "".join(f" AND {CONDITIONS[name]}" for name in filters)


def _values(filters: Mapping[str, Any]) -> dict[str, Any]:
    ids: Sequence[int] = filters.get("ids", ())
    return {**filters, "ids": msgspec.json.encode(ids).decode()}

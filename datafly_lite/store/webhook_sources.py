"""Webhook sources: third parties whose webhooks become a pipeline's events."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any


def everyone(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """All that are not deleted, oldest first."""
    return connection.execute(
        "SELECT * FROM webhook_sources WHERE deleted_at_ms IS NULL ORDER BY id"
    ).fetchall()


def one(connection: sqlite3.Connection, source_id: str) -> sqlite3.Row | None:
    """One that is not deleted."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM webhook_sources WHERE id = ? AND deleted_at_ms IS NULL", (source_id,)
    ).fetchone()
    return row


def id_was_taken(connection: sqlite3.Connection, source_id: str) -> bool:
    """Whether a source has it or had it."""
    found = connection.execute("SELECT 1 FROM webhook_sources WHERE id = ?", (source_id,)).fetchone()
    return found is not None


def insert(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """A new source from the table's columns, and `now_ms`."""
    connection.execute(
        """
        INSERT INTO webhook_sources (id, pipeline_id, name, source_type, secret_ciphertext, config, enabled,
                                     created_at_ms, updated_at_ms)
        VALUES (:id, :pipeline_id, :name, :source_type, :secret_ciphertext, :config, :enabled,
                :now_ms, :now_ms)
        """,
        columns,
    )


def update(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """Write what a user can change of `id`, and `now_ms`."""
    connection.execute(
        """
        UPDATE webhook_sources
           SET pipeline_id = :pipeline_id, name = :name, secret_ciphertext = :secret_ciphertext,
               config = :config, enabled = :enabled, updated_at_ms = :now_ms
         WHERE id = :id
        """,
        columns,
    )


def soft_delete(connection: sqlite3.Connection, source_id: str, now_ms: int) -> None:
    """Its row stays, so that its address is never another's; its secret goes."""
    connection.execute(
        "UPDATE webhook_sources SET deleted_at_ms = ?, secret_ciphertext = x'' WHERE id = ?",
        (now_ms, source_id),
    )

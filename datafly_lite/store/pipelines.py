"""Pipelines: what the management API reads and changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any


def everyone(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """All that are not deleted, oldest first."""
    return connection.execute("SELECT * FROM pipelines WHERE deleted_at_ms IS NULL ORDER BY id").fetchall()


def one(connection: sqlite3.Connection, pipeline_id: str) -> sqlite3.Row | None:
    """One that is not deleted."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM pipelines WHERE id = ? AND deleted_at_ms IS NULL", (pipeline_id,)
    ).fetchone()
    return row


def slug_is_taken(connection: sqlite3.Connection, slug: str, except_id: str) -> bool:
    """Whether another pipeline that is not deleted has it."""
    found = connection.execute(
        "SELECT 1 FROM pipelines WHERE slug = ? AND id <> ? AND deleted_at_ms IS NULL", (slug, except_id)
    ).fetchone()
    return found is not None


def insert(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """A new pipeline from all its columns but `deleted_at_ms`."""
    connection.execute(
        """
        INSERT INTO pipelines (id, name, slug, type, pipeline_key, secret_ciphertext, secret_prefix,
                               domain_allowlist, labels, rate_limit_rps, challenge_token_required,
                               parameters, config, js_builder_config, identity_config, enabled,
                               created_at_ms, updated_at_ms)
        VALUES (:id, :name, :slug, :type, :pipeline_key, :secret_ciphertext, :secret_prefix,
                :domain_allowlist, :labels, :rate_limit_rps, :challenge_token_required,
                :parameters, :config, :js_builder_config, :identity_config, :enabled,
                :created_at_ms, :updated_at_ms)
        """,
        columns,
    )


def update(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """Write all columns that a user may change, and the secret."""
    connection.execute(
        """
        UPDATE pipelines
           SET name = :name, slug = :slug, type = :type,
               secret_ciphertext = :secret_ciphertext, secret_prefix = :secret_prefix,
               domain_allowlist = :domain_allowlist, labels = :labels, rate_limit_rps = :rate_limit_rps,
               challenge_token_required = :challenge_token_required, parameters = :parameters,
               config = :config, js_builder_config = :js_builder_config, identity_config = :identity_config,
               enabled = :enabled, updated_at_ms = :updated_at_ms
         WHERE id = :id
        """,
        columns,
    )


def soft_delete(connection: sqlite3.Connection, pipeline_id: str, now_ms: int) -> bool:
    """False where there is none. The row stays, and with it the key, which is never given out again."""
    changed = connection.execute(
        "UPDATE pipelines SET deleted_at_ms = ?, updated_at_ms = ? WHERE id = ? AND deleted_at_ms IS NULL",
        (now_ms, now_ms, pipeline_id),
    )
    return changed.rowcount == 1


def drop_pending(connection: sqlite3.Connection, pipeline_id: str, now_ms: int) -> None:
    """Nobody will send what waits for a deleted pipeline's integrations: say so in the ledger."""
    connection.execute(
        """
        UPDATE deliveries SET status = 'dropped', reason = 'detached', finished_at_ms = ?
         WHERE status = 'pending'
           AND pipeline_integration_id IN (SELECT id FROM pipeline_integrations WHERE pipeline_id = ?)
        """,
        (now_ms, pipeline_id),
    )


def keep_source_view(connection: sqlite3.Connection, pipeline_id: str, view: str) -> None:
    """What the pipeline as a source (seed 002) has and a pipeline has no place for, as JSON."""
    connection.execute("UPDATE pipelines SET source_view = ? WHERE id = ?", (view, pipeline_id))


def erase(connection: sqlite3.Connection, pipeline_id: str, now_ms: int) -> None:
    """After `soft_delete`: nothing is left to bring it back with, neither secrets nor what belonged to it.

    Rows that the log, the ledger and the traces name stay, and the key, which is never given out again.
    """
    connection.execute(
        """
        UPDATE pipelines
           SET secret_ciphertext = x'', secret_prefix = '', domain_allowlist = '[]', labels = '[]',
               parameters = '{}', config = '{}', js_builder_config = '{}', identity_config = '{}',
               source_view = '{}'
         WHERE id = ?
        """,
        (pipeline_id,),
    )
    connection.execute("DELETE FROM collector_builds WHERE pipeline_id = ?", (pipeline_id,))
    _delete_what_belongs(connection, pipeline_id, now_ms)


def _delete_what_belongs(connection: sqlite3.Connection, pipeline_id: str, now_ms: int) -> None:
    connection.execute(
        """
        UPDATE pipeline_integrations SET detached_at_ms = ?
         WHERE pipeline_id = ? AND detached_at_ms IS NULL
        """,
        (now_ms, pipeline_id),
    )
    connection.execute(
        """
        UPDATE webhook_sources SET deleted_at_ms = coalesce(deleted_at_ms, ?), secret_ciphertext = x''
         WHERE pipeline_id = ?
        """,
        (now_ms, pipeline_id),
    )

"""Integrations with their revisions, and what is attached to which pipeline."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

INTEGRATION = """
SELECT i.*, (SELECT max(revision_number) FROM revisions WHERE integration_id = i.id) AS latest_revision
  FROM integrations AS i
 WHERE i.deleted_at_ms IS NULL
"""

ATTACHMENT = """
SELECT a.*, i.name AS integration_name, i.vendor, r.revision_number,
       (SELECT max(revision_number) FROM revisions WHERE integration_id = i.id) AS latest_revision
  FROM pipeline_integrations AS a
  JOIN integrations AS i ON i.id = a.integration_id
  JOIN revisions AS r ON r.id = a.revision_id
 WHERE a.detached_at_ms IS NULL AND a.pipeline_id = ?
"""


# ── Integrations ─────────────────────────────────────────────────────────────────────────────


def everyone(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """All that are not deleted, oldest first, with `latest_revision`."""
    return connection.execute(f"{INTEGRATION} ORDER BY i.id").fetchall()


def one(connection: sqlite3.Connection, integration_id: str) -> sqlite3.Row | None:
    """One that is not deleted, with `latest_revision`."""
    row: sqlite3.Row | None = connection.execute(f"{INTEGRATION} AND i.id = ?", (integration_id,)).fetchone()
    return row


def name_is_taken(connection: sqlite3.Connection, name: str) -> bool:
    """Whether an integration that is not deleted has it."""
    found = connection.execute(
        "SELECT 1 FROM integrations WHERE name = ? AND deleted_at_ms IS NULL", (name,)
    ).fetchone()
    return found is not None


def insert(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """A new integration from `id, name, vendor, description, variant, now_ms`."""
    connection.execute(
        """
        INSERT INTO integrations (id, name, vendor, description, variant, created_at_ms, updated_at_ms)
        VALUES (:id, :name, :vendor, :description, :variant, :now_ms, :now_ms)
        """,
        columns,
    )


def rename(
    connection: sqlite3.Connection, integration_id: str, name: str, description: str, now_ms: int
) -> None:
    """Another name and description; what it does is said by its revisions."""
    connection.execute(
        "UPDATE integrations SET name = ?, description = ?, updated_at_ms = ? WHERE id = ?",
        (name, description, now_ms, integration_id),
    )


def soft_delete(connection: sqlite3.Connection, integration_id: str, now_ms: int) -> None:
    """Its row and revisions stay for the traces of old events; its secrets go.

    So a deleted pipeline that had it must not come back with it.
    """
    connection.execute("UPDATE integrations SET deleted_at_ms = ? WHERE id = ?", (now_ms, integration_id))
    connection.execute(
        """
        UPDATE pipeline_integrations SET detached_at_ms = ?
         WHERE integration_id = ? AND detached_at_ms IS NULL
        """,
        (now_ms, integration_id),
    )
    connection.execute(
        "UPDATE revisions SET secrets_ciphertext = x'' WHERE integration_id = ?", (integration_id,)
    )


def is_attached(connection: sqlite3.Connection, integration_id: str) -> bool:
    """Whether a pipeline that is not deleted has it."""
    found = connection.execute(
        """
        SELECT 1 FROM pipeline_integrations AS a
          JOIN pipelines AS p ON p.id = a.pipeline_id AND p.deleted_at_ms IS NULL
         WHERE a.integration_id = ? AND a.detached_at_ms IS NULL
        """,
        (integration_id,),
    ).fetchone()
    return found is not None


# ── Revisions ────────────────────────────────────────────────────────────────────────────────


def revisions(connection: sqlite3.Connection, integration_id: str) -> list[sqlite3.Row]:
    """Newest first."""
    return connection.execute(
        "SELECT * FROM revisions WHERE integration_id = ? ORDER BY revision_number DESC", (integration_id,)
    ).fetchall()


def revision(connection: sqlite3.Connection, integration_id: str, number: int) -> sqlite3.Row | None:
    """One by its number."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM revisions WHERE integration_id = ? AND revision_number = ?", (integration_id, number)
    ).fetchone()
    return row


def revision_of(connection: sqlite3.Connection, integration_id: str, revision_id: str) -> sqlite3.Row | None:
    """One by its id, where it is this integration's."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM revisions WHERE integration_id = ? AND id = ?", (integration_id, revision_id)
    ).fetchone()
    return row


def insert_revision(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """From the table's columns, and `now_ms`."""
    connection.execute(
        """
        INSERT INTO revisions (id, integration_id, revision_number, config, secrets_ciphertext,
                               change_summary, created_by, created_at_ms)
        VALUES (:id, :integration_id, :revision_number, :config, :secrets_ciphertext,
                :change_summary, :created_by, :now_ms)
        """,
        columns,
    )
    connection.execute("UPDATE integrations SET updated_at_ms = :now_ms WHERE id = :integration_id", columns)


# ── Attachments ──────────────────────────────────────────────────────────────────────────────


def attachments(connection: sqlite3.Connection, pipeline_id: str) -> list[sqlite3.Row]:
    """The pipeline's, oldest first, with names and revision numbers."""
    return connection.execute(f"{ATTACHMENT} ORDER BY a.id", (pipeline_id,)).fetchall()


def attachment(connection: sqlite3.Connection, pipeline_id: str, attachment_id: str) -> sqlite3.Row | None:
    """One of the pipeline's."""
    row: sqlite3.Row | None = connection.execute(
        f"{ATTACHMENT} AND a.id = ?", (pipeline_id, attachment_id)
    ).fetchone()
    return row


def attach(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> str | None:
    """The attachment's id; None where it is attached already. One that was detached comes back."""
    row = connection.execute(
        """
        INSERT INTO pipeline_integrations (id, pipeline_id, integration_id, revision_id, enabled, mode,
                                           created_at_ms, updated_at_ms)
        VALUES (:id, :pipeline_id, :integration_id, :revision_id, :enabled, :mode, :now_ms, :now_ms)
            ON CONFLICT (pipeline_id, integration_id) DO UPDATE
            SET revision_id = excluded.revision_id, enabled = excluded.enabled, mode = excluded.mode,
                trouble = NULL, updated_at_ms = excluded.updated_at_ms, detached_at_ms = NULL
          WHERE detached_at_ms IS NOT NULL
        RETURNING id
        """,
        columns,
    ).fetchone()
    return row["id"] if row else None


def update_attachment(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """Write `revision_id, enabled, mode, trouble` of `id`."""
    connection.execute(
        """
        UPDATE pipeline_integrations
           SET revision_id = :revision_id, enabled = :enabled, mode = :mode, trouble = :trouble,
               updated_at_ms = :updated_at_ms
         WHERE id = :id
        """,
        columns,
    )


def detach(connection: sqlite3.Connection, attachment_id: str, now_ms: int) -> None:
    """Nobody will send what waits for it any more: say so in the ledger."""
    connection.execute(
        "UPDATE pipeline_integrations SET detached_at_ms = ? WHERE id = ?", (now_ms, attachment_id)
    )
    connection.execute(
        """
        UPDATE deliveries SET status = 'dropped', reason = 'detached', finished_at_ms = ?
         WHERE status = 'pending' AND pipeline_integration_id = ?
        """,
        (now_ms, attachment_id),
    )

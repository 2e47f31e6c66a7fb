"""Everything that the event path is configured by, in one read."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from datafly_lite.store import data_layers


class Everything(NamedTuple):
    """Rows of one snapshot: pipelines that are not deleted, what belongs to them, and the newest rules."""

    pipelines: list[sqlite3.Row]
    attachments: list[sqlite3.Row]
    webhook_sources: list[sqlite3.Row]
    data_layer: sqlite3.Row | None
    consent_settings: sqlite3.Row | None


ATTACHMENTS = """
    SELECT a.*, i.name AS integration_name, i.vendor, p.name AS pipeline_name, p.parameters,
           r.id AS revision_id, r.revision_number, r.config, r.secrets_ciphertext
      FROM pipeline_integrations AS a
      JOIN pipelines AS p ON p.id = a.pipeline_id
      JOIN integrations AS i ON i.id = a.integration_id
"""


def everything(connection: sqlite3.Connection) -> Everything:
    """Pipelines, attachments in the order they were made, webhook sources, and the rules for all events."""
    return Everything(
        connection.execute("SELECT * FROM pipelines WHERE deleted_at_ms IS NULL").fetchall(),
        connection.execute(
            f"""{ATTACHMENTS}
              JOIN revisions AS r ON r.id = a.revision_id
             WHERE a.detached_at_ms IS NULL AND p.deleted_at_ms IS NULL
             ORDER BY a.id
            """
        ).fetchall(),
        connection.execute("SELECT * FROM webhook_sources WHERE deleted_at_ms IS NULL").fetchall(),
        data_layers.newest(connection, "data_layers"),
        data_layers.newest(connection, "consent_settings"),
    )


def attachment(connection: sqlite3.Connection, attachment_id: str, revision_id: str) -> sqlite3.Row | None:
    """An attachment, detached or not, with a revision of its integration that it may no longer have."""
    row: sqlite3.Row | None = connection.execute(
        f"{ATTACHMENTS} JOIN revisions AS r ON r.id = ? AND r.integration_id = i.id WHERE a.id = ?",
        (revision_id, attachment_id),
    ).fetchone()
    return row

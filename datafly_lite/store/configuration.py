"""Everything that the event path is configured by, in one read."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class Everything(NamedTuple):
    """Rows of one snapshot: pipelines that are not deleted, and what belongs to them."""

    pipelines: list[sqlite3.Row]
    attachments: list[sqlite3.Row]
    webhook_sources: list[sqlite3.Row]


def everything(connection: sqlite3.Connection) -> Everything:
    """Pipelines, attachments in the order they were made, and webhook sources."""
    return Everything(
        connection.execute("SELECT * FROM pipelines WHERE deleted_at_ms IS NULL").fetchall(),
        connection.execute(
            """
            SELECT a.*, i.name AS integration_name, i.vendor,
                   r.revision_number, r.config, r.secrets_ciphertext
              FROM pipeline_integrations AS a
              JOIN pipelines AS p ON p.id = a.pipeline_id AND p.deleted_at_ms IS NULL
              JOIN integrations AS i ON i.id = a.integration_id
              JOIN revisions AS r ON r.id = a.revision_id
             WHERE a.detached_at_ms IS NULL
             ORDER BY a.id
            """
        ).fetchall(),
        connection.execute("SELECT * FROM webhook_sources WHERE deleted_at_ms IS NULL").fetchall(),
    )

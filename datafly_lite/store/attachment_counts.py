"""What waits and what was given up, for each integration of a pipeline."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple


class Counts(NamedTuple):
    """Deliveries of one attachment."""

    pending: int
    dead: int


def of_pipeline(connection: sqlite3.Connection, pipeline_id: str) -> dict[str, Counts]:
    """Attachment -> its counts. The partial indexes hold these rows only, however many were delivered."""
    rows = connection.execute(
        """
        SELECT a.id,
               (SELECT count(*) FROM deliveries AS d INDEXED BY deliveries_due
                 WHERE d.status = 'pending' AND d.pipeline_integration_id = a.id),
               (SELECT count(*) FROM deliveries AS d INDEXED BY deliveries_dead
                 WHERE d.status = 'dead' AND d.pipeline_integration_id = a.id)
          FROM pipeline_integrations AS a WHERE a.pipeline_id = ?
        """,
        (pipeline_id,),
    )
    return {attachment_id: Counts(pending, dead) for attachment_id, pending, dead in rows}

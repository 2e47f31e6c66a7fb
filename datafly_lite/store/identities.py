"""Visitors and the users they turned out to be."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence


def known(connection: sqlite3.Connection, anonymous_ids: Sequence[str]) -> list[sqlite3.Row]:
    """anonymous_id, user_id and group_id of those of the visitors that are linked to anything."""
    marks = ", ".join("?" * len(anonymous_ids))
    return connection.execute(
        f"SELECT anonymous_id, user_id, group_id FROM identities WHERE anonymous_id IN ({marks})",  # noqa: S608 - only marks
        anonymous_ids,
    ).fetchall()

"""Paths of page views, for a list that shows events without their bodies."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

LONGEST_PATH = 300


def page_paths(connection: sqlite3.Connection, offsets: Sequence[int]) -> dict[int, str]:
    """offset -> the path in the event's properties, else in its context; left out where neither is text.

    It reads the bodies of these events: for a page of them, not for many.
    """
    return dict(
        connection.execute(
            f"""
            WITH bodies AS (
              SELECT offset, CAST(body AS TEXT) AS body FROM events
               WHERE offset IN (SELECT value FROM json_each(?)))
            SELECT offset, substr(path, 1, {LONGEST_PATH}) FROM (
              SELECT offset, CASE WHEN json_type(body, '$.properties.path') = 'text'
                                  THEN json_extract(body, '$.properties.path')
                                  WHEN json_type(body, '$.context.page.path') = 'text'
                                  THEN json_extract(body, '$.context.page.path') END AS path
                FROM bodies)
             WHERE path <> ''
            """,  # noqa: S608 - only this file's own number
            (msgspec.json.encode(offsets).decode(),),
        ).fetchall()
    )

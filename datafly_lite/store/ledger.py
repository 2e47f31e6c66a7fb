"""The two sums of design.md, section 1, from counters alone: as quick with ten million events as with ten.

What the door and the processor say they did is held against what the log and the deliveries say happened.
All of it is written in the transactions of what it counts, so the sums hold at any moment and after a crash.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from datafly_lite.store import counters, events, raw_events

PROCESSOR = "processor"
"""The consumer whose offset says which events are processed."""


class AttachmentCounts(NamedTuple):
    """An attachment and its `delivery_counts`, by name; names are None where its rows are gone."""

    pipeline_integration_id: str
    pipeline_id: str | None
    integration_id: str | None
    integration_name: str | None
    counts: dict[str, int]


class Counted(NamedTuple):
    """All that the sums are made of. `log_end` is how many events the log has taken since it was made."""

    counters: dict[str, int]
    log_end: int
    position: int
    attachments: list[AttachmentCounts]


def counted(connection: sqlite3.Connection) -> Counted:
    """In one snapshot."""
    return Counted(
        counters=counters.totals(connection),
        log_end=raw_events.end(connection),
        position=events.position(connection, PROCESSOR),
        attachments=_attachments(connection),
    )


def _attachments(connection: sqlite3.Connection) -> list[AttachmentCounts]:
    found: dict[str, AttachmentCounts] = {}
    for row in connection.execute(
        """
        SELECT c.pipeline_integration_id, a.pipeline_id, a.integration_id, i.name AS integration_name,
               c.name, c.value
          FROM delivery_counts AS c
          LEFT JOIN pipeline_integrations AS a ON a.id = c.pipeline_integration_id
          LEFT JOIN integrations AS i ON i.id = a.integration_id
         ORDER BY c.pipeline_integration_id, c.name
        """
    ):
        attachment_id, *names = tuple(row)[:4]
        one = found.setdefault(
            attachment_id, AttachmentCounts(attachment_id, names[0], names[1], names[2], {})
        )
        one.counts[row["name"]] = row["value"]
    return list(found.values())

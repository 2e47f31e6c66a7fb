"""Dead letters: deliveries that were given up, until somebody sends them again or discards them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from datafly_lite.clock import iso
from datafly_lite.errors import AdminError
from datafly_lite.events import DropReason
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.services import Services
from datafly_lite.store import dead_letters as rows
from datafly_lite.store import deliveries

LARGEST_ID = 2**53
MOST_IDS = 10_000

_text = f.text(200)
FILTER_CHECKS: dict[str, f.Check] = {"pipeline_id": _text, "pipeline_integration_id": _text, "reason": _text}
SELECTION_CHECKS: dict[str, f.Check] = {
    "ids": f.list_of(f.whole(1, LARGEST_ID), most=MOST_IDS),
    "filter": f.object_of(FILTER_CHECKS),
}


async def list_dead_letters(
    services: Services, *, filters: Mapping[str, Any], cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first.

    Filters: pipeline_id, pipeline_integration_id, reason; empty ones do not count.
    """
    given = f.checked(f.given(filters), FILTER_CHECKS)
    before, limit = decode_cursor(cursor), check_limit(limit)
    found = await services.store.read(rows.page, given, before, limit + 1)
    return page(
        [_shown(row) for row in found[:limit]], found[limit - 1]["id"] if len(found) > limit else None
    )


async def replay(
    services: Services, *, ids: Sequence[int] | None = None, filter: Mapping[str, Any] | None = None
) -> int:
    """Queue them again, with a fresh count of attempts; how many. Others' and detached ones are left alone.

    Exactly one of `ids` and `filter`; an empty filter is all. Raises VALIDATION_ERROR.
    """
    audited, selection = Audited("dead_letters.replayed", "dead_letters"), _selection(ids, filter)
    replayed, attachments = await auditing.write(services, audited, _replay, selection, services.clock())
    services.wake_delivery(attachments)
    return replayed


async def discard(
    services: Services, *, ids: Sequence[int] | None = None, filter: Mapping[str, Any] | None = None
) -> int:
    """Never send them; how many. They count as dropped. Selected as for `replay`."""
    audited, selection = Audited("dead_letters.discarded", "dead_letters"), _selection(ids, filter)
    return await auditing.write(services, audited, _discard, selection, services.clock())


def _selection(ids: Any, filter: Any) -> dict[str, Any]:
    given = {name: value for name, value in (("ids", ids), ("filter", filter)) if value is not None}
    if len(given) != 1:
        raise AdminError("VALIDATION_ERROR", "give either `ids` or `filter`")
    checked = f.checked(given, SELECTION_CHECKS)
    return {"ids": checked["ids"]} if "ids" in checked else dict(checked["filter"])


def _replay(
    connection: sqlite3.Connection, selection: Mapping[str, Any], now_ms: int
) -> Changed[tuple[int, set[str]]]:
    found = rows.matching(connection, selection)
    replayed = max(deliveries.replay(connection, [row["id"] for row in found], now_ms), 0)
    attachments = {row["pipeline_integration_id"] for row in found}
    return Changed((replayed, attachments), None, _changes(selection, replayed))


def _discard(connection: sqlite3.Connection, selection: Mapping[str, Any], now_ms: int) -> Changed[int]:
    discarded = rows.discard(connection, selection, DropReason.DISCARDED, now_ms)
    return Changed(discarded, None, _changes(selection, discarded))


def _changes(selection: Mapping[str, Any], number: int) -> dict[str, auditing.Change] | None:
    """How many, and by what they were selected; None where there were none."""
    told = {"number": number, "selection": dict(selection)}
    return auditing.differences({}, told) if number else None


def _shown(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "offset": row["offset"],
        "pipeline_id": row["pipeline_id"],
        "pipeline_name": row["pipeline_name"],
        "pipeline_integration_id": row["pipeline_integration_id"],
        "integration_id": row["integration_id"],
        "integration_name": row["integration_name"],
        "vendor": row["vendor"],
        "type": row["type"],
        "event": row["event"],
        "message_id": row["message_id"],
        "reason": row["reason"],
        "attempts": row["attempts"],
        "last_status": row["last_status"],
        "last_error": row["last_error"],
        "finished_at": None if row["finished_at_ms"] is None else iso(row["finished_at_ms"]),
    }

"""Events that could not be processed: what is wrong with each, what came, and what to do."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.management import dlq_events, pipelines
from datafly_lite.ui.forms import Problems, problems_of
from datafly_lite.ui.refused_events import Reason, visible
from datafly_lite.ui.templating import pretty
from datafly_lite.ui.visit import Visit, with_query

PATH = "/dlq-events"
FILTERS = ("pipeline_id", "reason")
PAGE_SIZE = 25
MOST_CHOICES = 100
MOST_COUNTED = 1_000
SHORT_BODY = 400
"""Characters: a longer body is folded."""

REASONS = {
    "schema": Reason(
        "The event lacks what its type needs, or cannot be read",
        "Mend what is named above where the event is made, and send it again with a new messageId.",
    ),
    "custom_js": Reason(
        "The data layer's script failed",
        "Mend the script, or let it skip events that it fails on.",
    ),
}
WORDS = {"schema_validation_failed": "schema", "custom_js_failed": "custom_js"}
"""The documented word -> the reason that filters and figures go by."""


async def show_list(visit: Visit) -> Response:
    """Newest first; filters and place are in the address."""
    filters, problems = visit.filters(*FILTERS), Problems()
    found: dict[str, Any] = {"data": [], "next_cursor": None}
    try:
        found = await dlq_events.list_dlq_events(
            visit.services, filters=filters, cursor=visit.query("cursor") or None, limit=PAGE_SIZE
        )
    except AdminError as error:
        problems = problems_of(error, FILTERS)
    known = (await pipelines.list_pipelines(visit.services, limit=MOST_CHOICES))["pipelines"]
    older = {**filters, "cursor": found["next_cursor"] or ""}
    return visit.page(
        "dlq_events.html",
        422 if problems else 200,
        filters=filters,
        is_filtered=any(filters.values()),
        problems=problems,
        events=[_shown(one) for one in found["data"]],
        is_newest=not visit.query("cursor"),
        newest=with_query(PATH, filters),
        older=with_query(PATH, older) if found["next_cursor"] else None,
        pipelines=known,
        reasons=REASONS,
    )


async def counted(visit: Visit, since_ms: int = 0) -> str:
    """How many came since then, `1,000+` for as many or more; empty where none did."""
    number = await dlq_events.count_dlq_events(visit.services, since_ms, MOST_COUNTED)
    return f"{number:,}{'+' if number == MOST_COUNTED else ''}" if number else ""


def _shown(one: Any) -> dict[str, Any]:
    """With everything that a stranger wrote made visible, and the reason's words."""
    raw, reason = one.original_event, WORDS[one.error]
    body = "" if raw is None else visible(raw if isinstance(raw, str) else pretty(raw))
    told = msgspec.structs.asdict(one) | {
        "details": visible(one.details),
        "name": visible(one.event or f"({one.type})"),
    }
    return told | {"reason": REASONS[reason], "body": body, "is_long": len(body) > SHORT_BODY}

"""The first page: what there is, how it goes, what to do next."""

from __future__ import annotations

from starlette.responses import Response

from datafly_lite.management import stats
from datafly_lite.store.figures import figures
from datafly_lite.ui import dlq_events
from datafly_lite.ui.visit import Visit

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


async def show(visit: Visit) -> Response:
    """Figures of this moment."""
    services = visit.services
    now_ms = services.clock()
    found = await services.store.read(figures, (now_ms - HOUR_MS, now_ms - DAY_MS))
    checks = await services.readiness()
    return visit.page(
        "overview.html",
        figures=found,
        ledger=await stats.ledger(services),
        failed_events=await dlq_events.counted(visit, now_ms - DAY_MS),
        troubles=[one for one in checks if not one["ok"]],
    )

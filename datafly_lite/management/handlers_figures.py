"""Handlers of what is looked at and counted: deliveries, how integrations do, stats and the ledger."""

from __future__ import annotations

from starlette.responses import Response

from datafly_lite.management import deliveries, integrations_health, stats
from datafly_lite.management.http import Call, answer


async def list_deliveries(call: Call) -> Response:
    filters = {name: call.query(name) for name in deliveries.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await deliveries.list_deliveries(
            call.services, filters=filters, cursor=call.query("cursor"), limit=limit
        )
    )


async def get_delivery(call: Call) -> Response:
    return answer(await deliveries.get_delivery(call.services, call.path("delivery_id")))


async def list_health(call: Call) -> Response:
    limit = call.whole("limit", 50)
    return answer(
        await integrations_health.list_health(call.services, cursor=call.query("cursor"), limit=limit)
    )


async def get_stats(call: Call) -> Response:
    filters = {name: call.query(name) for name in stats.STATS_CHECKS}
    return answer(await stats.stats(call.services, filters=filters))


async def get_ledger(call: Call) -> Response:
    return answer(await stats.ledger(call.services))

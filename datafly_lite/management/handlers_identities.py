"""Handlers of visitors, and of the events that could not be processed."""

from __future__ import annotations

from starlette.responses import Response

from datafly_lite.management import dlq_events, identities
from datafly_lite.management.http import Call, answer, no_content


async def list_identities(call: Call) -> Response:
    filters = {name: call.query(name) for name in identities.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await identities.list_identities(
            call.services, filters=filters, cursor=call.query("cursor"), limit=limit
        )
    )


async def get_identity(call: Call) -> Response:
    return answer(await identities.get_identity(call.services, call.path("anonymous_id")))


async def unlink_identity(call: Call) -> Response:
    await identities.unlink(call.services, call.path("anonymous_id"), call.path("user_id"))
    return no_content()


async def list_dlq_events(call: Call) -> Response:
    filters = {name: call.query(name) for name in dlq_events.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await dlq_events.list_dlq_events(
            call.services, filters=filters, cursor=call.query("cursor"), limit=limit
        )
    )

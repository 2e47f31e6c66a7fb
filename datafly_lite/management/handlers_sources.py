"""From a request to an operation and back, for sources: a line or two a route."""

from __future__ import annotations

from starlette.responses import Response

from datafly_lite.management import sources
from datafly_lite.management.http import Call, answer, no_content
from datafly_lite.management.paging import slice_page


async def list_sources(call: Call) -> Response:
    cursor, limit = call.query("cursor"), call.whole("limit", 50)
    return answer(slice_page(await sources.list_sources(call.services), cursor, limit))


async def create_source(call: Call) -> Response:
    return answer(await sources.create_source(call.services, await call.fields()), 201)


async def get_source(call: Call) -> Response:
    return answer(await sources.get_source(call.services, call.path("src_id")))


async def update_source(call: Call) -> Response:
    fields = await call.fields()
    return answer(await sources.update_source(call.services, call.path("src_id"), fields))


async def delete_source(call: Call) -> Response:
    await sources.delete_source(call.services, call.path("src_id"))
    return no_content()


async def build_source(call: Call) -> Response:
    return answer(await sources.start_build(call.services, call.path("src_id")))


async def download_source(call: Call) -> Response:
    filename, script = await sources.download(call.services, call.path("src_id"))
    headers = {"content-disposition": f'attachment; filename="{filename}"'}
    return Response(script, headers=headers, media_type="application/javascript")

"""The twins' routes, and what is common to them: the record of requests and the scripted trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from datafly_lite.clock import Clock, iso, system_clock
from datafly_lite.twins import ga4, webhook
from datafly_lite.twins.page import page
from datafly_lite.twins.record import BODY_LIMIT_BYTES, Received, Record, ScriptedAnswer, Trouble

Endpoint = Callable[[Request], Awaitable[Response]]
Judge = Callable[[Request, bytes], tuple[list[str], Response]]
"""(request, body) -> (what is wrong with it, the vendor's answer)."""

PAGE_HEADERS = {"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"}

JUDGES: dict[str, tuple[str, list[str], Judge]] = {
    "/mp/collect": ("ga4", ["POST"], ga4.collect),
    "/debug/mp/collect": ("ga4", ["POST"], ga4.debug),
    "/webhook/{name}": ("webhook", ["POST", "PUT"], webhook.receive),
}
TWINS = frozenset(twin for twin, _, _ in JUDGES.values())


def twins_app(clock: Clock = system_clock) -> Starlette:
    """An ASGI app with its own memory of what it received.

    GET /received lists the last requests with the twin's verdict, DELETE forgets them; POST /trouble
    scripts the next answers: `{"twin": "webhook", "answers": [503, {"status": 429, "headers": {…}}]}`.
    """
    record = Record()
    vendors = [
        Route(path, _twin(twin, judge, record, clock), methods=methods)
        for path, (twin, methods, judge) in JUDGES.items()
    ]

    async def received(request: Request) -> Response:
        if request.method == "DELETE":
            record.clear()
            return Response(status_code=204)
        return _json([msgspec.to_builtins(one) for one in record.received])

    async def trouble(request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await _body(request), type=Trouble)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _json({"error": str(error)}, 400)
        if wanted.twin not in TWINS:
            return _json({"error": f"twin: one of {', '.join(sorted(TWINS))}"}, 400)
        return _json({"scripted": record.script(wanted)})

    async def front(request: Request) -> Response:
        return HTMLResponse(page(record), headers=PAGE_HEADERS)

    return Starlette(
        routes=[
            *vendors,
            Route("/received", received, methods=["GET", "DELETE"]),
            Route("/trouble", trouble, methods=["POST"]),
            Route("/", front, methods=["GET"]),
        ]
    )


def _twin(twin: str, judge: Judge, record: Record, clock: Clock) -> Endpoint:
    async def answer(request: Request) -> Response:
        at = iso(clock())
        body = await _body(request)
        problems, response = judge(request, body)
        scripted = record.next_answer(twin)
        if scripted is not None:
            await anyio.sleep(scripted.delay_s)
            response = _scripted(scripted)
        record.add(
            Received(
                twin=twin,
                at=at,
                method=request.method,
                path=str(request.url.path),
                headers=dict(request.headers),
                body=body[:BODY_LIMIT_BYTES].decode("utf-8", "replace"),
                problems=problems,
                status=response.status_code,
            )
        )
        return response

    return answer


def _scripted(answer: ScriptedAnswer) -> Response:
    return Response(answer.body, status_code=answer.status, headers=answer.headers)


async def _body(request: Request) -> bytes:
    """Up to the limit and a byte more, by which the judges see that it was too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk[: BODY_LIMIT_BYTES + 1 - len(body)]
    return bytes(body)


def _json(value: object, status: int = 200) -> JSONResponse:
    return JSONResponse(value, status_code=status)

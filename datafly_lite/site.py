"""Which application answers which path, on one listener or on two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from datafly_lite.gateway.door import Door, is_collection
from datafly_lite.server import ASGIApp
from datafly_lite.settings import Settings


def applications(
    settings: Settings, door: Door, public: Sequence[BaseRoute], private: Sequence[BaseRoute]
) -> list[ASGIApp]:
    """The application of each listener: one, or with --admin-bind a public and a private one.

    The public one then serves collection alone: a fault there is not of the same origin as the
    management (reliability.md, C2).
    """
    if settings.admin_bind:
        return [with_door(door, public, settings), with_door(door, [*public, *private], settings)]
    return [with_door(door, [*public, *private], settings)]


def with_door(door: Door, routes: Sequence[BaseRoute], settings: Settings) -> ASGIApp:
    """Collection goes straight to the door; routing it would cost a tenth of an event."""
    starlette = Starlette(routes=list(routes))
    starlette.router.redirect_slashes = False  # a redirect turns a client's POST into a GET without body
    pages = bounded(starlette, settings.body_timeout_s)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        is_door = scope["type"] == "http" and is_collection(scope["path"])
        await (door if is_door else pages)(scope, receive, send)

    return application


def bounded(app: ASGIApp, timeout_s: float) -> ASGIApp:
    """A body that stalls ends as a disconnect: Hypercorn itself would wait for ever (reliability.md, C3)."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        is_whole = False

        async def receive_in_time() -> Any:
            nonlocal is_whole
            if is_whole:
                return await receive()
            with anyio.move_on_after(timeout_s):
                message = await receive()
                is_whole = not message.get("more_body", False)
                return message
            return {"type": "http.disconnect"}

        await app(scope, receive_in_time if scope["type"] == "http" else receive, send)

    return application

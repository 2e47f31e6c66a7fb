"""Which application answers which path, on one listener or on two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from datafly_lite.gateway.door import Door, is_collection
from datafly_lite.server import ASGIApp
from datafly_lite.settings import Settings


def applications(
    settings: Settings, door: Door, public: Sequence[BaseRoute], private: Sequence[BaseRoute]
) -> list[tuple[str, ASGIApp]]:
    """(address, application) of each listener.

    With --admin-bind the public one serves collection alone: a fault there is then not of the same
    origin as the management (reliability.md, C2).
    """
    address = f"{settings.host}:{settings.port}"
    if settings.admin_bind:
        return [
            (address, with_door(door, public)),
            (settings.admin_bind, Starlette(routes=[*public, *private])),
        ]
    return [(address, with_door(door, [*public, *private]))]


def with_door(door: Door, routes: Sequence[BaseRoute]) -> ASGIApp:
    """Collection goes straight to the door; routing it would cost a tenth of an event."""
    pages = Starlette(routes=list(routes))
    pages.router.redirect_slashes = False  # a redirect turns a client's POST into a GET without body

    async def application(scope: Any, receive: Any, send: Any) -> None:
        is_door = scope["type"] == "http" and is_collection(scope["path"])
        await (door if is_door else pages)(scope, receive, send)

    return application

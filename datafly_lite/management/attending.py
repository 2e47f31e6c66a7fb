"""Work that goes on only while somebody waits for it: its client is there, and the program does not stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.requests import ClientDisconnect, Request

from datafly_lite.errors import StorageUnavailable
from datafly_lite.live import LiveStream

T = TypeVar("T")

LOOK_EVERY_S = 0.25
"""A server tells that a client left to who asks (asgi.readthedocs.io, HTTP, disconnect)."""


async def attended(live: LiveStream, request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """What the work gives, which is cancelled when nobody waits for it. The request's body was read.

    Raises ClientDisconnect, and StorageUnavailable where the program stops: there is time for an answer.
    """
    done: list[T] = []
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def watch(until: Callable[[], Awaitable[None]], error: Exception) -> None:
            await until()
            failures.append(error)
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch, lambda: _stopped(live), StorageUnavailable("the program is stopping"))
        tasks.start_soon(watch, lambda: _left(request), ClientDisconnect())
        try:
            done.append(await work())
        except Exception as error:  # as it is, and not in a group
            failures.append(error)
        tasks.cancel_scope.cancel()
    if done:
        return done[0]
    raise failures[0]


async def _stopped(live: LiveStream) -> None:
    """The stream of events is closed at the signal, before requests lose their time."""
    watcher = live.watch()
    try:
        while True:
            await watcher.next()
    except anyio.EndOfStream:
        return
    finally:
        live.leave(watcher)


async def _left(request: Request) -> None:
    while not await request.is_disconnected():  # noqa: ASYNC110 - it tells nobody
        await anyio.sleep(LOOK_EVERY_S)

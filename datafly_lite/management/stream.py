"""The debug stream: a WebSocket that shows what happens now (api.md, section 2, live).

The client's first message is `{"action": "subscribe", "filters": {...}}`; another one replaces the
filters. Frames follow as they happen. A reader that is too slow is told `{"missed": n}`; every half
minute `{"missed": 0}` keeps proxies from closing a stream on which nothing happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from datafly_lite.auth import User, require, session_token_of
from datafly_lite.errors import AdminError, StorageError
from datafly_lite.live import Frame, Watcher
from datafly_lite.management import fields as f
from datafly_lite.management.http import bearer_of, error_response, request_id_of, to_json
from datafly_lite.services import Services

RECHECK_S = 30.0
SUBSCRIBE_TIMEOUT_S = 10.0
UNREAD_TIMEOUT_S = 20.0
GOING_AWAY, REFUSED, TRY_AGAIN_LATER = 1001, 1008, 1013
"""Of RFC 6455 and its registry: the server stops; against the rules; the store does not answer."""

_text = f.text(1000)
TOP = ("stage", "pipeline_id", "integration_id", "message_id")
INSIDE = {
    "type": "type",
    "event": "event",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "status": "status",
}
"""Filter -> its name in a canonical event, which is what some stages put into `data`."""

SUBSCRIBE_CHECKS: dict[str, f.Check] = {
    "action": f.one_of("subscribe"),
    "filters": f.object_of(dict.fromkeys((*TOP, *INSIDE), _text)),
}

Filters = Mapping[str, str]


def stream(services: Services, recheck_s: float = RECHECK_S) -> Callable[[WebSocket], Any]:
    """The endpoint. It asks whether the viewer may still look every `recheck_s` seconds, and at once when
    somebody's session, token or key has ended.
    """

    async def endpoint(websocket: WebSocket) -> None:
        try:
            require(await _viewer(websocket, services), "viewer")
        except (AdminError, StorageError) as error:
            await websocket.send_denial_response(error_response(error, request_id_of(websocket.headers)))
            return
        await websocket.accept()
        try:
            await _Viewing(websocket, services, recheck_s).run()
        except WebSocketDisconnect:
            return

    return endpoint


async def _viewer(websocket: WebSocket, services: Services, *, touch: bool = True) -> User:
    """Who looks: by access token or API key, or by the UI's session, then only from the UI's own origin."""
    _check_origin(websocket, services)
    token = bearer_of(websocket)
    if token is not None:
        return await services.authority.user_of_bearer(token)
    session = session_token_of(websocket.cookies, services.settings.base_url)
    user = await services.authority.user_of_session(session, touch=touch) if session else None
    if user is None:
        raise AdminError("INVALID_TOKEN", "log in first")
    return user


def _check_origin(websocket: WebSocket, services: Services) -> None:
    """Browsers let any page open a WebSocket and send the cookies along (ASVS 4.4.2)."""
    origin = websocket.headers.get("origin")
    if origin is None:
        return
    hosts = {websocket.headers.get("host"), urlsplit(services.settings.base_url).netloc}
    if not origin.startswith(("http://", "https://")) or origin.partition("://")[2] not in hosts:
        raise AdminError("CROSS_SITE_REQUEST", "the stream can be opened from the product's own pages only")


class _Viewing:
    """One open stream: a task that reads subscriptions, one that sends frames, one that rechecks."""

    def __init__(self, websocket: WebSocket, services: Services, recheck_s: float) -> None:
        self._websocket = websocket
        self._services = services
        self._recheck_s = recheck_s
        self._filters: Filters = {}

    async def run(self) -> None:
        """Until the client goes, breaks the rules, or may no longer look."""
        subscribed = False
        with anyio.move_on_after(SUBSCRIBE_TIMEOUT_S):
            subscribed = await self._subscribe()
        if not subscribed:
            await self._websocket.close(REFUSED, "subscribe first")
            return
        watcher = self._services.live.watch()
        try:
            await _until_one_ends(self._read, partial(self._send, watcher), self._recheck)
        finally:
            self._services.live.leave(watcher)

    async def _read(self) -> None:
        while await self._subscribe():
            pass
        await self._websocket.close(REFUSED, "this is no subscription")

    async def _subscribe(self) -> bool:
        """Take up the next message's filters; False, and the client is told why, where it has none."""
        try:
            self._filters = _filters_of(await self._message())
        except AdminError as error:
            await self._say(
                {"error": {"code": error.code, "message": error.message, "details": error.details}}
            )
            return False
        return True

    async def _message(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        return message.get("text") or message.get("bytes") or b""

    async def _send(self, watcher: Watcher) -> None:
        while True:
            try:
                frames, missed = await watcher.next()
            except anyio.EndOfStream:
                await self._websocket.close(GOING_AWAY, "the server stops")
                return
            if missed:
                await self._say({"missed": missed})
            for frame in frames:
                if is_wanted(frame, self._filters):
                    await self._say(frame)

    async def _recheck(self) -> None:
        authority = self._services.authority
        ended = authority.next_end
        while True:
            with anyio.move_on_after(self._recheck_s):
                await ended.wait()
            ended = authority.next_end  # taken before the look: no end falls between the two
            try:
                await _viewer(self._websocket, self._services, touch=False)
                await self._say({"missed": 0})
            except AdminError as error:
                await self._websocket.close(REFUSED, error.code)
                return
            except StorageError:
                await self._websocket.close(TRY_AGAIN_LATER)
                return

    async def _say(self, value: Any) -> None:
        """Send, or let a client go that has not read for so long."""
        with anyio.move_on_after(UNREAD_TIMEOUT_S) as waiting:
            await self._websocket.send_text(to_json(value).decode())
        if waiting.cancelled_caught:
            raise WebSocketDisconnect(GOING_AWAY)


async def _until_one_ends(*tasks: Callable[[], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as group:

        async def run(task: Callable[[], Awaitable[None]]) -> None:
            with contextlib.suppress(WebSocketDisconnect):
                await task()
            group.cancel_scope.cancel()

        for task in tasks:
            group.start_soon(run, task)


def _filters_of(message: str | bytes) -> Filters:
    """Raises AdminError where the message is no subscription."""
    try:
        value = msgspec.json.decode(message, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise AdminError("INVALID_JSON", "send a subscription as a JSON object") from None
    filters: Filters = f.checked(value, SUBSCRIBE_CHECKS, required=("action",)).get("filters", {})
    return filters


def is_wanted(frame: Frame, filters: Filters) -> bool:
    """Whether the frame has each value that is asked for; a frame without the field does not match."""
    return all(_value(frame, name) == value for name, value in filters.items())


def _value(frame: Frame, name: str) -> str | None:
    found = getattr(frame, name) if name in TOP else frame.data.get(name, frame.data.get(INSIDE[name]))
    return None if found is None else str(found)

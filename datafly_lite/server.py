"""Hypercorn as the product runs it, and the two ways of framing a body that it lets through.

Measured on Hypercorn 0.18 (reliability.md, C3): Content-Length together with Transfer-Encoding is
taken, and a second request smuggled inside the first is served; so is Transfer-Encoding in
HTTP/1.0. HTTP/2 in clear text is not spoken at all: it would go around the first two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.utils import wrap_app

from datafly_lite.errors import SettingsError

log = structlog.get_logger(__name__)


async def _speak_http1(_: H11Protocol, __: Any) -> None:
    """In place of Hypercorn's own check, which changes to HTTP/2 for `Upgrade: h2c` and for its preface.

    There a path that is not ASCII, settings that are not base64 and a body that goes on after its answer
    end in a traceback and a connection that nobody closes.
    """


H11Protocol._check_protocol = _speak_http1  # type: ignore[assignment, method-assign]

ASGIApp = Callable[..., Awaitable[None]]

KEEP_ALIVE_S = 75
MAX_HEAD_SIZE_BYTES = 65_536
MAX_HEADERS = 200
LARGE_HEAD = (
    b'{"success":false,"code":"invalid_payload","message":"the head is too large: send fewer headers"}'
)
BAD_FRAMING = (
    b'{"success":false,"code":"invalid_payload",'
    b'"message":"send Content-Length or Transfer-Encoding, not both, and the latter only in HTTP/1.1"}'
)


def config(bind: str, *, shutdown_timeout_s: float) -> Config:
    """Hypercorn's configuration for one listener."""
    made = Config()
    made.bind = [bind]
    made.accesslog = None
    made.errorlog = logging.getLogger("hypercorn")
    made.include_server_header = False
    made.alpn_protocols = ["http/1.1"]
    made.keep_alive_timeout = KEEP_ALIVE_S
    made.keep_alive_max_requests = 1_000_000
    made.read_timeout = None  # a timer for each read costs a tenth of an event; `bounded` has one a body
    made.graceful_timeout = shutdown_timeout_s
    made.h11_max_incomplete_size = MAX_HEAD_SIZE_BYTES
    # Hypercorn's pinger outlives its WebSocket by up to this long and holds up the stop (stream.py has one).
    made.websocket_ping_interval = None
    made.websocket_max_message_size = MAX_HEAD_SIZE_BYTES
    return made


class Listener:
    """A bound address: taken before anything else starts, so that a busy port is a clear error."""

    def __init__(self, made: Config) -> None:
        try:
            self._sockets = made.create_sockets()
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {made.bind[0]}: {error.strerror}; choose another with --host and --port"
            ) from None
        self._config = made

    async def serve(self, app: ASGIApp, stop: Callable[[], Awaitable[Any]]) -> None:
        """Serve until `stop` returns, then finish what is under way within the graceful time-out."""
        wrapped = wrap_app(refuse_bad_framing(app), self._config.wsgi_max_body_size, "asgi")
        try:
            await worker_serve(wrapped, self._config, sockets=self._sockets, shutdown_trigger=stop)
        except asyncio.InvalidStateError:  # Hypercorn 0.18 asks a cancelled future for its exception
            log.warning("connections were cut off: their clients did not read", listener=self._config.bind)


def refuse_bad_framing(app: ASGIApp) -> ASGIApp:
    """Answer 400 and close where two parties could disagree on where the body ends (RFC 9112, 6.1).

    And 431 to a head that is too large: h11 measures only one that is not yet whole.
    """

    async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> None:
        refusal = _head_refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await app(scope, receive, send)
            return
        status, body = refusal
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return guarded


def _head_refusal(scope: dict[str, Any]) -> tuple[int, bytes] | None:
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS or sum(len(value) for _, value in headers) > MAX_HEAD_SIZE_BYTES:
        return 431, LARGE_HEAD
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names and (b"content-length" in names or scope["http_version"] == "1.0"):
        return 400, BAD_FRAMING
    return None

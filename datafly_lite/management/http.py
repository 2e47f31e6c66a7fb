"""The management API's HTTP: who calls, with what body, and how errors look (api.md, section 2)."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import anyio
import msgspec
import structlog
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from datafly_lite.audit import Actor, acting
from datafly_lite.auth import User, require
from datafly_lite.auth_limits import Ceiling
from datafly_lite.clock import new_id
from datafly_lite.errors import AdminError, ScriptEngineUnavailable, StorageBroken, StorageUnavailable
from datafly_lite.proxies import client_address
from datafly_lite.services import Services
from datafly_lite.settings import Settings, networks

LARGEST_BODY_BYTES = 1024 * 1024
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BOM = b"\xef\xbb\xbf"

log = structlog.get_logger(__name__)


class WholePath(PathConvertor):
    """The rest of a path, line ends too, which Starlette's own does not match: a messageId may hold some."""

    regex = r"[\s\S]*"


register_url_convertor("path", WholePath())


def address_of(request: Request, settings: Settings) -> str:
    """Where a request came from, as its peer or a trusted proxy says."""
    peer = request.client.host if request.client else None
    trusted = networks(settings.trusted_proxies, setting="trusted_proxies")
    return client_address(peer, request.headers.get("x-forwarded-for", ""), trusted) or ""


def actor_of(request: Request, user: User | None, settings: Settings) -> Actor:
    """Who the audit log says it was, on a request that nobody signed in to as well."""
    user_id, email = (user.id, user.email) if user else (None, None)
    return Actor(user_id, email, address_of(request, settings) or None, request.headers.get("user-agent"))


class Call(msgspec.Struct, frozen=True):
    """One request. `caller` is None only on the routes that need nobody to be logged in."""

    services: Services
    request: Request
    caller: User | None

    @property
    def user(self) -> User:
        """Who calls, on a route with a role."""
        if self.caller is None:
            raise AdminError("INVALID_TOKEN", "log in first")
        return self.caller

    @property
    def address(self) -> str:
        """Where the request came from."""
        return address_of(self.request, self.services.settings)

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str | None:
        """A parameter; None where it is absent or empty."""
        return self.request.query_params.get(name) or None

    def whole(self, name: str, default: int) -> int:
        """A parameter that is a whole number. Raises VALIDATION_ERROR."""
        value = self.query(name)
        if value is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,15}", value):
            raise AdminError.invalid(name, "must be a whole number")
        return int(value)

    def boolean(self, name: str) -> bool | None:
        """A parameter that is `true` or `false`. Raises VALIDATION_ERROR."""
        value = self.query(name)
        if value not in (None, "true", "false"):
            raise AdminError.invalid(name, "must be true or false")
        return None if value is None else value == "true"

    async def fields(self) -> dict[str, Any]:
        """The body, a JSON object. Raises INVALID_JSON, VALIDATION_ERROR, PAYLOAD_TOO_LARGE."""
        body = await _body(self.request, self.services.settings.body_timeout_s)
        try:
            value = msgspec.json.decode(body.removeprefix(BOM))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AdminError("INVALID_JSON", f"the body is not JSON: {error}") from None
        except RecursionError:
            raise AdminError("INVALID_JSON", "the body is nested too deeply") from None
        if not isinstance(value, dict):
            raise AdminError("VALIDATION_ERROR", "the body must be a JSON object")
        return value


async def _body(request: Request, timeout_s: float) -> bytes:
    """As much as is allowed, in the time that is allowed."""
    chunks, size_bytes = [], 0
    with anyio.move_on_after(timeout_s):
        async for chunk in request.stream():
            size_bytes += len(chunk)
            if size_bytes > LARGEST_BODY_BYTES:
                raise AdminError("PAYLOAD_TOO_LARGE", f"the body is larger than {LARGEST_BODY_BYTES:,} bytes")
            chunks.append(chunk)
        return b"".join(chunks)
    raise AdminError("REQUEST_TIMEOUT", f"the body did not arrive within {timeout_s:g} s")


Handler = Callable[[Call], Awaitable[Response]]


def to_json(value: Any) -> bytes:
    """As JSON; events can hold integers beyond 64 bits, which only the slower encoder writes."""
    try:
        return msgspec.json.encode(value)
    except OverflowError:
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False).encode()


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(to_json(value), status, media_type="application/json")


def no_content() -> Response:
    """It is done, and there is nothing to say."""
    return Response(status_code=204)


def bearer_of(connection: HTTPConnection) -> str | None:
    """The token of `Authorization: Bearer ...`."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class Gate(NamedTuple):
    """Who may call a handler: this role and greater ones, None = anybody; and API keys, or people only."""

    role: str | None
    for_people: bool
    handler: Handler


class Resource:
    """All methods of one path."""

    def __init__(self, services: Services, ceiling: Ceiling, methods: Mapping[str, Gate]) -> None:
        self._services = services
        self._ceiling = ceiling
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self._methods:
            raise HTTPException(405, headers={"allow": ", ".join(self._methods)})
        gate = self._methods[method]
        caller = await self._caller(request, gate.role, gate.for_people) if gate.role else None
        with acting(actor_of(request, caller, self._services.settings)):
            response = await gate.handler(Call(self._services, request, caller))
        await response(scope, receive, send)

    async def _caller(self, request: Request, role: str, for_people: bool) -> User:
        """Each key has a ceiling of its own: a program that runs wild does not stand in its maker's way."""
        token = bearer_of(request)
        if token is None:
            raise AdminError("INVALID_TOKEN", "send an access token or API key: `Authorization: Bearer ...`")
        user, key_id = await self._services.authority.bearer(token)
        self._ceiling.take(key_id or user.id)
        if key_id and for_people:
            raise AdminError("FORBIDDEN", "an API key cannot do this: log in, and use the access token")
        require(user, role)
        return user


# ── Errors ───────────────────────────────────────────────────────────────────────────────────


class ErrorLayer:
    """Gives each answer its request id and headers, and each error the one shape."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope))
        started = False

        async def send_labelled(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["cache-control"] = "no-store"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await self._app(scope, receive, send_labelled)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise
            await error_response(error, request_id)(scope, receive, send_labelled)


def request_id_of(headers: Headers) -> str:
    """The caller's own id for the request where it is a decent one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else new_id("req")


def error_response(error: Exception, request_id: str) -> Response:
    """What is told of the error; anything unexpected goes to the log, not outside."""
    known = _known(error)
    if known.code == "INTERNAL_ERROR":
        log.error("management request failed", request_id=request_id, exc_info=error)
    content = {
        "code": known.code,
        "message": known.message,
        "details": known.details,
        "request_id": request_id,
    }
    response = answer({"error": content}, known.status)
    if known.retry_after_s is not None:
        response.headers["retry-after"] = str(known.retry_after_s)
    if known.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _known(error: Exception) -> AdminError:
    if isinstance(error, AdminError):
        return error
    if isinstance(error, StorageUnavailable | ScriptEngineUnavailable):
        return AdminError("STORAGE_UNAVAILABLE", str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, StorageBroken):
        return AdminError("STORAGE_UNAVAILABLE", "the store failed; the program is stopping", retry_after_s=5)
    if isinstance(error, HTTPException) and error.status_code == 405:
        return AdminError("METHOD_NOT_ALLOWED", "this path does not know this method")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return AdminError("NOT_FOUND", "there is nothing at this path")
    return AdminError("INTERNAL_ERROR", "something went wrong here; the program's log has the request id")


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """The router's answer to a path that it does not know."""
    if scope["type"] == "websocket":
        await WebSocketClose()(scope, receive, send)
        return
    raise HTTPException(404)

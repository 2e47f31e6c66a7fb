"""What all pages share: the session, the role, the cross-site check, the headers, the error pages."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from datafly_lite.audit import acting
from datafly_lite.auth import User, require, session_token_of
from datafly_lite.errors import AdminError, ScriptEngineUnavailable, StorageBroken, StorageUnavailable
from datafly_lite.management.http import actor_of, error_response, request_id_of
from datafly_lite.services import Services
from datafly_lite.ui.csrf import check_same_site
from datafly_lite.ui.headers import page_headers
from datafly_lite.ui.visit import Handler, Visit, with_query

HEADINGS = {
    400: ("This request cannot be read", "Go back and try again."),
    401: ("You are not signed in", "Log in and try again."),
    403: ("This is not allowed", "Ask the owner or an admin of this appliance for a role that may do it."),
    404: ("There is no such page", "It may have been deleted, or the address is mistyped."),
    405: ("This page does not take that", "Go back and use the page's own buttons."),
    409: ("This cannot be done as things stand", "Look at what changed meanwhile, then try again."),
    413: ("This is too large", "Send less at once."),
    422: ("A value cannot be used", "Go back, correct it and try again."),
    429: ("Too many attempts", "Wait a little and try again."),
    500: ("Something went wrong here", "Try again. The program's log says more beside the request id."),
    503: ("The store cannot be used now", "Try again in a few seconds. /readyz says what is wrong."),
}
"""Status -> what happened, and what to do next."""

CROSS_SITE = ("This was refused", "If you meant it, open this appliance in a tab of its own and do it there.")

WORTH_TELLING = frozenset({"CROSS_SITE_REQUEST", "RATE_LIMITED", "VALIDATION_ERROR", "CONFLICT", "FORBIDDEN"})
"""Codes whose own message says more than the heading."""

log = structlog.get_logger(__name__)


class Page:
    """All methods of one path, each with the least role that may call it; None = anybody."""

    def __init__(self, services: Services, methods: Mapping[str, tuple[str | None, Handler]]) -> None:
        self._services = services
        self._methods = methods
        self._headers = page_headers(services.settings.base_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = request_id_of(request.headers)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = await self._answer(request, request_id)
            except ClientDisconnect:
                return
        for name, value in {**self._headers, "X-Request-ID": request_id}.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request, request_id: str) -> Response:
        user: User | None = None
        try:
            check_same_site(request.method, request.headers, self._services.settings.base_url)
            role, handler = self._method(request.method)
            user = await self._user(request)
            if role is not None:
                if user is None:
                    return _log_in_first(request)
                require(user, role)
            with acting(actor_of(request, user, self._services.settings)):
                return await handler(Visit(self._services, request, request_id, user))
        except ClientDisconnect:
            raise
        except Exception as error:
            if _wants_json(request):
                return error_response(error, request_id)
            return error_page(Visit(self._services, request, request_id, user), error)

    def _method(self, method: str) -> tuple[str | None, Handler]:
        known = self._methods.get("GET" if method == "HEAD" else method)
        if known is None:
            raise HTTPException(405, headers={"Allow": ", ".join(self._methods)})
        return known

    async def _user(self, request: Request) -> User | None:
        token = session_token_of(request.cookies, self._services.settings.base_url)
        return await self._services.authority.user_of_session(token) if token else None


def _wants_json(request: Request) -> bool:
    """The pages' own modules ask for JSON and nothing else."""
    return request.headers.get("accept", "") == "application/json"


def _log_in_first(request: Request) -> Response:
    """To the log-in, and after it back to the page that was asked for; a change is not done later."""
    if _wants_json(request):
        raise AdminError("INVALID_TOKEN", "log in first")
    asked = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
    wanted = asked if request.method in {"GET", "HEAD"} and asked != "/" else ""
    return RedirectResponse(with_query("/login", {"next": wanted}), 303)


def error_page(visit: Visit, error: Exception) -> Response:
    """What happened in words, what to do next, and the id under which the log has it."""
    status, message, retry_after_s = _known(error)
    if status == 500:
        log.error("page failed", path=visit.request.url.path, exc_info=error)
    is_cross_site = isinstance(error, AdminError) and error.code == "CROSS_SITE_REQUEST"
    heading, advice = CROSS_SITE if is_cross_site else HEADINGS[status]
    response = visit.page("error.html", status, heading=heading, advice=advice, message=message)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _known(error: Exception) -> tuple[int, str, int | None]:
    """(status, message, retry_after_s); the message of anything unexpected stays inside."""
    if isinstance(error, AdminError):
        status = error.status if error.status in HEADINGS else 400
        return status, error.message if error.code in WORTH_TELLING else "", error.retry_after_s
    if isinstance(error, StorageUnavailable | ScriptEngineUnavailable):
        return 503, str(error), error.retry_after_s
    if isinstance(error, StorageBroken):
        return 503, "the store failed; the program is stopping", 5
    if isinstance(error, HTTPException) and error.status_code in HEADINGS:
        return error.status_code, "", None
    return 500, "", None


async def nothing_here(visit: Visit) -> Response:
    """Whatever path no other route knows."""
    del visit
    raise AdminError("NOT_FOUND", "there is nothing at this address")

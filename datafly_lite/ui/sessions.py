"""Set-up, log-in, the one-time link, log-out."""

from __future__ import annotations

import re

from starlette.responses import Response

from datafly_lite.auth import (
    SECURE_SESSION_COOKIE,
    SESSION_ABSOLUTE_MS,
    SESSION_COOKIE,
    User,
    session_cookie,
    session_token_of,
)
from datafly_lite.auth_passwords import SHORTEST
from datafly_lite.errors import AdminError
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.visit import Visit

LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""Printable ASCII after one slash, without a backslash, which browsers read as a slash."""

LINK_CODES = frozenset({"INVALID_TOKEN", "EXPIRED_TOKEN", "GONE"})


def local_path(text: str) -> str:
    """The path where it leads to this site for certain, else `/`: `//evil` and `/\\evil` lead elsewhere."""
    return text if LOCAL_PATH.fullmatch(text) else "/"


# ── Set-up ───────────────────────────────────────────────────────────────────────────────────


async def show_set_up(visit: Visit) -> Response:
    """The form that makes the owner, or why the link is no good and what to do."""
    try:
        await visit.services.authority.check_setup_token(visit.query("token"))
    except AdminError as error:
        return bad_link(visit, error)
    return _set_up_page(visit, visit.query("token"), Form(), Problems())


async def set_up(visit: Visit) -> Response:
    """Make the owner and let them in."""
    form = await visit.form()
    try:
        user = await visit.services.authority.set_up(
            form.word("token"), form.word("email"), form.text("password"), form.word("name")
        )
    except AdminError as error:
        if error.code in LINK_CODES:
            return bad_link(visit, error)
        return _set_up_page(
            visit, form.word("token"), form, problems_of(error, ("email", "password", "name")), error.status
        )
    return await let_in(visit, user, "/")


def _set_up_page(visit: Visit, token: str, form: Form, problems: Problems, status: int = 200) -> Response:
    return visit.page("set_up.html", status, token=token, form=form, problems=problems, shortest=SHORTEST)


def bad_link(visit: Visit, error: AdminError) -> Response:
    """Why a one-time link is no good, and what to do."""
    is_gone, path = error.code == "GONE", visit.request.url.path
    return visit.page(
        "bad_link.html",
        410 if is_gone else 401,
        message=error.message,
        path_of_link=path,
        is_set_up=is_gone and path == "/setup",
    )


# ── Log-in ───────────────────────────────────────────────────────────────────────────────────


async def show_log_in(visit: Visit) -> Response:
    """The form; whoever is in already goes on."""
    if visit.user is not None:
        return visit.go(local_path(visit.query("next")))
    return await _log_in_page(visit, Form([("next", visit.query("next"))]), Problems())


async def log_in(visit: Visit) -> Response:
    """Let in whoever has the password, to where they wanted to go."""
    form = await visit.form()
    authority = visit.services.authority
    try:
        user = await authority.login(form.word("email"), form.text("password"), visit.address)
    except AdminError as error:
        return await _log_in_page(visit, form, problems_of(error, ("email", "password")), error.status)
    return await let_in(visit, user, local_path(form.word("next")))


async def _log_in_page(visit: Visit, form: Form, problems: Problems, status: int = 200) -> Response:
    has_owner = await visit.services.authority.has_owner()
    return visit.page("log_in.html", status, form=form, problems=problems, has_owner=has_owner)


async def follow_link(visit: Visit) -> Response:
    """The one-time link from the program's output: it is used up by a person's click, not by a preview."""
    if visit.request.method == "HEAD" or "prefetch" in visit.request.headers.get("sec-purpose", ""):
        return Response(status_code=204)
    try:
        user = await visit.services.authority.follow_sign_in_link(visit.query("token"))
    except AdminError as error:
        if visit.user is not None:
            return visit.go("/")
        return bad_link(visit, error)
    return await let_in(visit, user, "/")


async def log_out(visit: Visit) -> Response:
    """End the session on the server too."""
    token = session_token_of(visit.request.cookies, visit.services.settings.base_url)
    if token:
        await visit.services.authority.close_session(token)
    response = visit.go("/login", "signed-out")
    for name in (SECURE_SESSION_COOKIE, SESSION_COOKIE):
        response.delete_cookie(name, secure=name == SECURE_SESSION_COOKIE, httponly=True, samesite="lax")
    return response


async def let_in(visit: Visit, user: User, path: str) -> Response:
    """A new session, never one that was there before (session fixation)."""
    old = session_token_of(visit.request.cookies, visit.services.settings.base_url)
    if old:
        await visit.services.authority.close_session(old)
    token = await visit.services.authority.open_session(user)
    name, response = session_cookie(visit.services.settings.base_url), visit.go(path)
    response.set_cookie(
        name,
        token,
        max_age=SESSION_ABSOLUTE_MS // 1000,
        secure=name == SECURE_SESSION_COOKIE,
        httponly=True,
        samesite="lax",
    )
    return response

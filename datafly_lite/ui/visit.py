"""One request for a page: who asks, what they sent, and the answers that a page can give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from datafly_lite.auth import ROLES, User
from datafly_lite.errors import AdminError
from datafly_lite.management.http import address_of, to_json
from datafly_lite.services import Services
from datafly_lite.ui.forms import Form, read_form
from datafly_lite.ui.templating import render

NOTICES = {
    "saved": "Saved.",
    "deleted": "The pipeline is deleted. Its key is refused from now on.",
    "attached": "The integration is attached. New events go to it from now on.",
    "detached": "The integration is detached.",
    "source-made": "The webhook source is made. What is posted to its address becomes events from now on.",
    "source-deleted": "The webhook source is deleted. What is posted to its address is refused from now on.",
    "person-removed": "The person is removed, and all that let them in has ended.",
    "handed-over": "There is a new owner, and you are an admin. Log in again.",
    "key-deleted": "The API key is deleted. It is refused from now on.",
    "build": "A build was started.",
    "signed-out": "You are signed out.",
    "unlinked": "The link is undone.",
    "none-selected": "Nothing was selected, so nothing was done.",
}
"""What a redirect can say on the next page: a word in its query, never a text."""


class Visit(msgspec.Struct, frozen=True):
    """`user` is None on pages that need nobody to be signed in, where nobody is."""

    services: Services
    request: Request
    request_id: str
    user: User | None

    @property
    def somebody(self) -> User:
        """Who is signed in, on a page with a role."""
        if self.user is None:
            raise AdminError("INVALID_TOKEN", "log in first")
        return self.user

    @property
    def address(self) -> str:
        """Where the request came from."""
        return address_of(self.request, self.services.settings)

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        """A parameter without white space around it; empty where it is absent."""
        return self.request.query_params.get(name, "").strip()

    def filters(self, *names: str) -> dict[str, str]:
        """Parameters by name, empty where they are absent."""
        return {name: self.query(name) for name in names}

    async def form(self) -> Form:
        """What a POST sent. Raises PAYLOAD_TOO_LARGE and VALIDATION_ERROR."""
        return await read_form(self.request)

    def can(self, role: str) -> bool:
        """Whether the visitor has this role or a greater one."""
        return self.user is not None and ROLES.index(self.user.role) >= ROLES.index(role)

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page from a template of web/templates."""
        common = {
            "user": self.user,
            "can": self.can,
            "path": self.request.url.path,
            "notice": NOTICES.get(self.query("notice"), ""),
            "request_id": self.request_id,
        }
        return HTMLResponse(render(template, **common, **values), status)

    def data(self, value: Any) -> Response:
        """JSON for the page's own modules."""
        return Response(to_json(value), media_type="application/json")

    def go(self, path: str, notice: str = "", **query: str) -> RedirectResponse:
        """Post/Redirect/Get: on to another page, with a word of NOTICES to say there."""
        asked = with_query("", {**query, "notice": notice})
        before, separator, fragment = path.partition("#")
        return RedirectResponse(before + asked + separator + fragment, 303)


Handler = Callable[[Visit], Awaitable[Response]]


def with_query(path: str, values: Mapping[str, str]) -> str:
    """The path with those of the values that are not empty."""
    asked = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{asked}" if asked else path

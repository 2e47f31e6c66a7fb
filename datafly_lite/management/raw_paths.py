"""Routes that take an escaped slash for a part of a name and never for the end of one.

ASGI servers unescape `path` as a whole (asgi.readthedocs.io, HTTP connection scope), so that a visitor whose
id is `a/links/b` looks like the visitor `a` and its link `b` there. `raw_path` still tells them apart.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.routing import Match, Route
from starlette.types import Scope


class RawRoute(Route):
    """As Starlette's; what is found in the path is as the client meant it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The route's answer for the path in which slashes of names are still escaped."""
        match, child = super().matches({**scope, "path": masked_path(scope)})
        if match is not Match.NONE:
            child["path_params"] = {name: _meant(value) for name, value in child["path_params"].items()}
        return match, child


def masked_path(scope: Scope) -> str:
    """The path unescaped, but for `%2F` and `%25`."""
    raw: bytes | None = scope.get("raw_path")  # a server may leave it out
    if raw is None:
        return str(scope["path"])
    parts = raw.decode("latin-1").split("/")
    return "/".join(unquote(part).replace("%", "%25").replace("/", "%2F") for part in parts)


def _meant(value: Any) -> Any:
    """Unescaped to the end."""
    return value.replace("%2F", "/").replace("%25", "%") if isinstance(value, str) else value

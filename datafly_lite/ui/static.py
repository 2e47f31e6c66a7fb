"""Stylesheets, modules and pictures: read once, served under an address that changes with them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datafly_lite.assets import asset

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    # An SVG opened by itself is a document, and could carry a script.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'",
}


class Files(NamedTuple):
    """All files by their path below web/static, and the digest of them all."""

    digest: str
    by_path: dict[str, bytes]


@cache
def files() -> Files:
    """One digest for all, so that a module's own imports stay within its version."""
    root = asset("web/static")
    found = {_path(root, one): one.read_bytes() for one in sorted(root.rglob("*")) if one.is_file()}
    digest = hashlib.sha256()
    for path, content in found.items():
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return Files(digest.hexdigest()[:12], found)


def static_url(path: str) -> str:
    """`app.css` -> `/static/{digest}/app.css`. Raises KeyError for a file that is not there."""
    content = files()
    if path not in content.by_path:
        raise KeyError(path)
    return f"/static/{content.digest}/{path}"


def static_route() -> Route:
    """Names are looked up in what was read at the start: no path is ever joined from a request."""

    async def serve(request: Request) -> Response:
        content, path = files(), request.path_params["path"]
        if request.path_params["digest"] != content.digest or path not in content.by_path:
            raise HTTPException(404)
        headers = {**HEADERS, "Content-Type": MEDIA_TYPES[Path(path).suffix]}
        return Response(content.by_path[path], headers=headers)

    return Route("/static/{digest}/{path:path}", serve)


def _path(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()

"""What a client is told, in the shapes that real SDKs read (api.md, section 1)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from datafly_lite.errors import Refused
from datafly_lite.gateway import origins

SUCCESS = b'{"success": true}'
DEDUPLICATED = b'{"success": true, "deduplicated": true}'
PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent dot, as a GIF."""
PIXEL_HEADERS = [
    (b"content-type", b"image/gif"),
    (b"cache-control", b"no-store, no-cache, must-revalidate"),
    (b"pragma", b"no-cache"),
    (b"expires", b"0"),
]
"""As the documentation of the pixel prints them (spec/datafly-signal.md, 3.4)."""
NO_STORE = (b"cache-control", b"no-store")


class Answer(NamedTuple):
    """What goes back to the client."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class Stored(NamedTuple):
    """What became of a request's events. `refusals` are `{"index", "code", "message"}`."""

    accepted: int
    duplicates: int
    refusals: list[dict[str, Any]]


def success(stored: Stored, origin: str | None, *, is_counted: bool) -> Answer:
    """200 for what is committed. `is_counted`: a batch, or whatever else can be taken in part."""
    if not is_counted:
        return json(DEDUPLICATED if stored.duplicates else SUCCESS, origin)
    counts: dict[str, Any] = {"success": True, "accepted": stored.accepted}
    if stored.duplicates:
        counts["deduplicated"] = stored.duplicates
    if stored.refusals:
        counts |= {"rejected": len(stored.refusals), "errors": stored.refusals}
    return json(msgspec.json.encode(counts), origin)


def json(body: bytes, origin: str | None) -> Answer:
    """200 with a JSON body that the origin may read."""
    return Answer(200, body, [*origins.headers(origin)])


def image(origin: str | None) -> Answer:
    """200 with the pixel."""
    headers = [pair for pair in origins.headers(origin) if pair[0] != b"content-type"]
    return Answer(200, PIXEL, [*headers, *PIXEL_HEADERS])


def redirect(location: str) -> Answer:
    """302 to an address, which no cache keeps: it is one visitor's and good for once."""
    return Answer(302, b"", [(b"location", location.encode("ascii")), NO_STORE])


def refusal(refused: Refused, origin: str | None, methods: Iterable[str] = ()) -> Answer:
    """The refusal's own status, and what a client needs to do better. `methods` are the path's."""
    body = msgspec.json.encode({"success": False, "code": refused.code, "message": refused.message})
    readable_by = None if refused.code == "origin_not_allowed" else origin
    answer = Answer(refused.status, body, [*origins.headers(readable_by)])
    if refused.retry_after_s is not None:
        answer.headers.append((b"retry-after", str(refused.retry_after_s).encode()))
    if refused.status == 429:  # what analytics-next before 1.84 reads instead (wire-formats.md, section 0)
        answer.headers.append((b"x-ratelimit-reset", str(refused.retry_after_s or 1).encode()))
    if refused.status == 405:
        answer.headers.append((b"allow", ", ".join(methods).encode()))
    return answer

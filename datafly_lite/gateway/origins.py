"""Which pages may send to a pipeline, and the CORS headers that tell them (api.md, section 1, CORS)."""

from __future__ import annotations

from urllib.parse import urlsplit

from datafly_lite.configuration import Pipeline
from datafly_lite.errors import Refused
from datafly_lite.gateway.callers import is_local

RawHeaders = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
COMMON: RawHeaders = [
    JSON,
    (b"vary", b"Origin"),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Authorization"),
]
PREFLIGHT_MAX_AGE_S = b"7200"
"""Two hours, the most that Chromium keeps a preflight's answer."""


def is_allowed(pipeline: Pipeline, origin: str | None, *, dev: bool) -> bool:
    """No Origin is no browser, which this rule is not about; an empty list allows every origin."""
    if origin is None or not pipeline.domain_allowlist:
        return True
    host = host_of(origin)
    if host is None:
        return False
    if dev and is_local(host):
        return True
    return any(matches(entry.lower(), host) for entry in pipeline.domain_allowlist)


def check(pipeline: Pipeline, origin: str | None, *, dev: bool) -> None:
    """Raise Refused where the pipeline takes nothing at all, or nothing from this origin."""
    if not pipeline.enabled:
        raise Refused("pipeline_disabled", "this pipeline is disabled")
    if not is_allowed(pipeline, origin, dev=dev):
        raise Refused("origin_not_allowed", f"{origin} is not among this pipeline's allowed domains")


def host_of(origin: str) -> str | None:
    """The host of an http(s) origin; None for `null` and anything else that is not one."""
    try:
        parts = urlsplit(origin.lower())
        well_formed = parts.scheme in ("http", "https") and not (parts.path or parts.query or parts.username)
        return parts.hostname if well_formed and parts.port != 0 else None
    except ValueError:
        return None


def matches(entry: str, host: str) -> bool:
    """Whether a host is the one of an entry; `*.example.com` is every host below it, and not itself."""
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry


def headers(origin: str | None) -> RawHeaders:
    """The headers of an answer that the origin may read."""
    if origin is None:
        return COMMON
    return [
        *COMMON,
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After, X-RateLimit-Reset, X-Request-ID"),
    ]


def preflight(origin: str | None, asked: bytes | None) -> RawHeaders:
    """The answer to OPTIONS. What is asked for is what is allowed: the headers change on retries."""
    answer = [
        pair for pair in headers(origin) if pair[0] not in (b"access-control-allow-headers", b"content-type")
    ]
    return [
        *answer,
        (b"access-control-allow-headers", asked or b"Content-Type, Authorization"),
        (b"access-control-max-age", PREFLIGHT_MAX_AGE_S),
    ]

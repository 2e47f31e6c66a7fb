"""Who asks: the key, the visitor, the address. Everything here comes from headers and the query."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote

from datafly_lite.proxies import Networks, client_address, is_within

Headers = Mapping[bytes, bytes]

QUERY_KEYS = frozenset({"writeKey", "wk", "token", "tc_skey"})
"""Of RudderStack's beacon, the pixel, Commanders Act and its iOS SDK (wire-formats.md, 1.1 and 3.2)."""
KEY_HEADERS = (b"x-write-key", b"x-pipeline-key")
WRITE_KEY = re.compile(rb'"writeKey"\s*+:\s*+"([^"\\]{1,200})"')
MOST_KEYS = 10
"""Clients write one at the body's root or one in each event of a batch."""
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
VISITOR_COOKIE = re.compile(rb"(?:^|;)\s*_dfid=([^;]*)")


class Caller(NamedTuple):
    """What the door needs of a request's head."""

    ip: str | None
    scheme: str
    host: str
    user_agent: str | None
    origin: str | None
    visitor: str | None
    is_basic: bool


def header(headers: Headers, name: bytes) -> str | None:
    """A header as text, or None."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def keys(headers: Headers, query: bytes) -> Iterable[str]:
    """The pipeline key wherever clients put it outside the body (wire-formats.md, section 0 rule 3).

    The query comes first: where it and a header differ, it wins (1.2).
    """
    if query:
        yield from (value for name, value in parameters(query) if name in QUERY_KEYS)
    scheme, _, credentials = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
    if scheme.lower() == "basic":
        yield _basic_user(credentials)
    for name in KEY_HEADERS:
        if name in headers:
            yield headers[name].decode("latin-1")


def parameters(query: bytes) -> Iterator[tuple[str, str]]:
    """Of a query string, with `+` left as it is: keys that end in `==` may hold one."""
    for pair in query.decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        yield unquote(name), unquote(value)


def keys_within(body: bytes) -> Iterator[str]:
    """What a body may hold as `writeKey`, found without reading it: anybody can send one."""
    return (found[1].decode("latin-1") for found in islice(WRITE_KEY.finditer(body), MOST_KEYS))


def without_keys(query: bytes) -> bytes:
    """A query string as it was encoded, without the parameters that hold a key."""
    return b"&".join(part for part in query.split(b"&") if part and _name(part) not in QUERY_KEYS)


def _name(part: bytes) -> str:
    return unquote(part.partition(b"=")[0].decode("latin-1"))


def _basic_user(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def caller(scope: Mapping[str, Any], headers: Headers, trusted: Networks) -> Caller:
    """The caller as its peer, or a proxy that is trusted, says."""
    peer = scope["client"][0] if scope.get("client") else None
    scheme: str = scope["scheme"]
    if trusted and peer and is_within(peer, trusted):
        scheme = headers.get(b"x-forwarded-proto", scheme.encode()).decode("latin-1").strip().lower()
    forwarded_for = headers.get(b"x-forwarded-for", b"").decode("latin-1") if trusted else ""
    return Caller(
        ip=client_address(peer, forwarded_for, trusted),
        scheme=scheme,
        host=headers.get(b"host", b"").decode("latin-1"),
        user_agent=header(headers, b"user-agent"),
        origin=header(headers, b"origin"),
        visitor=visitor_of(headers.get(b"cookie")),
        is_basic=headers.get(b"authorization", b"")[:6].lower() == b"basic ",
    )


def visitor_of(cookie: bytes | None) -> str | None:
    """The first `_dfid` of a Cookie header that is a UUID v4: a sibling domain may have set another."""
    if not cookie:
        return None
    values = (found[1].decode("latin-1").strip() for found in VISITOR_COOKIE.finditer(cookie))
    return next((value for value in values if UUID4.fullmatch(value)), None)


def is_local(host: str) -> bool:
    """Whether a Host header, or the host of an origin, names this machine."""
    with_port = HOST_AND_PORT.fullmatch(host)
    name = (with_port[1] if with_port else host).strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

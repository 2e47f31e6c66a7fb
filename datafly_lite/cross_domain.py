"""Addresses that carry a visitor from one site to another, in the parameter `_dfx` (docs/cross-domain.md).

Only text is looked at here. The names of the parameter and its life are the product's own: the
documentation leaves them out (spec/datafly-signal.md, 6.5).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

PARAMETER = "_dfx"
LONGEST_ADDRESS = 4_096
LONGEST_TOKEN = 1_024

ADDRESS = re.compile(
    r"https?://(?P<host>[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
"""No user name, no backslash before the path, no host but a plain one: what browsers and this program
could read as two different hosts is no address (reliability.md, case 110)."""
UNSAFE = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
ASCII = "".join(map(chr, range(0x21, 0x7F)))


class Target(NamedTuple):
    """Where a visitor wants to go. `url` is ASCII; `host` is in small letters and has no port."""

    url: str
    host: str


def target(text: str) -> Target:
    """Read the address of another site. Raises ValueError with what is wrong with it."""
    if len(text) > LONGEST_ADDRESS:
        raise ValueError(f"has more than {LONGEST_ADDRESS:,} characters")
    found = None if UNSAFE.search(text) else ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"] or 80) < 65_536:
        raise ValueError("must be a whole address that starts with https:// or http://")
    return Target(quote(text, safe=ASCII), found["host"].lower())


def with_token(url: str, token: str) -> str:
    """The address with the token as its last parameter, in place of any that it had."""
    address, sign, fragment = strip_token(url).partition("#")
    base, mark, query = address.partition("?")
    return f"{base}?{query}{'&' if mark else ''}{PARAMETER}={token}{sign}{fragment}"


def strip_token(url: str) -> str:
    """The address without the parameter; all else stays as it is, byte for byte."""
    if "?" not in url:
        return url
    address, sign, fragment = url.partition("#")
    base, mark, query = address.partition("?")
    parts = query.split("&")
    kept = [part for part in parts if not _is_ours(part)]
    if len(kept) == len(parts):
        return url
    return f"{base}{mark if kept else ''}{'&'.join(kept)}{sign}{fragment}"


def token_of(url: object) -> str | None:
    """The token in an address, if there is one; whatever else a client writes there has none."""
    if not isinstance(url, str) or "?" not in url:
        return None
    query = url.partition("#")[0].partition("?")[2]
    found = next((part for part in query.split("&") if _is_ours(part)), "")
    token = unquote(found.partition("=")[2])
    return token if 0 < len(token) <= LONGEST_TOKEN else None


def _is_ours(part: str) -> bool:
    return unquote(part.partition("=")[0]) == PARAMETER

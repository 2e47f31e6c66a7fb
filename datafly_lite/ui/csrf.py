"""Refuse changes that another site's page asks for with the user's cookie.

The rule is that of Go 1.25's CrossOriginProtection: browsers say with Sec-Fetch-Site where a request
comes from, and older ones with Origin. A form that says neither comes from no browser; the API takes
such callers, the pages do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from datafly_lite.errors import AdminError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSAL = "this request came from another site's page, so nothing was changed"


def check_same_site(method: str, headers: Mapping[str, str], base_url: str) -> None:
    """Raise CROSS_SITE_REQUEST unless the request is safe or comes from the product's own pages."""
    if method in SAFE_METHODS:
        return
    site = headers.get("sec-fetch-site")
    is_own = site in {"same-origin", "none"} if site is not None else _is_own_origin(headers, base_url)
    if not is_own:
        raise AdminError("CROSS_SITE_REQUEST", REFUSAL)


def _is_own_origin(headers: Mapping[str, str], base_url: str) -> bool:
    scheme, _, host = headers.get("origin", "").partition("://")
    return scheme in {"http", "https"} and host in {headers.get("host"), urlsplit(base_url).netloc}

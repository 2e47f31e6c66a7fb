"""Vendors' cookies, set with the first answer to a browser (spec/datafly-signal.md, 5.7; seed 000).

Off unless a pipeline names vendors in `js_builder_config.vendor_syncs` or `identity_config.vendor_sync`.
A cookie that the browser has keeps its value. What is made follows from the visitor's id and the time, and
so nothing here is random. They are not HttpOnly: the vendors' scripts read them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from datafly_lite import vendor_ids
from datafly_lite.gateway import cookies

COOKIES_OF = {
    "ga4": ("_ga",),
    "google_ads": ("_gcl_aw",),
    "meta": ("_fbp", "_fbc"),
    "tiktok": ("_ttp",),
    "pinterest": ("_pin_unauth", "_epik"),
    "snapchat": ("_scid",),
    "linkedin": ("li_fat_id",),
}
ALIASES = {
    "google_analytics": "ga4",
    "google_analytics_4": "ga4",
    "meta_capi": "meta",
    "meta_conversions_api": "meta",
    "facebook": "meta",
    "tiktok_events_api": "tiktok",
    "pinterest_ads": "pinterest",
    "snapchat_capi": "snapchat",
    "linkedin_ads": "linkedin",
}
"""Names that the documentation uses for one vendor in different places (seed 002; 8.4 to 8.11b)."""

MOST_PARAMETERS = 100


def asked_for(builder: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """The cookies of the vendors that a pipeline names. `false` and `{"enabled": false}` are off."""
    syncs = {**_object(builder.get("vendor_syncs")), **_object(identity.get("vendor_sync"))}
    names = [name.lower().replace("-", "_") for name, sync in syncs.items() if _is_on(sync)]
    return [cookie for name in names for cookie in COOKIES_OF.get(ALIASES.get(name, name), ())]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_on(sync: Any) -> bool:
    return sync is not False and not (isinstance(sync, dict) and sync.get("enabled") is False)


def values_of(asked: list[str], had: Mapping[str, str], maker: Maker | None) -> dict[str, str]:
    """Cookie -> value to set: the browser's own, else, with a maker, a new one where there is a format."""
    found = {name: had.get(name) or (maker.value(name) if maker else None) for name in asked}
    return {name: value for name, value in found.items() if value}


def category_of(name: str) -> str:
    """What a visitor must not have refused for the cookie to be set."""
    return vendor_ids.KINDS[vendor_ids.COOKIES[name]].category


class Maker(NamedTuple):
    """What new values follow from: the visitor, the time of the request and the address of the page."""

    visitor: str
    at_ms: int
    page_url: str

    def value(self, name: str) -> str | None:
        """In the documentation's format (5.7); None where it has none: those are clicks."""
        number = self._number(name)
        match name:
            case "_ga":
                return f"GA1.2.{number % 2**31}.{self.at_ms // 1000}"
            case "_fbp":
                return f"fb.1.{self.at_ms}.{10**9 + number % (9 * 10**9)}"
            case "_fbc":
                return self._fbc()
            case "_ttp" | "_pin_unauth" | "_scid":
                return str(uuid.UUID(bytes=number.to_bytes(16, "big"), version=4))
        return None

    def _number(self, name: str) -> int:
        """128 bits that follow from the visitor, other ones for each cookie."""
        digest = hashlib.blake2b(f"{name} {self.visitor}".encode(), digest_size=16).digest()
        return int.from_bytes(digest, "big")

    def _fbc(self) -> str | None:
        """Only for somebody who came by a click on one of Meta's pages."""
        try:
            query = parse_qsl(urlsplit(self.page_url).query, max_num_fields=MOST_PARAMETERS)
        except ValueError:
            return None
        click = next((value for name, value in query if name == "fbclid"), "")
        made = f"fb.1.{self.at_ms}.{click}"
        return made if click and click.isascii() and cookies.OCTETS.fullmatch(made.encode()) else None

"""Cookies that the door reads and sets beside each other (spec/datafly-signal.md, 5.7, 6.2 and 6.4)."""

from __future__ import annotations

import re
from typing import NamedTuple

from datafly_lite import vendor_ids
from datafly_lite.gateway import callers
from datafly_lite.gateway.callers import Caller

VISITOR, DEVICE = "_dfid", "_dfdid"
DAY_S = 86_400
MAX_AGE_S = 400 * DAY_S
"""As long as browsers keep a cookie (spec/datafly-signal.md, 6.2)."""

VENDORS_MAX_AGE_S = {name: vendor_ids.KINDS[kind].days * DAY_S for name, kind in vendor_ids.COOKIES.items()}
"""Browsers cut two years down to 400 days."""

LONGEST_VALUE = 512
"""Meta's clicks have about 200 characters."""
VENDORS = {name.encode(): name for name in vendor_ids.COOKIE_NAMES}
DEVICE_PAIR = re.compile(rb"(?:^|;)\s*_dfdid=([^;]*)")
OCTETS = re.compile(rb"[!#-+\--:<-\[\]-~]{1,%d}" % LONGEST_VALUE)
"""What the value of a cookie may hold (RFC 6265, 4.1.1): it goes back into a header."""


def of_vendors(header: bytes | None) -> dict[str, str]:
    """The cookies of vendors, each once; what is too long or not well-formed is left out."""
    if not header:
        return {}
    found: dict[str, str] = {}
    for pair in header.split(b";"):  # half of what an expression for it costs
        name, _, given = pair.partition(b"=")
        known = VENDORS.get(name.strip())
        value = given.strip(b' \t"') if known else b""
        if known and OCTETS.fullmatch(value):
            found.setdefault(known, value.decode())
    return found


def device_of(header: bytes | None) -> str | None:
    """The first `_dfdid` that is a UUID v4."""
    if not header:
        return None
    values = (found[1].decode("latin-1").strip() for found in DEVICE_PAIR.finditer(header))
    return next((value for value in values if callers.UUID4.fullmatch(value)), None)


class Setting(NamedTuple):
    """A cookie to set; `max_age_s` 0 takes it away. Vendors' own scripts read theirs."""

    name: str
    value: str
    max_age_s: int = MAX_AGE_S
    is_readable: bool = False


def line(setting: Setting, caller: Caller, domain: str) -> bytes:
    """The Set-Cookie. All have `_dfid`'s attributes, but that scripts may read those of vendors."""
    parts = [f"{setting.name}={setting.value}", "Path=/", f"Max-Age={setting.max_age_s}"]
    if not setting.is_readable:
        parts.append("HttpOnly")
    parts.append("SameSite=Lax")
    if caller.scheme == "https" or not callers.is_local(caller.host):
        parts.append("Secure")
    if domain and _is_within(caller.host, domain):
        parts.append(f"Domain={domain}")
    return "; ".join(parts).encode("latin-1")


def _is_within(host: str, domain: str) -> bool:
    """Browsers drop a cookie of another domain, and then every event would be a new visitor's."""
    name, wanted = host.partition(":")[0].lower(), domain.lstrip(".").lower()
    return name == wanted or name.endswith(f".{wanted}")

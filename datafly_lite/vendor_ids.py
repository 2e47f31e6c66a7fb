"""Ids that vendors gave a visitor: found on an event, kept, and attached to later events (`vendorIds`).

They come from the page's address (spec/datafly-signal.md, 6.3), from the vendors' own cookies (5.7), and
from the body: `vendorIds`, Commanders Act's `context.device.cookie` (wire-formats.md, 1.5) and
`context.integrations.facebook` (1.6), Segment's `context.externalIds` and
`context.integrations["Google Analytics"].clientId` (its documentation, unify/identity-resolution).

- A newer id takes the place of an older one, by the time of the click or else of the event that had it.
- `ga4_client_id` is what the Measurement Protocol calls client_id: `_ga` without its `GA1.2.`.
- `fbc` is Meta's form of a fbclid (developers.facebook.com, conversions-api/parameters/fbp-and-fbc): with
  subdomain index 1 and the time when the click was first seen, and its letters as they came. The same
  click keeps the first of its forms, so a cookie is never replaced by one that was made here.
- An id that is past its lifetime is not attached. Lifetimes are those of 5.7 (so say also
  support.google.com/analytics/answer/11397207 of `_ga`, ads.tiktok.com/help/article?aid=10007540 of `_ttp`
  and Meta's own capi-param-builder of `_fbp` and `_fbc`), and of click ids that of their vendor's cookie in
  published lists of cookies: `_gcl_aw` and `_uetmsclkid` 90 days, li_fat_id 30 days. Where a vendor has no
  cookie for its click id it is 90 days; epik lives as long as `_pin_unauth`.
- Consent: the ids of a refused category are neither kept nor attached (`allowed`); unknown is not refused.

A value must have the form that its vendor documents; what has not is no id and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from datafly_lite.events import Event

DAY_MS = 86_400_000
MAX_COOKIE_CHARS = 8_192
MAX_FIELDS = 200

CLICK = r"[A-Za-z0-9_-]{10,500}"
TOKEN = r"[A-Za-z0-9_.~=-]{10,500}"  # noqa: S105 - a form, not a secret


class VendorId(msgspec.Struct, frozen=True, rename="camel"):
    """A value and the milliseconds of its click, or of the newest event that had it."""

    value: str
    set_at_ms: int


Category = Literal["marketing", "analytics"]


class Kind(NamedTuple):
    """The form of a value, its lifetime, and the category that its vendor serves.

    The form's group `value` is what is kept where it is not all of it; `at_ms` and `at_s` are the click's.
    """

    form: re.Pattern[str]
    days: int
    category: Category


def _kind(form: str, days: int, category: Category = "marketing") -> Kind:
    return Kind(re.compile(form, re.ASCII), days, category)


KINDS = {
    "ga4_client_id": _kind(
        r"(?:GA\d\.\d{1,2}(?:-\d{1,2})?\.)?(?P<value>\d{1,20}\.\d{1,20})", 730, "analytics"
    ),
    "fbp": _kind(r"fb\.\d{1,2}\.\d{13}\.\d{1,20}(?:\.[\w-]{2,8})?", 90),
    "fbc": _kind(rf"fb\.\d{{1,2}}\.(?P<at_ms>\d{{13}})\.(?P<click>{CLICK})(?:\.[\w-]{{2,8}})?", 90),
    "ttp": _kind(r"[\w.-]{10,100}", 395),
    "pin_unauth": _kind(r"[\w.=-]{10,200}", 365),
    "scid": _kind(r"[\w.-]{10,100}", 395),
    "gclid": _kind(rf"(?:GCL\.(?P<at_s>\d{{10}})\.)?(?P<value>{CLICK})", 90),
    "gbraid": _kind(CLICK, 90),
    "wbraid": _kind(CLICK, 90),
    "fbclid": _kind(CLICK, 90),
    "ttclid": _kind(TOKEN, 90),
    "epik": _kind(TOKEN, 365),
    "sccid": _kind(r"[\w.-]{10,100}", 90),
    "li_fat_id": _kind(r"[\w-]{10,100}", 30),
    "msclkid": _kind(r"[\w-]{10,100}", 90),
}
"""By the names in `vendorIds`. Meta's own libraries add a short part of their own to fbp and fbc."""

COOKIES = {
    "_ga": "ga4_client_id",
    "_fbp": "fbp",
    "_fbc": "fbc",
    "_ttp": "ttp",
    "_pin_unauth": "pin_unauth",
    "_scid": "scid",
    "_gcl_aw": "gclid",
    "_epik": "epik",
    "li_fat_id": "li_fat_id",
}
COOKIE_NAMES = frozenset(COOKIES)
"""Cookies worth copying from a request; `_ga_<container>` is a session's, not a visitor's."""

PARAMETERS = ("gclid", "gbraid", "wbraid", "fbclid", "ttclid", "epik", "sccid", "li_fat_id", "msclkid")
"""In the address, in any letters: Snapchat's is `ScCid`, and redirects make small ones of them."""

SEGMENTS = {"ga_client_id": "ga4_client_id"}
"""Types of Segment's external ids -> names here; all others go by the same name."""


def found(event: Event, cookies: Mapping[str, str], at_ms: int) -> dict[str, VendorId]:
    """The ids that an event and its request name. `at_ms` is the event's time."""
    ids: dict[str, VendorId] = {}
    for name, text in _texts(event, cookies):
        one = _read(name, text, at_ms)
        if one is not None:
            ids[name] = _newer(name, ids.get(name, one), one)
    if "fbclid" in ids:
        own = _read("fbc", f"fb.1.{at_ms}.{ids['fbclid'].value}", at_ms)
        if own is not None:
            ids["fbc"] = _newer("fbc", ids.get("fbc", own), own)
    return ids


def _texts(event: Event, cookies: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, text), the weightiest last."""
    context = event.context
    yield from _in_address(_object(context.get("page")).get("url"))
    yield from _in_integrations(_object(context.get("integrations")))
    yield from _in_external_ids(context.get("externalIds"))
    yield from _named(_cookies_of(_object(context.get("device")).get("cookie")))
    yield from _named(cookies)
    yield from _named(_object(event.original.get("vendorIds")))


def _in_address(url: Any) -> Iterator[tuple[str, str]]:
    """The first of each parameter, so that nothing which a page adds can take a click's place."""
    if not isinstance(url, str) or "?" not in url:
        return
    try:
        pairs = parse_qsl(urlsplit(url).query, max_num_fields=MAX_FIELDS)
    except ValueError:
        return
    given = {name.casefold(): value for name, value in reversed(pairs)}
    yield from ((name, given[name]) for name in PARAMETERS if name in given)


def _in_integrations(integrations: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    facebook = _object(integrations.get("facebook"))
    yield from ((name, facebook[name]) for name in ("fbp", "fbc") if isinstance(facebook.get(name), str))
    client_id = _object(integrations.get("Google Analytics")).get("clientId")
    if isinstance(client_id, str):
        yield "ga4_client_id", client_id


def _in_external_ids(listed: Any) -> Iterator[tuple[str, str]]:
    for one in listed[:MAX_FIELDS] if isinstance(listed, list) else ():
        entry = _object(one)
        kind, value = entry.get("type"), entry.get("id")
        if isinstance(kind, str) and isinstance(value, str):
            yield SEGMENTS.get(kind, kind), value


def _cookies_of(stated: Any) -> Mapping[str, Any]:
    """`_ga=GA1.1.5; _fbp=fb.1.1`, or the same as an object."""
    if isinstance(stated, str):
        pairs = (part.partition("=") for part in stated[:MAX_COOKIE_CHARS].split(";"))
        return {name.strip(): value.strip(' \t"') for name, _, value in pairs}
    return _object(stated)


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """By the name of the id, or of its cookie."""
    for name, value in values.items():
        if isinstance(value, str):
            yield COOKIES.get(name, name), value


def _read(name: str, text: str, at_ms: int) -> VendorId | None:
    """The id in a text; a click in the future is one of a wrong clock, and is taken as this moment's."""
    kind = KINDS.get(name)
    match = kind.form.fullmatch(text) if kind is not None else None
    if match is None:
        return None
    parts = match.groupdict()
    clicked_ms = int(parts.get("at_ms") or 0) or int(parts.get("at_s") or 0) * 1_000 or at_ms
    return VendorId(parts.get("value") or text, min(clicked_ms, at_ms))


def _newer(name: str, one: VendorId, other: VendorId) -> VendorId:
    """Of two at one time the other; of two forms of one click the first."""
    if name == "fbc" and _click_of(one) == _click_of(other):
        return min(one, other, key=lambda form: form.set_at_ms)
    return other if other.set_at_ms >= one.set_at_ms else one


def _click_of(one: VendorId) -> str:
    match = KINDS["fbc"].form.fullmatch(one.value)
    return match["click"] if match is not None else one.value


def merged(
    known: dict[str, VendorId],
    found: Mapping[str, VendorId],
    at_ms: int,
    names: Container[str] = KINDS,
) -> dict[str, VendorId]:
    """What is kept of a visitor once an event had these; the same object if nothing is new.

    Only of `names`: what else was kept is forgotten, and so is what is past its lifetime. That an id was
    seen again is noted once a day.
    """
    kept = {name: one for name, one in known.items() if name in names and _is_alive(name, one, at_ms)}
    for name, one in found.items():
        if name in names and _is_alive(name, one, at_ms):
            kept[name] = _noted(name, kept[name], one) if name in kept else one
    return known if kept == known else dict(sorted(kept.items()))


def _noted(name: str, before: VendorId, one: VendorId) -> VendorId:
    is_again = before.value == one.value and one.set_at_ms - before.set_at_ms < DAY_MS
    return before if is_again else _newer(name, before, one)


def current(known: Mapping[str, VendorId], at_ms: int) -> dict[str, str]:
    """Name -> value of those that live at that time."""
    return {name: one.value for name, one in known.items() if _is_alive(name, one, at_ms)}


def _is_alive(name: str, one: VendorId, at_ms: int) -> bool:
    return name in KINDS and at_ms - one.set_at_ms < KINDS[name].days * DAY_MS


def allowed(choices: Mapping[str, bool]) -> frozenset[str]:
    """The names whose category the visitor did not refuse."""
    return _without(choices.get("marketing") is False, choices.get("analytics") is False)


@lru_cache(maxsize=4)
def _without(marketing: bool, analytics: bool) -> frozenset[str]:
    """Each event asks for one of these."""
    refused = {"marketing": marketing, "analytics": analytics}
    return frozenset(name for name, kind in KINDS.items() if not refused[kind.category])


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

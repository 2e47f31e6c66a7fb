"""Steps that say more of an event than its sender did: client, page, campaign, place, device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from datafly_lite import cross_domain, devices
from datafly_lite.events import Event
from datafly_lite.processor.passage import Passage, is_visitors_own

UTM = {
    "utm_source": "source",
    "utm_medium": "medium",
    "utm_campaign": "name",
    "utm_term": "term",
    "utm_content": "content",
}
PAGE_PROPERTIES = ("url", "title", "referrer", "path", "search")


def put_client(passage: Passage) -> bool:
    """A browser's address and user agent are the visitor's; a server's would be the server's own."""
    if not is_visitors_own(passage.envelope, passage.event):
        return False
    envelope, context = passage.envelope, passage.event.context
    found = {"ip": envelope.ip, "userAgent": envelope.user_agent}
    return passage.put_context(
        {name: value for name, value in found.items() if value and context.get(name) is None}
    )


def put_page(passage: Passage) -> bool:
    """context.page from what a page event says of itself, and path and search from its url.

    A cross-domain token has done its work at the door and is no part of the page's address.
    """
    event = passage.event
    is_changed = _without_token(event)
    page = dict(_page(event))
    if event.type == "page":
        stated = {name: event.properties.get(name) for name in PAGE_PROPERTIES}
        page = {**{name: value for name, value in stated.items() if isinstance(value, str)}, **page}
    parts = _split(page.get("url"))
    if parts is not None:
        page.setdefault("path", parts.path or "/")
        page.setdefault("search", f"?{parts.query}" if parts.query else "")
    return passage.put_context({"page": page}) if page and page != _page(event) else is_changed


def put_campaign(passage: Passage) -> bool:
    """context.campaign from the utm_ parameters of the page's url (spec/datafly-signal.md, 3.6)."""
    event = passage.event
    parts = _split(_page(event).get("url"))
    if parts is None or "campaign" in event.context or "utm_" not in parts.query:
        return False
    campaign = {UTM[name]: value for name, value in parse_qsl(parts.query) if name in UTM}
    return passage.put_context({"campaign": campaign} if campaign else {})


def put_geo(passage: Passage) -> bool:
    """context.geo: country, region, city and timezone of the visitor's address, where the operator has a
    database. It was looked up before the address was cut or dropped.
    """
    geo = passage.inputs.geo
    return passage.put_context({"geo": geo}) if geo and "geo" not in passage.event.context else False


def put_device(passage: Passage) -> bool:
    """context.device, .os and .browser from the user agent; what the sender says of them goes first."""
    context = passage.event.context
    user_agent = context.get("userAgent")
    if not isinstance(user_agent, str) or not user_agent:
        return False
    found = {
        name: _completed(value, context.get(name)) for name, value in devices.describe(user_agent).items()
    }
    return passage.put_context({name: value for name, value in found.items() if value != context.get(name)})


def _completed(found: Mapping[str, Any], own: Any) -> Any:
    if own is None:
        return dict(found)
    if not isinstance(own, dict):
        return own
    return {**found, **{name: value for name, value in own.items() if value is not None}}


def _without_token(event: Event) -> bool:
    """Take the token out of all places where a page says its address."""
    is_changed = False
    for holder, name in (("properties", None), ("context", "page")):
        values: dict[str, Any] = getattr(event, holder)
        stated = values if name is None else values.get(name)
        if not isinstance(stated, dict):
            continue
        clean = _clean(stated)
        if clean is not stated:
            setattr(event, holder, clean if name is None else {**values, name: clean})
            is_changed = True
    return is_changed


def _clean(stated: dict[str, Any]) -> dict[str, Any]:
    found = {
        name: cross_domain.strip_token(stated[name])
        for name in ("url", "search", "referrer")
        if isinstance(stated.get(name), str) and cross_domain.PARAMETER in stated[name]
    }
    return {**stated, **found} if found else stated


def _page(event: Event) -> dict[str, Any]:
    page = event.context.get("page")
    return page if isinstance(page, dict) else {}


def _split(url: Any) -> Any:
    try:
        return urlsplit(url) if isinstance(url, str) and url else None
    except ValueError:
        return None

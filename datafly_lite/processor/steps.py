"""What happens to an event, as two lists that read aloud.

A step takes the event and what was known before it, and gives True where it changed the event,
False where it did not, or the reason why the event goes no further. `put_` steps enrich, `drop_`
steps filter. A step is pure, and replaces a nested value instead of changing it in place, because
the log's copy shares it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from datafly_lite import consent, identity
from datafly_lite.configuration import Attachment
from datafly_lite.events import DropReason, Envelope, Event
from datafly_lite.identity import Known
from datafly_lite.vendors import VENDORS


class Inputs(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the steps take from state rather than from the event: kept, so that a trace can run them again."""

    known: Known = Known()


Step = Callable[[Event, Envelope, Inputs], bool | DropReason]
IntegrationStep = Callable[[Event, Attachment], bool | DropReason]

UTM = {
    "utm_source": "source",
    "utm_medium": "medium",
    "utm_campaign": "name",
    "utm_term": "term",
    "utm_content": "content",
}


def put_client(event: Event, envelope: Envelope, _: Inputs) -> bool:
    """A browser's address and user agent are the visitor's; a server's would be the server's own.

    An HTTP caller on the visitor's device says so with `context.direct` (wire-formats.md, 2.7).
    """
    if envelope.origin is None and not envelope.is_pixel and event.context.get("direct") is not True:
        return False
    found = {"ip": envelope.ip, "userAgent": envelope.user_agent}
    return _put_context(
        event, {name: value for name, value in found.items() if value and event.context.get(name) is None}
    )


def put_page(event: Event, _: Envelope, __: Inputs) -> bool:
    """context.page from what a page event says of itself, and path and search from its url."""
    page = dict(_page(event))
    if event.type == "page":
        stated = {name: event.properties.get(name) for name in ("url", "title", "referrer", "path", "search")}
        page = {**{name: value for name, value in stated.items() if isinstance(value, str)}, **page}
    parts = _split(page.get("url"))
    if parts is not None:
        page.setdefault("path", parts.path or "/")
        page.setdefault("search", f"?{parts.query}" if parts.query else "")
    return _put_context(event, {"page": page}) if page and page != event.context.get("page") else False


def put_campaign(event: Event, _: Envelope, __: Inputs) -> bool:
    """context.campaign from the utm_ parameters of the page's url (spec/datafly-signal.md, 3.6)."""
    parts = _split(_page(event).get("url"))
    if parts is None or "campaign" in event.context or "utm_" not in parts.query:
        return False
    campaign = {UTM[name]: value for name, value in parse_qsl(parts.query) if name in UTM}
    return _put_context(event, {"campaign": campaign} if campaign else {})


def put_identity(event: Event, _: Envelope, inputs: Inputs) -> bool:
    """After identify, all later events of the visitor carry both ids (seed 000); groups likewise."""
    is_changed = False
    if event.user_id is None and inputs.known.user_id is not None:
        event.user_id = inputs.known.user_id
        is_changed = True
    if event.group_id is None and inputs.known.group_id is not None:
        event.group_id = inputs.known.group_id
        is_changed = True
    return is_changed


def put_consent(event: Event, _: Envelope, __: Inputs) -> bool:
    """context.consent.canonical: the visitor's choices in the product's own categories."""
    choices = consent.canonical(event.context)
    stated = event.context.get("consent", {})
    if not choices or not isinstance(stated, dict):
        return False
    said = stated.get("canonical")
    choices = {**said, **choices} if isinstance(said, dict) else choices
    return _put_context(event, {"consent": {**stated, "canonical": choices}}) if said != choices else False


DATA_LAYER: tuple[Step, ...] = (
    put_client,
    put_page,
    put_campaign,
    put_consent,
    put_identity,
)
"""Once an event, whatever it is routed to."""


def drop_unconsented(event: Event, attachment: Attachment) -> bool | DropReason:
    """The visitor said no to what this integration is for."""
    return DropReason.CONSENT if consent.is_refused(event.context, attachment.consent_categories) else False


def drop_switched_off(event: Event, attachment: Attachment) -> bool | DropReason:
    """The client named the integrations it wants, and not this one (Segment's `integrations`).

    It is known by its vendor's key or title and by its own name, in any letters.
    """
    if not event.integrations:
        return False
    said = {name.casefold(): value for name, value in event.integrations.items()}
    title = VENDORS[attachment.vendor].label if attachment.vendor in VENDORS else ""
    names = (attachment.integration_name, attachment.vendor, title, "All")
    wanted = next((said[name.casefold()] for name in names if name.casefold() in said), True)
    return DropReason.ROUTING if wanted is False or wanted == "false" else False


INTEGRATION: tuple[IntegrationStep, ...] = (
    drop_switched_off,
    drop_unconsented,
)
"""Once for each integration that is attached and enabled."""


def _put_context(event: Event, values: dict[str, Any]) -> bool:
    if values:
        event.context = {**event.context, **values}
    return bool(values)


def _page(event: Event) -> dict[str, Any]:
    page = event.context.get("page")
    return page if isinstance(page, dict) else {}


def _split(url: Any) -> Any:
    try:
        return urlsplit(url) if isinstance(url, str) and url else None
    except ValueError:
        return None


def known_after(event: Event, inputs: Inputs) -> Known:
    """What is known of the visitor once the event went through."""
    return identity.after(event, inputs.known)

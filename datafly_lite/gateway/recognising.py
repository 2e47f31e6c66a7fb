"""Who a browser's visitor is beside what `_dfid` says, and which cookies go back; most requests ask nothing.

A token of another site names the visitor (handovers.py), else a device that is known does (devices.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import uuid_utils

from datafly_lite import consent, cross_domain
from datafly_lite.consent import ConsentSettings
from datafly_lite.events import Arrival, Event
from datafly_lite.gateway import cookies, devices, origins, vendor_cookies
from datafly_lite.gateway.cookies import Setting
from datafly_lite.gateway.dialect import Item
from datafly_lite.gateway.entries import Entry
from datafly_lite.gateway.handovers import Claim, Handovers
from datafly_lite.store import Store, handovers
from datafly_lite.store import devices as rows

SWEEP_EVERY_MS = 86_400_000
TOKEN_MARK = cross_domain.PARAMETER.encode() + b"="


def is_asked(entry: Entry) -> bool:
    """Whether anything here can concern the request: on most pipelines nothing does."""
    if entry.call.caller.origin is None:
        return False
    identity = entry.pipeline.identity_config
    return (
        bool(identity.get("cross_domain_enabled") and TOKEN_MARK in entry.call.body)
        or devices.is_wanted(identity)
        or (entry.visitor.takes_cookie and bool(_asked_vendors(entry)))
    )


def _asked_vendors(entry: Entry) -> list[str]:
    builder, identity = entry.pipeline.js_builder_config, entry.pipeline.identity_config
    if not (builder.get("vendor_syncs") or identity.get("vendor_sync")):
        return []  # at once: each new visitor of every pipeline comes here
    return vendor_cookies.asked_for(builder, identity)


class Recognition:
    """Looks a request's visitor up where its pipeline asks for that."""

    def __init__(
        self, store: Store, handovers: Handovers, consent_settings: Callable[[], ConsentSettings]
    ) -> None:
        self._store = store
        self._handovers = handovers
        self._consent_settings = consent_settings
        self._swept_at_ms = 0

    async def known(self, entry: Entry, arrivals: Sequence[Arrival]) -> Entry:
        """The entry with its visitor and the cookies to set; the same one where there is nothing to say.

        `arrivals` are its events as they are without this, at least one. Raises StorageError.
        """
        events, first = [one.event for one in arrivals], entry.visitor
        stated = _stated(events, self._consent_settings())
        if entry.is_browsers:
            is_refused = stated.get("functional") is False or entry.has_gpc
            if not is_refused:
                entry = await self._handed_over(entry, events, stated)
            if devices.is_wanted(entry.pipeline.identity_config):
                entry = await (self._forgotten(entry) if is_refused else self._with_device(entry, stated))
        if (
            first.takes_cookie
            and entry.visitor.takes_cookie
            and (values := _vendors_values(entry, events[0]))
        ):
            choices = await self._choices(entry, stated, first.id, entry.visitor.id)
            return _with_vendor_cookies(entry, values, choices)
        return entry

    async def _choices(self, entry: Entry, stated: dict[str, bool], *visitors: str) -> dict[str, bool]:
        """What holds for a request: its own words, then what those who may have sent it said before."""
        kept = await self._store.read(handovers.choices_of, *visitors)
        return consent.effective(stated, consent.State(kept), self._consent_settings(), entry.has_gpc)

    # ── Another site's token ─────────────────────────────────────────────────────────────────

    async def _handed_over(self, entry: Entry, events: Sequence[Event], stated: dict[str, bool]) -> Entry:
        """With the visitor of the first token that stands in the address of an event's page.

        One that was used brings nobody, and no new cookie either: it would take the place of the one that
        another answer sets.
        """
        if not entry.pipeline.identity_config.get("cross_domain_enabled"):
            return entry
        found = next(((event, token) for event in events if (token := _token_of(event))), None)
        caller = entry.call.caller
        host = origins.host_of(caller.origin or "")
        if found is None or host is None:
            return entry
        claim = Claim(
            token=found[1],
            host=host,
            user_agent=caller.user_agent,
            pipeline_id=entry.pipeline.id,
            message_id=_own_message_id(entry, found[0]),
            present=entry.visitor.cookie,
            is_granted=stated.get("functional") is True,
        )
        redeemed = await self._handovers.redeem(claim)
        if redeemed.visitor is not None:
            return entry.with_visitor(redeemed.visitor)
        if redeemed.is_used:
            return entry.without_cookies()
        return msgspec.structs.replace(entry, is_late=True) if redeemed.is_expired else entry

    # ── The device ───────────────────────────────────────────────────────────────────────────

    async def _with_device(self, entry: Entry, stated: dict[str, bool]) -> Entry:
        """Known again by its device where `_dfid` is gone; a browser without `_dfdid` gets one.

        Not where who it is, or would be, said no to it in an earlier event.
        """
        device, visitor = cookies.device_of(entry.call.headers.get(b"cookie")), entry.visitor
        if not visitor.takes_cookie and (device is not None or visitor.cookie is None):
            return entry
        signals, found = devices.signals_of(entry.call.headers), None
        if device is not None and visitor.cookie is None:
            found = await self._owner(device, signals)
            device = device if found else None
        choices = await self._choices(entry, stated, visitor.id, *([found] if found else []))
        if choices.get("functional") is False:
            return await self._forgotten(entry)
        entry = entry.with_visitor(found) if found else entry
        return await self._with_row(entry, device or str(uuid_utils.uuid4()), signals)

    async def _owner(self, device: str, signals: dict[str, str]) -> str | None:
        """The visitor of a device that looks as it did."""
        found = await self._store.read(rows.known, device)
        return found[0] if found is not None and devices.agree(found[1], signals) else None

    async def _with_row(self, entry: Entry, device: str, signals: dict[str, str]) -> Entry:
        now_ms = entry.received_at_ms
        row = rows.Device(device, entry.pipeline.id, entry.visitor.id, signals, now_ms)
        await self._store.write(rows.keep, row)
        if now_ms - self._swept_at_ms >= SWEEP_EVERY_MS:
            self._swept_at_ms = now_ms
            await self._store.write(rows.sweep, now_ms)
        return entry.setting(Setting(cookies.DEVICE, device))

    async def _forgotten(self, entry: Entry) -> Entry:
        """Who does not want to be recognised has no device any more."""
        device = cookies.device_of(entry.call.headers.get(b"cookie"))
        if device is None:
            return entry
        await self._store.write(rows.forget, device)
        return entry.setting(Setting(cookies.DEVICE, "", max_age_s=0))


def _stated(events: Sequence[Event], settings: ConsentSettings) -> dict[str, bool]:
    """What the request itself says, of each category the last word."""
    return {name: choice for event in events for name, choice in consent.stated(event, settings).items()}


def _addresses(event: Event) -> tuple[Any, ...]:
    page = event.context.get("page")
    return (page.get("url") if isinstance(page, dict) else None, event.properties.get("url"))


def _token_of(event: Event) -> str | None:
    """Where the page's address stands: in the context, and of a page view in its properties too."""
    from_context, from_properties = _addresses(event)
    is_page = event.type == "page"
    return cross_domain.token_of(from_context) or (
        cross_domain.token_of(from_properties) if is_page else None
    )


def _own_message_id(entry: Entry, event: Event) -> str | None:
    """The client's own name for the event, under which it would send it again."""
    own = any(isinstance(item, Item) and item.message_id == event.message_id for item in entry.reading.items)
    return event.message_id if own else None


def _vendors_values(entry: Entry, event: Event) -> dict[str, str]:
    """Cookie -> value. A visitor who was known before has vendors' ids already: none are made anew."""
    is_new, (url, _) = entry.visitor.cookie is None, _addresses(event)
    page = url if isinstance(url, str) else ""
    maker = vendor_cookies.Maker(entry.visitor.id, entry.received_at_ms, page) if is_new else None
    return vendor_cookies.values_of(_asked_vendors(entry), entry.vendor_cookies, maker)


def _with_vendor_cookies(entry: Entry, values: dict[str, str], choices: dict[str, bool]) -> Entry:
    permitted = {
        name: value
        for name, value in values.items()
        if choices.get(vendor_cookies.category_of(name)) is not False
    }
    settings = [
        Setting(name, value, cookies.VENDORS_MAX_AGE_S[name], is_readable=True)
        for name, value in permitted.items()
    ]
    entry = msgspec.structs.replace(entry, vendor_cookies={**entry.vendor_cookies, **permitted})
    return entry.setting(*settings)

"""Google Analytics 4 by its Measurement Protocol.

Facts, read in developers.google.com/analytics/devguides/collection/protocol/ga4: `reference` (transport,
body, reserved names, consent), `sending-events` (limits, engagement_time_msec and session_id, 72 hours),
`validating-events`, `.../ga4/reference/events` (recommended events), and in support.google.com/analytics
answers 9267744 (lengths of values), 13316687 (names of events), 6317485 (lengths of page_*):

- POST /mp/collect?measurement_id&api_secret answers 2xx whatever it was sent, so only transport can fail.
- at most 25 parameters an event; names of 40 characters [A-Za-z0-9_] that start with a letter; values of
  100 characters, page_location 1,000, page_referrer 420, page_title 300; 130 kB a body.
- user properties: 25, names of 24 characters, values of 36.
- events are taken up to 72 hours after they happened.

`identify` has no counterpart: a request must hold an event, and the nearest one, `login`, would count
each identify of a page load as a login. So it sends nothing; the user id goes with each later event.
The same holds for `alias`. `group` is GA4's own `join_group`, a `screen` is a page_view.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from datafly_lite import consent
from datafly_lite.errors import MappingError
from datafly_lite.events import Event
from datafly_lite.vendors.declaration import (
    Outgoing,
    Request,
    Setting,
    Vendor,
    outcome_of_status,
    with_payload,
    with_query,
)
from datafly_lite.vendors.ga4_events import event_for
from datafly_lite.vendors.ga4_examples import EXAMPLES

ENDPOINT = "https://www.google-analytics.com/mp/collect"
EU_ENDPOINT = "https://region1.google-analytics.com/mp/collect"
OLDEST_MS = 72 * 3_600_000
AHEAD_MS = 60_000
"""A timestamp further ahead than this is a wrong clock's: GA4 then takes the time of arrival."""

GA_COOKIE = re.compile(r"(?:GA\d\.\d\.)?(\d+\.\d+)")
MAX_USER_PROPERTIES = 25
USER_PROPERTY_NAME = re.compile(r"(?!_|firebase_|ga_|google_)[A-Za-z][A-Za-z0-9_]{0,23}")
USER_PROPERTY_VALUE_CHARACTERS = 36
EARLIEST_VISIT_S = 1_500_000_000
VISIT_SPAN_S = 200_000_000


def request_for(outgoing: Sequence[Outgoing], settings: Mapping[str, Any], now_ms: int) -> Request | None:
    """One event. Raises MappingError where there is nobody to count it for, or it is over 72 hours old."""
    one = outgoing[0]
    own = {} if one.replaces else body_of(one.event, settings, now_ms)
    if own is None:
        return None
    body = msgspec.json.encode(with_payload(own, one))
    query = urlencode({"measurement_id": settings["measurement_id"], "api_secret": settings["api_secret"]})
    endpoint = settings.get("endpoint") or (EU_ENDPOINT if settings.get("region") == "eu" else ENDPOINT)
    return Request("POST", with_query(endpoint, query), {"content-type": "application/json"}, body)


def body_of(event: Event, settings: Mapping[str, Any], now_ms: int) -> dict[str, Any] | None:
    """What GA4 is told; None where it has no word for the event."""
    mapped = event_for(event, settings.get("currency"))
    if mapped is None:
        return None
    return {
        "client_id": client_id(event),
        **_optional("user_id", event.user_id),
        **_optional("timestamp_micros", _timestamp_micros(event.timestamp, now_ms)),
        **_optional("user_properties", _user_properties(event, settings.get("user_properties") or "")),
        **_optional("consent", _consent(consent.canonical(event.context))),
        **_optional("user_agent", _text(event.context.get("userAgent"))),
        **_optional("ip_override", _text(event.context.get("ip")) if settings.get("send_ip") else None),
        "events": [mapped],
    }


def client_id(event: Event) -> str:
    """`{random}.{unix_s}`: the visitor's own from `_ga`, else one that follows from the anonymousId.

    Derived, not drawn: a retry, a replay and the next event of the visitor give the same.
    """
    found = GA_COOKIE.fullmatch(event.vendor_ids.get("ga4_client_id", ""))
    if found:
        return found[1]
    visitor = event.anonymous_id or event.user_id
    if not visitor:
        raise MappingError("the event has neither anonymousId nor userId, so GA4 has nobody to count it for")
    digest = hashlib.sha256(f"ga4:{visitor}".encode("utf-8", "replace")).digest()
    first, second = int.from_bytes(digest[:4]), int.from_bytes(digest[4:8])
    return f"{first % 2**31}.{EARLIEST_VISIT_S + second % VISIT_SPAN_S}"


def _timestamp_micros(timestamp: str, now_ms: int) -> int | None:
    try:
        at_ms = round(datetime.fromisoformat(timestamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    if now_ms - at_ms > OLDEST_MS:
        raise MappingError("the event is over 72 hours old, and GA4 takes no older ones")
    return at_ms * 1000 if at_ms <= now_ms + AHEAD_MS else None


def _user_properties(event: Event, wanted: str) -> dict[str, Any]:
    """Only the traits that the settings name: Google forbids personal data, and traits are full of it."""
    known = event.context.get("traits") or {}
    if not isinstance(known, Mapping):
        raise MappingError("context.traits is not an object, so its values have no names")
    traits = {**known, **event.traits}
    names = [name.strip() for name in wanted.split(",")][:MAX_USER_PROPERTIES]
    return {
        name: {"value": _property(traits[name])}
        for name in names
        if USER_PROPERTY_NAME.fullmatch(name) and isinstance(traits.get(name), str | int | float)
    }


def _property(value: str | float) -> str | float:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value[:USER_PROPERTY_VALUE_CHARACTERS] if isinstance(value, str) else value


def _consent(choices: Mapping[str, bool]) -> dict[str, str] | None:
    """Consent to advertising, where the event says."""
    signals = consent.google_consent_mode(choices)
    wanted = ("ad_user_data", "ad_personalization")
    found: dict[str, str] = {name: signals[name].upper() for name in wanted if name in signals}
    return found or None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _optional(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}


SETTINGS = (
    Setting(
        name="measurement_id",
        label="Measurement ID",
        required=True,
        pattern=r"G-[A-Z0-9]{4,16}",
        placeholder="G-XXXXXXXXXX",
        help="Admin > Data streams > your stream.",
    ),
    Setting(
        name="api_secret",
        label="API secret",
        type="secret",
        required=True,
        pattern=r"[\x21-\x7e]{1,200}",
        help="Admin > Data streams > your stream > Measurement Protocol API secrets.",
    ),
    Setting(
        name="region",
        label="Region",
        type="choice",
        choices=("global", "eu"),
        default="global",
        help="eu sends to Google's collection servers in the EU.",
    ),
    Setting(
        name="currency",
        label="Currency",
        pattern=r"[A-Z]{3}",
        placeholder="EUR",
        help="For events with a value and no currency; without one GA4 counts no revenue.",
    ),
    Setting(
        name="user_properties",
        label="User properties",
        pattern=r"[A-Za-z0-9_, ]{0,700}",
        placeholder="plan, country",
        help="Traits to send as user properties. Personal data is forbidden there.",
    ),
    Setting(
        name="send_ip",
        label="Send the visitor's IP address",
        type="boolean",
        default=False,
        help="Google derives the place from it. Without it there is no place.",
    ),
)

GA4 = Vendor(
    name="ga4",
    label="Google Analytics 4",
    description="Page views, e-commerce and your own events by the Measurement Protocol.",
    category="analytics",
    documentation="https://developers.google.com/analytics/devguides/collection/protocol/ga4",
    settings=SETTINGS,
    consent_categories=("analytics",),
    request_for=request_for,
    read_answer=outcome_of_status,
    examples=EXAMPLES,
)

"""Commanders Act's events, with the invented values of wire-formats.md, section 1, and their reading."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway import limits
from datafly_lite.gateway.commanders_act import COMMANDERS_ACT, COMMANDERS_ACT_PIXEL
from datafly_lite.gateway.dialect import Dialect, Item, Reading, Request
from datafly_lite.settings import Settings

RECEIVED_MS = 1_795_228_690_000
RECEIVED = "2026-11-21T02:38:10.000Z"
STATED_MS = 1_795_228_678_906
STATED = "2026-11-21T02:37:58.906Z"
AGENT = "Mozilla/5.0 (X11; Linux x86_64)"
WITHIN = COMMANDERS_ACT.limits(limits(Settings()))

SEARCH: dict[str, Any] = {
    "event_name": "search",
    "search_term": "rain jacket",
    "user": {
        "id": "crm-88231",
        "consistent_anonymous_id": "20261121093015447120934",
        "email": "nadia@example.net",
        "consent_categories": ["1", "3"],
    },
    "context": {
        "event_id": "evt-5f1c9d7a",
        "event_timestamp": STATED_MS,
        "page": {
            "title": "Results",
            "url": "https://shop.example/s?q=rain",
            "lang": "en",
            "referrer": "https://www.example.org/",
            "viewport": {"width": 390, "height": 844},
        },
        "device": {
            "user_agent": AGENT,
            "ip": "203.0.113.9",
            "lang": "fr",
            "cookie": "_ga=GA1.1.5; _fbp=fb.1.1",
            "timezone": "Europe/Paris",
        },
        "app": {"name": "Shop", "version": "1.0", "build": "1", "namespace": "net.example.shop"},
    },
}

SEARCH_1_0: dict[str, Any] = {
    "event_name": "search",
    "event_id": "evt-5f1c9d7a",
    "event_timestamp": STATED_MS,
    "properties": {
        "search_term": "rain jacket",
        "user": {"id": "crm-88231", "email": "nadia@example.net", "consent_categories": [1, 3]},
    },
    "page": {"title": "Results", "location": "https://shop.example/s?q=rain"},
    "device": {"user_agent": AGENT, "ip": "203.0.113.9", "cookie": "_fbp=1; _ga=2"},
    "app": {"name": "Shop"},
}

CONTAINER_1: dict[str, Any] = {
    "event": "add_to_cart",
    "properties": {"value": 5, "created": "2026-11-21T02:37:58.906Z", "user": {"consent_categories": ["2"]}},
    "page": {"title": "Cart"},
    "device": {"lang": "en-US"},
    "eventId": "952286789064281734002150",
    "version": 1,
    "generatorVersion": "60.0",
    "containerVersion": "3.4",
}

CONTAINER_2: dict[str, Any] = {
    "event_name": "page_view",
    "page_type": "home",
    "type": "other",
    "title": "Home",
    "path": "/",
    "url": "https://shop.example/",
    "referrer": "https://ref.example/",
    "user": {"consent_categories": ["1", "3"], "rejected_vendors": []},
    "integrations": {
        "facebook": {"fbc": "fb.1.2.x", "fbp": "fb.1.2.3", "event_id": "952286789064281734002150"}
    },
    "context": {
        "page": {
            "title": "Home",
            "url": "https://shop.example/",
            "lang": "en",
            "referrer": "",
            "viewport": {"width": 1200, "height": 700},
        },
        "device": {
            "cookie": "_ga=1",
            "lang": "en-US",
            "screen": {"width": 1920, "height": 1080},
            "timezone": "Europe/Paris",
        },
        "eventId": "952286789064281734002150",
        "version": 2,
        "created": "2026-11-21T02:37:58.906Z",
        "generatorVersion": "100.1",
        "containerVersion": "3.4",
    },
}

MOBILE: dict[str, Any] = {
    "event_name": "search",
    "search_term": "rain jacket",
    "user": {
        "consistent_anonymous_id": "C32272DB0-C21E-11E4",
        "consentID": "C32272DB0-C21E-11E4",
        "ID": "crm-88231",
        "consent_categories": ["1"],
        "refused_vendors": ["12"],
    },
    "context": {
        "event_id": "0f4f3c9e-3f0e-4a55-8f6c-0d9d7f1b2a3c",
        "event_timestamp": STATED_MS,
        "device": {
            "sdk_id": "C32272DB0-C21E-11E4",
            "manufacturer": "Apple",
            "model": "iPhone7.3",
            "type": "ios",
            "language": "fr",
            "timezone": "Europe/Amsterdam",
            "os": {"name": "iOS", "version": "18.1"},
            "screen": {"width": 320, "height": 568, "density": 2},
            "network": {"bluetooth": False, "carrier": "T-Mobile", "cellular": True, "wifi": False},
            "lifecycle": {"session_id": "99b0289e", "first_visit": 1_327_449_000_000},
            "advertising_id": "AEBE52E7",
            "ad_tracking_enabled": True,
        },
        "app": {"name": "MyApp", "version": "58", "core_version": "5.0.2", "namespace": "com.example"},
    },
}

BATCH_BODY: dict[str, Any] = {
    "batch": [
        {
            "event_name": "add_payment_info",
            "payment_method": "card",
            "revenue": 41.5,
            "value": 49.8,
            "currency": "EUR",
            "user": {"id": "crm-88231", "consistent_anonymous_id": "ca-1", "consent_categories": [1, 3]},
            "context": {"event_id": "evt-11", "page": {}, "device": {}},
            "event_timestamp": "1795228678906",
        },
        {
            "event_name": "generate_lead",
            "method": "LinkedIn",
            "user": {"consistent_anonymous_id": "ca-2", "consent_categories": [1, 2, 3]},
            "context": {"event_id": "evt-12"},
            "event_timestamp": "1795228679906",
        },
    ]
}


EXAMPLES = {**SEARCH_1_0, **CONTAINER_1, **CONTAINER_2, **MOBILE, **SEARCH}
EXAMPLES["context"] = {**MOBILE["context"], **CONTAINER_2["context"], **SEARCH["context"]}


def places(body: dict[str, Any], parent: str = "") -> list[str]:
    """Every path of an object: `context.device.ip`."""
    found = []
    for name, value in body.items():
        found.append(f"{parent}{name}")
        found += places(value, f"{parent}{name}.") if isinstance(value, dict) else []
    return found


def reading(
    body: Any,
    *,
    kind: str | None = None,
    query: str = "",
    cookie: str = "",
    dialect: Dialect = COMMANDERS_ACT,
) -> Reading:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {b"cookie": cookie.encode()} if cookie else {}
    return dialect.read(Request(raw, kind, WITHIN, headers, query.encode()))


def items(read: Reading) -> list[Item]:
    found = [item for item in read.items if isinstance(item, Item)]
    assert len(found) == len(read.items), read.items
    return found


def event_for(read: Reading, item: Item, dialect: Dialect = COMMANDERS_ACT) -> Event:
    """As the door does it; what the log gives back is the same."""
    envelope = Envelope(
        dialect=dialect.name,
        message_id=item.message_id or "msg_given",
        received_at_ms=RECEIVED_MS,
        anonymous_id=item.anonymous_id,
        shared=read.shared,
    )
    before = copy.deepcopy(item.wire)
    event = dialect.normalise(envelope, item.wire)
    assert item.wire == before
    assert dialect.event_of(envelope, item.raw, WITHIN) == event
    return event


def taken(body: Any, **request: Any) -> Event:
    read = reading(body, **request)
    [item] = items(read)
    return event_for(read, item)


def pixel(query: str, cookie: str = "") -> tuple[Reading, Event]:
    read = reading(query.encode(), cookie=cookie, dialect=COMMANDERS_ACT_PIXEL)
    [item] = items(read)
    return read, event_for(read, item, COMMANDERS_ACT_PIXEL)


def refused(body: Any, **request: Any) -> Refused:
    with pytest.raises(Refused) as found:
        taken(body, **request)
    return found.value

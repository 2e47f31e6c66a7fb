"""Google Analytics 4: /mp/collect answers 204 whatever it was sent, /debug/mp/collect says what is wrong.

The rules are those of developers.google.com/analytics/devguides/collection/protocol/ga4, `reference`,
`sending-events` (limitations) and `validating-events` (answers), written down here a second time on
purpose: a twin that shared the vendor file's tables would share its mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from datafly_lite.clock import system_clock

MAX_BODY_BYTES = 130_000
MAX_EVENTS = MAX_PARAMETERS = MAX_USER_PROPERTIES = 25
MAX_ITEMS = 200
OLDEST_MICROS = 72 * 3_600 * 1_000_000
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
USER_PROPERTY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,23}")
RESERVED_PREFIXES = ("_", "firebase_", "ga_", "google_", "gtag.")
RESERVED_EVENTS = frozenset(
    {
        "ad_activeview",
        "ad_click",
        "ad_exposure",
        "ad_query",
        "ad_reward",
        "adunit_exposure",
        "app_background",
        "app_clear_data",
        "app_exception",
        "app_remove",
        "app_store_refund",
        "app_store_subscription_cancel",
        "app_store_subscription_convert",
        "app_store_subscription_renew",
        "app_update",
        "app_upgrade",
        "dynamic_link_app_open",
        "dynamic_link_app_update",
        "dynamic_link_first_open",
        "error",
        "firebase_campaign",
        "first_open",
        "first_visit",
        "in_app_purchase",
        "notification_dismiss",
        "notification_foreground",
        "notification_open",
        "notification_receive",
        "os_update",
        "session_start",
        "screen_view",
        "user_engagement",
    }
)
RESERVED_USER_PROPERTIES = frozenset(
    ["first_open_time", "first_visit_time", "last_deep_link_referrer", "user_id", "first_open_after_install"]
)
VALUE_CHARACTERS = {"page_location": 1_000, "page_referrer": 420, "page_title": 300}
REQUIRED = {
    "purchase": ("transaction_id", "items"),
    "refund": ("transaction_id",),
    "search": ("search_term",),
    "add_to_cart": ("items",),
    "remove_from_cart": ("items",),
    "view_item": ("items",),
    "view_item_list": ("items",),
    "begin_checkout": ("items",),
}
TOP_LEVEL = {
    "client_id": str,
    "user_id": str,
    "timestamp_micros": int,
    "user_properties": dict,
    "consent": dict,
    "non_personalized_ads": bool,
    "user_location": dict,
    "ip_override": str,
    "device": dict,
    "user_agent": str,
    "validation_behavior": str,
    "events": list,
}


class Message(NamedTuple):
    """As the validation server words it."""

    field_path: str
    description: str
    code: str


def collect(request: Request, body: bytes) -> tuple[list[str], Response]:
    """The real one gives no error whatever comes; what it would have lost is in the verdict."""
    keys = ("measurement_id", "api_secret")
    missing = [f"{key}: missing in the URL" for key in keys if not request.query_params.get(key)]
    return missing + _words(messages(body)), Response(status_code=204)


def debug(request: Request, body: bytes) -> tuple[list[str], Response]:
    """The validation server: 200 with what is wrong; it checks neither the secret nor the stream."""
    found = messages(body)
    listed = [dict(zip(("fieldPath", "description", "validationCode"), one, strict=True)) for one in found]
    return _words(found), JSONResponse({"validationMessages": listed})


def _words(found: list[Message]) -> list[str]:
    return [f"{one.field_path}: {one.description}" for one in found]


def messages(body: bytes, now_ms: int | None = None) -> list[Message]:
    """All that is wrong with a request's body by the published rules."""
    if len(body) > MAX_BODY_BYTES:
        return [Message("", "the body is larger than 130 kB", "EXCEEDED_MAX_ENTITIES")]
    try:
        payload = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [Message("", f"not a JSON object: {error}", "VALUE_INVALID")]
    return list(_payload(payload, system_clock() if now_ms is None else now_ms))


def _payload(payload: Mapping[str, Any], now_ms: int) -> Iterator[Message]:
    for name, value in payload.items():
        if name not in TOP_LEVEL:
            yield Message(name, "is not a field of the protocol", "NAME_INVALID")
        elif not isinstance(value, TOP_LEVEL[name]):
            yield Message(name, f"must be of type {TOP_LEVEL[name].__name__}", "VALUE_INVALID")
    if not payload.get("client_id"):
        yield Message("client_id", "is required for a web stream", "VALUE_REQUIRED")
    at = payload.get("timestamp_micros")
    if isinstance(at, int) and not now_ms * 1000 - OLDEST_MICROS <= at <= (now_ms + 900_000) * 1000:
        yield Message("timestamp_micros", "is over 72 hours ago or ahead of now", "VALUE_OUT_OF_BOUNDS")
    yield from _user_properties(_object(payload.get("user_properties")))
    yield from _consent(_object(payload.get("consent")))
    yield from _events(payload.get("events"))


def _user_properties(properties: Mapping[str, Any]) -> Iterator[Message]:
    if len(properties) > MAX_USER_PROPERTIES:
        yield Message("user_properties", "are more than 25", "EXCEEDED_MAX_ENTITIES")
    for name, holder in properties.items():
        path, value = f"user_properties.{name}", _object(holder).get("value")
        if not USER_PROPERTY_NAME.fullmatch(name):
            yield Message(path, "the name is over 24 characters or not [A-Za-z][A-Za-z0-9_]*", "NAME_INVALID")
        if name in RESERVED_USER_PROPERTIES or name.startswith(RESERVED_PREFIXES[:-1]):
            yield Message(path, "the name is reserved", "NAME_RESERVED")
        if value is None or (isinstance(value, str) and len(value) > 36):
            yield Message(path, "the value is missing or over 36 characters", "VALUE_INVALID")


def _consent(consent: Mapping[str, Any]) -> Iterator[Message]:
    for name, value in consent.items():
        if name not in ("ad_user_data", "ad_personalization") or value not in ("GRANTED", "DENIED"):
            yield Message(f"consent.{name}", "must be GRANTED or DENIED for a known purpose", "VALUE_INVALID")


def _events(events: Any) -> Iterator[Message]:
    if not isinstance(events, list) or not events:
        yield Message("events", "at least one event is required", "VALUE_REQUIRED")
        return
    if len(events) > MAX_EVENTS:
        yield Message("events", "are more than 25", "EXCEEDED_MAX_ENTITIES")
    for index, event in enumerate(events):
        yield from _event(f"events[{index}]", _object(event))


def _event(path: str, event: Mapping[str, Any]) -> Iterator[Message]:
    name, params = event.get("name"), _object(event.get("params"))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield Message(f"{path}.name", "is over 40 characters or not [A-Za-z][A-Za-z0-9_]*", "NAME_INVALID")
        return
    if name in RESERVED_EVENTS or name.startswith(RESERVED_PREFIXES):
        yield Message(f"{path}.name", f"{name} is reserved", "NAME_RESERVED")
    if len(params) > MAX_PARAMETERS:
        yield Message(f"{path}.params", "are more than 25", "EXCEEDED_MAX_ENTITIES")
    for required in REQUIRED.get(name, ()):
        if not params.get(required):
            yield Message(f"{path}.params.{required}", f"is required for {name}", "VALUE_REQUIRED")
    if "value" in params and not re.fullmatch("[A-Z]{3}", str(params.get("currency", ""))):
        yield Message(f"{path}.params.currency", "a value needs an ISO 4217 currency", "VALUE_REQUIRED")
    for parameter, value in params.items():
        yield from _parameter(f"{path}.params", parameter, value)


def _parameter(path: str, name: str, value: Any) -> Iterator[Message]:
    if not NAME.fullmatch(name):
        yield Message(f"{path}.{name}", "is over 40 characters or not [A-Za-z][A-Za-z0-9_]*", "NAME_INVALID")
    if name.startswith(RESERVED_PREFIXES):
        yield Message(f"{path}.{name}", "has a reserved prefix", "NAME_RESERVED")
    if name == "items":
        yield from _items(f"{path}.items", value)
    elif isinstance(value, str) and len(value) > VALUE_CHARACTERS.get(name, 100):
        yield Message(f"{path}.{name}", "is too long", "VALUE_OUT_OF_BOUNDS")
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        yield Message(f"{path}.{name}", "must be text or a number", "VALUE_INVALID")
    elif name == "session_id" and not re.fullmatch(r"\d+", str(value)):
        yield Message(f"{path}.session_id", "must be digits", "VALUE_INVALID")


def _items(path: str, items: Any) -> Iterator[Message]:
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        yield Message(path, "must be a list of at most 200", "VALUE_INVALID")
        return
    for index, one in enumerate(items):
        item = _object(one)
        if not (item.get("item_id") or item.get("item_name")):
            yield Message(f"{path}[{index}]", "needs item_id or item_name", "VALUE_REQUIRED")
        for name, value in item.items():
            if name != "items":
                yield from _parameter(f"{path}[{index}]", name, value)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

"""Each vendor's examples, the check of its settings, and the reading of answers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook

from datafly_lite.addresses import check_url
from datafly_lite.clock import system_clock
from datafly_lite.errors import AdminError, MappingError
from datafly_lite.events import Event, Verdict
from datafly_lite.twins import ga4 as ga4_twin
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.declaration import (
    EXAMPLE_NOW_MS,
    MASK,
    Answer,
    Example,
    Request,
    Setting,
    Vendor,
    check_config,
    outcome_of_status,
    split_secrets,
    with_defaults,
    with_query,
)
from datafly_lite.vendors.ga4_events import event_name

WEBHOOK, GA4 = VENDORS["webhook"], VENDORS["ga4"]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://example.com/hooks"
GA4_CONFIG = {"measurement_id": "G-TEST1234", "api_secret": "s3cret"}


def requested(vendor: Vendor, config: dict[str, Any], event: dict[str, Any]) -> Request | None:
    given = {
        "messageId": "m-1",
        "timestamp": "2026-03-01T10:00:00.000Z",
        "receivedAt": "",
        "type": "track",
        **event,
    }
    return vendor.request_for([msgspec.convert(given, Event)], with_defaults(vendor, config), EXAMPLE_NOW_MS)


def body(request: Request | None) -> Any:
    assert request is not None
    return msgspec.json.decode(request.body)


EXAMPLES = [(vendor, example) for vendor in VENDORS.values() for example in vendor.examples]


@pytest.mark.parametrize(("vendor", "example"), EXAMPLES, ids=[f"{v.name}: {e.title}" for v, e in EXAMPLES])
def test_an_example_holds(vendor: Vendor, example: Example) -> None:
    check_config(vendor, example.settings)
    assert requested(vendor, example.settings, example.event) == example.request


@pytest.mark.parametrize("example", GA4.examples, ids=[example.title for example in GA4.examples])
def test_an_example_keeps_the_rules_that_google_published(example: Example) -> None:
    sent = [] if example.request is None else ga4_twin.messages(example.request.body, EXAMPLE_NOW_MS)
    assert sent == []


# ── Settings ─────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def refused(*fields: str) -> Iterator[None]:
    with pytest.raises(AdminError) as raised:
        yield
    assert raised.value.code == "VALIDATION_ERROR"
    assert sorted(one["field"] for one in raised.value.details) == sorted(fields)


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({}, ["config.url"]),
        ({"url": ""}, ["config.url"]),
        ({"url": 7}, ["config.url"]),
        ({"url": "ftp://example.com"}, ["config.url"]),
        ({"url": "https://a b"}, ["config.url"]),
        ({"url": URL, "nope": 1, "Url": 1}, ["config.Url", "config.nope"]),
        ({"url": URL, "method": "GET"}, ["config.method"]),
        ({"url": URL, "method": ["POST"]}, ["config.method"]),
        ({"url": URL, "payload_format": "custom"}, ["config.payload_format"]),
        ({"url": URL, "timeout_ms": "5000"}, ["config.timeout_ms"]),
        ({"url": URL, "timeout_ms": True}, ["config.timeout_ms"]),
        ({"url": URL, "timeout_ms": 5}, ["config.timeout_ms"]),
        ({"url": URL, "max_retries": 51}, ["config.max_retries"]),
        ({"url": URL, "max_retries": -1}, ["config.max_retries"]),
        ({"url": URL, "headers": []}, ["config.headers"]),
        ({"url": URL, "headers": {"X-A": 1}}, ["config.headers"]),
        ({"url": URL, "headers": {"X-A": "b\r\nX-C: d"}}, ["config.headers"]),
        ({"url": URL, "headers": {"X A": "b"}}, ["config.headers"]),
        ({"url": URL, "headers": {"Content-Length": "0"}}, ["config.headers"]),
        ({"url": URL, "headers": {"webhook-id": "0"}}, ["config.headers"]),
        ({"url": URL, "authentication": "bearer"}, ["config.auth_token"]),
        ({"url": URL, "authentication": "bearer", "auth_token": "a\nb"}, ["config.auth_token"]),
        ({"url": URL, "authentication": "basic"}, ["config.password", "config.username"]),
        ({"url": URL, "authentication": "hmac", "secret": "short"}, ["config.secret"]),
        ({"url": URL, "endpoint": "nowhere"}, ["config.endpoint"]),
        (
            {"url": URL, "endpoint": 5, "steps": {}, "events": []},
            ["config.endpoint", "config.events", "config.steps"],
        ),
        ({"url": URL, "consent_categories": "analytics"}, ["config.consent_categories"]),
    ],
)
def test_settings_that_are_refused(config: dict[str, Any], fields: list[str]) -> None:
    with refused(*fields):
        check_config(WEBHOOK, config)


@pytest.mark.parametrize(
    "config",
    [
        {"url": URL},
        {"url": "{{pipeline_param.url}}"},
        {"url": "https://{{pipeline_param.host}}/x"},
        {"url": URL, "headers": {"X-A": "{{pipeline_param.a}}", "X-B": ""}},
        {"url": URL, "authentication": "hmac", "secret": SECRET},
        {"url": URL, "authentication": "hmac", "secret": MASK},
        {"url": URL, "authentication": "hmac", "secret": "{{pipeline_param.secret}}"},
        {"url": URL, "timeout_ms": 500, "max_retries": 0},
        {"url": URL, "consent_categories": ["analytics"], "steps": [], "events": {}, "endpoint": URL},
        {"url": URL, "method": None, "auth_token": ""},
    ],
)
def test_settings_that_are_taken(config: dict[str, Any]) -> None:
    check_config(WEBHOOK, config)


def test_an_address_that_deliveries_may_not_call_is_refused_with_the_reason() -> None:
    check = partial(check_url, allowed=(), dev=False)
    config = {"url": "https://10.0.0.1/", "endpoint": "http://example.com/"}
    with pytest.raises(AdminError) as raised:
        check_config(WEBHOOK, config, check_url=check)
    assert raised.value.details == [
        {"field": "config.endpoint", "message": "the URL must begin with https://"},
        {"field": "config.url", "message": "10.0.0.1 is not a public address"},
    ]


def test_a_refused_secret_is_not_repeated() -> None:
    with pytest.raises(AdminError) as raised:
        check_config(WEBHOOK, {"url": URL, "authentication": "hmac", "secret": "my own secret"})
    assert "my own secret" not in str(raised.value.details) + str(raised.value)


def test_defaults_fill_what_is_absent() -> None:
    assert with_defaults(WEBHOOK, {"url": URL, "method": None, "authentication": ""}) == {
        "url": URL,
        "method": "POST",
        "headers": {},
        "authentication": "none",
        "auth_token": None,
        "username": None,
        "password": None,
        "secret": None,
        "payload_format": "canonical",
        "timeout_ms": 30_000,
        "max_retries": None,
    }


@pytest.mark.parametrize(
    ("config", "previous", "public", "secrets"),
    [
        ({"url": URL}, {}, {"url": URL}, {}),
        ({"secret": SECRET}, {}, {"secret": MASK}, {"secret": SECRET}),
        ({"secret": MASK}, {"secret": SECRET}, {"secret": MASK}, {"secret": SECRET}),
        ({"secret": "new"}, {"secret": SECRET}, {"secret": MASK}, {"secret": "new"}),
        ({"url": URL}, {"secret": SECRET}, {"url": URL}, {}),
        ({"secret": ""}, {"secret": SECRET}, {}, {}),
        ({"secret": None, "url": MASK}, {}, {"url": MASK}, {}),
    ],
)
def test_secrets_part_from_the_config(
    config: dict[str, Any], previous: dict[str, str], public: dict[str, Any], secrets: dict[str, str]
) -> None:
    assert split_secrets(WEBHOOK, config, previous) == (public, secrets)


def test_a_mask_without_a_stored_value_is_refused() -> None:
    with refused("config.secret"):
        split_secrets(WEBHOOK, {"secret": MASK}, {})


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_a_declaration_is_whole(vendor: Vendor) -> None:
    names = [setting.name for setting in vendor.settings]
    assert len(set(names)) == len(names)
    assert all(setting.label for setting in vendor.settings)
    assert not [setting for setting in vendor.settings if not fits(setting, setting.default)]
    assert vendor.examples


def fits(setting: Setting, value: Any) -> bool:
    return value is None or not setting.choices or value in setting.choices


def test_an_endpoint_keeps_its_query() -> None:
    assert with_query("https://a.example/b", "c=d") == "https://a.example/b?c=d"
    assert with_query("https://a.example/b?x=y", "c=d") == "https://a.example/b?x=y&c=d"


# ── Answers ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *[(status, Verdict.DELIVERED) for status in (200, 201, 202, 204)],
        *[(status, Verdict.RETRY) for status in (408, 425, 429, 500, 502, 503, 504, 599)],
        *[(status, Verdict.GIVE_UP) for status in (301, 302, 304, 400, 404, 405, 409, 413, 422, 451)],
        *[(status, Verdict.PAUSE) for status in (401, 403)],
        (410, Verdict.DISABLE),
    ],
)
def test_a_status_has_its_verdict(status: int, verdict: Verdict) -> None:
    assert outcome_of_status(Answer(status, {}, b"")).verdict is verdict


DATE = "Sun, 01 Mar 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "١٢"}, None),
        ({"retry-after": "9" * 5_000}, 999_999_999_999),
        ({"retry-after": "Sun, 01 Mar 2026 10:02:00 GMT", "date": DATE}, 120),
        ({"retry-after": "Sunday, 01-Mar-26 10:02:00 GMT", "date": DATE}, 120),
        ({"retry-after": "Sun, 01 Mar 2026 09:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Sun, 01 Mar 2026 10:02:00 GMT"}, None),
        ({"retry-after": "Sun, 99 Foo 2026 10:02:00 GMT", "date": DATE}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert outcome_of_status(Answer(503, headers, b"")).retry_after_s == seconds


# ── Webhook ──────────────────────────────────────────────────────────────────────────────────


def now_signed(message_id: str) -> Request:
    event = Event(type="track", message_id=message_id, timestamp="", received_at="", event="Ünïcode 🙂")
    config = with_defaults(WEBHOOK, {"url": URL, "authentication": "hmac", "secret": SECRET})
    request = WEBHOOK.request_for([event], config, system_clock())
    assert request is not None
    return request


@pytest.mark.parametrize("message_id", ["m-1", "a.1700000000.{}", "x\r\nevil: 1", "日本語", "x" * 5_000])
def test_a_signature_is_verified_by_the_reference_library(message_id: str) -> None:
    request = now_signed(message_id)
    assert Webhook(SECRET).verify(request.body, request.headers)["messageId"] == message_id
    assert "." not in request.headers["webhook-id"]
    assert request.headers["webhook-id"].isprintable()
    assert request.headers["webhook-id"] == now_signed(message_id).headers["webhook-id"]


def test_a_secret_that_cannot_sign_fails_the_mapping() -> None:
    with pytest.raises(MappingError):
        requested(WEBHOOK, {"url": URL, "authentication": "hmac", "secret": "whsec_"}, {})


# ── GA4 ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Order Completed", "purchase"),
        ("order_completed", "purchase"),
        ("orderCompleted", "purchase"),
        ("purchase", "purchase"),
        ("Products Searched", "search"),
        ("Signed Up", "sign_up"),
        ("Video Watched (50%)", "video_watched_50"),
        ("session_start", "custom_session_start"),
        ("Firebase Something", "custom_firebase_something"),
        ("ga_thing", "custom_ga_thing"),
        ("_private", "private"),
        ("3D Viewer Opened", "custom_3d_viewer_opened"),
        ("日本語", "custom_event"),
        ("", "custom_event"),
        ("x" * 200, "x" * 40),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_a_name_becomes_one_that_ga4_takes(name: str, expected: str) -> None:
    assert event_name(name) == expected


HOSTILE: list[dict[str, Any]] = [
    {"event": "x" * 300, "properties": {f"p{number}": "v" * 500 for number in range(100)}},
    {"event": "e", "properties": {"_a": 1, "ga_b": 1, "google_c": 1, "gtag.d": 1, "1e": 1, "ü": 1, "": 1}},
    {"event": "e", "properties": {"a": None, "b": [], "c": [1], "d": {"e": {"f": {"g": "deep"}}}, "h": True}},
    {
        "event": "Order Completed",
        "properties": {"order_id": "O", "products": [1, None, {"name": "x"}], "revenue": "9"},
    },
    {
        "event": "Order Completed",
        "properties": {"order_id": "O", "products": [{"sku": "s", "price": "a"}] * 500},
    },
    {
        "event": "Product Viewed",
        "properties": {"product_id": 5, "quantity": {"a": 1}, "price": 1, "currency": "EUR"},
    },
    {"type": "page", "properties": {"url": "u" * 5_000, "title": "t" * 5_000, "referrer": "r" * 5_000}},
    {"type": "page", "context": {"page": "not an object", "session": 5, "consent": [], "traits": None}},
    {"type": "screen", "name": "Home", "context": {"session": {"id": "abc"}}},
    {"type": "group", "groupId": None},
    {"event": "日本語"},
]


@pytest.mark.parametrize("event", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_comes_keeps_the_published_rules(event: dict[str, Any]) -> None:
    request = requested(GA4, GA4_CONFIG, {"anonymousId": "a", **event})
    assert request is not None
    assert ga4_twin.messages(request.body, EXAMPLE_NOW_MS) == []


def test_a_name_without_a_letter_of_ga4s_is_kept_as_a_parameter() -> None:
    event = body(requested(GA4, GA4_CONFIG, {"event": "日本語", "anonymousId": "a"}))["events"][0]
    assert event == {"name": "custom_event", "params": {"engagement_time_msec": 100, "event_name": "日本語"}}


@pytest.mark.parametrize(
    ("properties", "value"),
    [
        ({"value": 1, "revenue": 2, "total": 3}, 1),
        ({"revenue": 2, "total": 3, "products": [{"price": 9, "sku": "s"}]}, 2),
        ({"total": 3, "products": [{"price": 9.5, "quantity": 2, "sku": "s"}]}, 19.0),
        ({"total": 3}, 3),
        ({"total": "3"}, None),
        ({"total": True}, None),
    ],
)
def test_the_value_leaves_out_tax_and_shipping_where_it_can(
    properties: dict[str, Any], value: float | None
) -> None:
    event = {"event": "Order Completed", "anonymousId": "a", "properties": {**properties, "currency": "EUR"}}
    assert body(requested(GA4, GA4_CONFIG, event))["events"][0]["params"].get("value") == value


def client_id(**event: Any) -> str:
    found: str = body(requested(GA4, GA4_CONFIG, {"event": "e", **event}))["client_id"]
    return found


def test_the_client_id_is_the_visitors_own_or_follows_from_the_anonymous_id() -> None:
    assert client_id(vendorIds={"ga4_client_id": "12.34"}) == "12.34"
    assert client_id(vendorIds={"ga4_client_id": "GA1.1.12.34"}, anonymousId="a") == "12.34"
    derived = client_id(anonymousId="a")
    assert derived == client_id(anonymousId="a", userId="u", vendorIds={"ga4_client_id": "junk"})
    assert derived != client_id(anonymousId="b")
    assert re.fullmatch(r"\d+\.\d{10}", derived)


def test_nobody_to_count_it_for_fails_the_mapping() -> None:
    with pytest.raises(MappingError, match="anonymousId"):
        client_id()


@pytest.mark.parametrize(
    ("timestamp", "micros"),
    [
        ("2026-02-26T10:00:06.000Z", 1_772_100_006_000_000),
        ("2026-03-01T10:00:05.250Z", 1_772_359_205_250_000),
        ("2026-03-01T10:30:00.000Z", None),
        ("not a time", None),
    ],
)
def test_the_time_is_the_events_own(timestamp: str, micros: int | None) -> None:
    sent = body(requested(GA4, GA4_CONFIG, {"event": "e", "anonymousId": "a", "timestamp": timestamp}))
    assert sent.get("timestamp_micros") == micros


def test_an_event_that_ga4_would_not_take_any_more_fails_the_mapping() -> None:
    with pytest.raises(MappingError, match="72 hours"):
        requested(
            GA4, GA4_CONFIG, {"event": "e", "anonymousId": "a", "timestamp": "2026-02-26T10:00:04.000Z"}
        )


@pytest.mark.parametrize(
    ("consent", "word"),
    [
        ({"marketing": True}, "GRANTED"),
        ({"advertising": False}, "DENIED"),
        ({"categories": {"C0004": True}, "canonical": {"marketing": False}}, "DENIED"),
        ({"analytics": True}, None),
        ({"marketing": "yes"}, None),
        (None, None),
    ],
)
def test_advertising_consent_goes_along(consent: Any, word: str | None) -> None:
    sent = body(
        requested(GA4, GA4_CONFIG, {"event": "e", "anonymousId": "a", "context": {"consent": consent}})
    )
    assert sent.get("consent") == ({"ad_user_data": word, "ad_personalization": word} if word else None)


def test_traits_stay_here_unless_they_are_asked_for() -> None:
    event = {
        "event": "e",
        "anonymousId": "a",
        "traits": {"email": "a@b.example", "plan": "x" * 99, "vip": True},
    }
    assert "user_properties" not in body(requested(GA4, GA4_CONFIG, event))
    asked = {**GA4_CONFIG, "user_properties": "plan, vip, missing, user id, ga_x"}
    assert body(requested(GA4, asked, event))["user_properties"] == {
        "plan": {"value": "x" * 36},
        "vip": {"value": "true"},
    }

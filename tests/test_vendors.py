"""Each vendor's examples, the check of its settings, and the reading of answers."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from datafly_lite.addresses import check_url
from datafly_lite.clock import system_clock
from datafly_lite.configuration import Attachment
from datafly_lite.delivery import attempt
from datafly_lite.engine import compile_engine
from datafly_lite.errors import AdminError, MappingError, StepFailed
from datafly_lite.events import Event, Verdict
from datafly_lite.twins import ga4 as ga4_twin
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.checking import check_config, check_filled, check_kept_secrets, split_secrets
from datafly_lite.vendors.declaration import (
    EXAMPLE_NOW_MS,
    MASK,
    Answer,
    Example,
    Outgoing,
    Request,
    Setting,
    Vendor,
    outcome_of_status,
    with_defaults,
    with_payload,
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
    outgoing = Outgoing(msgspec.convert(given, Event))
    return vendor.request_for([outgoing], with_defaults(vendor, config), EXAMPLE_NOW_MS)


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
        ({"url": URL, "consent_categories": [["analytics"]]}, ["config.consent_categories"]),
        ({"url": URL, "consent_categories": ["{{pipeline_param.x}}"]}, ["config.consent_categories"]),
        ({"url": URL, "steps": [{"type": "filter"}]}, ["config.steps[0].condition"]),
        ({"url": URL, "events": {"purchase": {"a": 1}}}, ['config.events["purchase"]["a"]']),
        *[
            ({"url": URL, name: "{{pipeline_param.x}}"}, [f"config.{name}"])
            for name in ("authentication", "method", "payload_format", "timeout_ms", "max_retries", "headers")
        ],
        ({"url": URL, "headers": {"{{pipeline_param.x}}": "y"}}, ["config.headers"]),
        *[
            ({"url": url}, ["config.url"])
            for url in (
                "http://@x/",
                "https://:@x/",
                "https://a@{{pipeline_param.x}}/",
                "https://x/{{pipeline_param.x}}\0",
                "https://x/{{pipeline_param.x}} y",
                "https://x\\{{pipeline_param.x}}",
                "ftp://{{pipeline_param.x}}/",
                "//{{pipeline_param.x}}/",
            )
        ],
        ({"url": URL, "endpoint": "{{pipeline_param.x}}\0"}, ["config.endpoint"]),
        ({"url": URL, "endpoint": "https://x/\0"}, ["config.endpoint"]),
        ({"url": URL, "endpoint": "http://@x/"}, ["config.endpoint"]),
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


BASE = {"url": URL, "authentication": "hmac", "secret": MASK}
PARAMETER_HOST = "https://{{pipeline_param.Host}}/"


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ({}, {"url": f"{URL}/elsewhere?x=y"}, False),
        ({}, {"url": "https://EXAMPLE.com:443/hook"}, False),
        ({"url": PARAMETER_HOST}, {"url": f"{PARAMETER_HOST}more"}, False),
        ({}, {"url": "https://example.org/hook"}, True),
        ({}, {"url": "http://example.com/hook"}, True),
        ({}, {"url": "https://example.com:8443/hook"}, True),
        ({}, {"url": "https://example.com.evil.example/hook"}, True),
        ({}, {"url": "https://example.com{{pipeline_param.Host}}/hook"}, True),
        ({}, {"url": PARAMETER_HOST}, True),
        ({"url": PARAMETER_HOST}, {"url": PARAMETER_HOST.lower()}, True),
        ({"url": "{{pipeline_param.a}}"}, {"url": "{{pipeline_param.b}}"}, True),
        ({}, {"endpoint": "https://example.org/"}, True),
        ({"endpoint": "https://example.org/"}, {"endpoint": ""}, True),
        ({}, {"url": "https://example.org/hook", "secret": SECRET}, False),
    ],
)
def test_a_stored_secret_goes_to_no_other_address(
    before: dict[str, Any], after: dict[str, Any], moved: bool
) -> None:
    with refused("config.secret") if moved else contextlib.nullcontext():
        check_kept_secrets(WEBHOOK, {**BASE, **before, **after}, {**BASE, **before})


@pytest.mark.parametrize(
    ("vendor", "config", "name"),
    [
        (WEBHOOK, {"url": URL, "authentication": "{{pipeline_param.x}}"}, "authentication"),
        (WEBHOOK, {"url": URL, "authentication": "Bearer"}, "authentication"),
        (WEBHOOK, {"url": URL, "authentication": "bearer"}, "auth_token"),
        (WEBHOOK, {"url": URL, "method": "GET"}, "method"),
        (WEBHOOK, {"url": URL, "timeout_ms": "5000"}, "timeout_ms"),
        (WEBHOOK, {"url": URL, "max_retries": True}, "max_retries"),
        (WEBHOOK, {"url": URL, "headers": "X-A: b"}, "headers"),
        (WEBHOOK, {}, "url"),
        (GA4, {**GA4_CONFIG, "region": "EU"}, "region"),
        (GA4, {**GA4_CONFIG, "send_ip": "{{pipeline_param.x}}"}, "send_ip"),
    ],
)
def test_filled_settings_that_cannot_make_a_request(
    vendor: Vendor, config: dict[str, Any], name: str
) -> None:
    with pytest.raises(MappingError, match=f"the setting {name} "):
        check_filled(vendor, with_defaults(vendor, config))


def test_an_attempt_looks_at_the_filled_settings_first() -> None:
    attachment = attached(WEBHOOK, {"url": URL, "timeout_ms": "soon"})
    event = Event(type="track", message_id="m-1", timestamp="", received_at="")
    with pytest.raises(MappingError, match="timeout_ms must be a whole number"):
        attempt.request_for(event, attachment, EXAMPLE_NOW_MS)


# ── The integration's own steps ──────────────────────────────────────────────────────────────


def attached(vendor: Vendor, config: dict[str, Any], **fields: Any) -> Attachment:
    given = {
        "id": "pi_1",
        "pipeline_id": "pip_1",
        "integration_id": "tmpl_1",
        "integration_name": "Hook",
        "vendor": vendor.name,
        "revision_id": "rev_1",
        "revision_number": 1,
        "enabled": True,
        "mode": "live",
        "config": config,
        "consent_categories": (),
        "secrets": (),
        **fields,
    }
    return Attachment(**given)


def sent(vendor: Vendor, config: dict[str, Any], event: dict[str, Any], *steps: dict[str, Any]) -> Any:
    """The body that goes out after the steps; None where nothing is sent."""
    engine = compile_engine(steps, config.get("events", {}))
    given = {
        "type": "track",
        "messageId": "m-1",
        "timestamp": "2026-03-01T10:00:00.000Z",
        "receivedAt": "2026-03-01T10:00:01.000Z",
        "anonymousId": "a-1",
        **event,
    }
    attachment = attached(vendor, config, engine=engine)
    request = attempt.request_for(msgspec.convert(given, Event), attachment, EXAMPLE_NOW_MS)
    return None if request is None else body(request)


HOOK = {"url": URL}
REPLACE = {"type": "map", "mode": "replace"}


def test_a_payload_lies_over_the_body_that_the_vendor_makes() -> None:
    event = {"event": "Tested", "properties": {"a": 1}}
    assert sent(WEBHOOK, HOOK, event) == sent(WEBHOOK, HOOK, event, {"type": "enrich", "fields": {}})
    found = sent(
        WEBHOOK, HOOK, event, {"type": "map", "mappings": {"properties.b": "properties.a + 1", "x": "1"}}
    )
    assert found == {**sent(WEBHOOK, HOOK, event), "properties": {"a": 1, "b": 2}, "x": 1}


def test_what_a_step_does_to_the_event_is_what_the_vendor_maps() -> None:
    event = {"event": "Order Completed", "properties": {"revenue": 5000, "currency": "EUR"}}
    cents = {"type": "transform", "fields": {"event.properties.revenue": "value / 100"}}
    more = {"type": "enrich", "fields": {"events[0].params.shop": "uk", "non_personalized_ads": True}}
    plain, found = sent(GA4, GA4_CONFIG, event), sent(GA4, GA4_CONFIG, event, cents, more)
    assert plain["events"][0]["params"]["value"] == 5000
    expected = {**plain["events"][0]["params"], "value": 50, "shop": "uk"}
    assert found == {
        **plain,
        "non_personalized_ads": True,
        "events": [{"name": "purchase", "params": expected}],
    }


@pytest.mark.parametrize(
    "event", [{"type": "identify", "userId": "u-1"}, {"event": "Tested", "anonymousId": None}]
)
def test_a_payload_that_replaces_the_body_is_sent_whatever_the_vendor_has_a_word_for(
    event: dict[str, Any],
) -> None:
    mappings = {"client_id": "'1.2'", "events[0].name": "'login'"}
    found = sent(GA4, GA4_CONFIG, event, {**REPLACE, "mappings": mappings})
    assert found == {"client_id": "1.2", "events": [{"name": "login"}]}


def test_an_event_without_a_word_is_not_sent_for_a_payload_beside_it() -> None:
    event = {"type": "identify", "userId": "u-1"}
    assert sent(GA4, GA4_CONFIG, event, {"type": "enrich", "fields": {"a": 1}}) is None


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_a_body_is_not_replaced_by_nothing(vendor: Vendor) -> None:
    config = HOOK if vendor is WEBHOOK else GA4_CONFIG
    with pytest.raises(MappingError, match="put nothing in its place"):
        sent(vendor, config, {"event": "Tested"}, {**REPLACE, "mappings": {"a": "properties.nothing"}})


def test_a_signature_is_that_of_the_body_with_the_payload() -> None:
    config = {"url": URL, "authentication": "hmac", "secret": SECRET}
    attachment = attached(
        WEBHOOK, config, engine=compile_engine([{"type": "enrich", "fields": {"a": 1}}], {})
    )
    event = Event(type="track", message_id="m-1", timestamp="", received_at="2026-03-01T10:00:01.000Z")
    request = attempt.request_for(event, attachment, system_clock())
    assert request is not None
    assert Webhook(SECRET).verify(request.body, request.headers)["a"] == 1


def test_a_filter_drops_and_a_failure_gives_its_words() -> None:
    dropped = {"type": "filter", "condition": "event = 'Other'"}
    assert sent(WEBHOOK, HOOK, {"event": "Tested"}, dropped) is None
    failing = {"type": "compute", "name": "Sum", "fields": {"a": "event + 1"}}
    with pytest.raises(StepFailed, match=re.escape('step 1 (compute, "Sum"): a: + needs numbers, not text')):
        sent(WEBHOOK, HOOK, {"event": "Tested"}, failing)


def test_steps_that_a_parameter_broke_send_nothing() -> None:
    attachment = attached(WEBHOOK, HOOK, engine_error="steps[0].condition: at character 3: no")
    event = Event(type="track", message_id="m-1", timestamp="", received_at="2026-03-01T10:00:01.000Z")
    with pytest.raises(StepFailed, match=re.escape("steps[0].condition")):
        attempt.request_for(event, attachment, EXAMPLE_NOW_MS)


JSON = st.recursive(
    st.integers() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)
BODIES = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def plainly_merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        keys = {**under, **over}
        return {key: plainly_merged(under.get(key), over.get(key)) for key in keys}
    if isinstance(under, list) and isinstance(over, list):
        pairs = zip_longest(under, over)
        return [plainly_merged(one, other) for one, other in pairs]
    return under if over is None else over


@given(BODIES, BODIES)
def test_bodies_are_merged_by_key_and_by_index(under: dict[str, Any], over: dict[str, Any]) -> None:
    event = Event(type="track", message_id="m-1", timestamp="", received_at="")
    before = copy.deepcopy((under, over))
    assert with_payload(under, Outgoing(event, over)) == plainly_merged(under, over)
    assert (under, over) == before


def test_a_null_says_nothing_in_a_list_and_null_in_an_object() -> None:
    event = Event(type="track", message_id="m-1", timestamp="", received_at="")
    payload = {"list": [None, {"b": 2}, None], "gone": None}
    found = with_payload({"list": [{"a": 1}], "gone": 1}, Outgoing(event, payload))
    assert found == {"list": [{"a": 1}, {"b": 2}, None], "gone": None}


STEPS = {
    "steps": [
        {
            "type": "filter",
            "condition": "event = '{{pipeline_param.name}}' OR properties.n > {{pipeline_param.least}}",
        },
        {"type": "enrich", "fields": {"shop": "{{pipeline_param.shop}}"}},
    ],
    "events": {"purchase": {"value": "properties.{{pipeline_param.field}}"}, "page": False},
}


def test_steps_may_hold_parameters() -> None:
    check_config(WEBHOOK, {"url": URL, **STEPS})


def test_each_step_that_cannot_be_used_is_named_with_its_place() -> None:
    steps = [{"type": "filter", "condition": "{{pipeline_param.x}} = ="}, {"type": "sort"}]
    with refused("config.steps[0].condition", "config.steps[1].type", 'config.events["page"]', "config.url"):
        check_config(WEBHOOK, {"steps": steps, "events": {"page": 1}})


def test_no_request_goes_without_an_authentication_that_is_unknown() -> None:
    with pytest.raises(MappingError, match="Bearer"):
        requested(WEBHOOK, {"url": URL, "authentication": "Bearer"}, {})


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
    request = WEBHOOK.request_for([Outgoing(event)], config, system_clock())
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


@pytest.mark.parametrize("traits", [["plan"], "plan", 5, True])
def test_traits_that_are_no_object_fail_the_mapping_with_the_reason(traits: Any) -> None:
    with pytest.raises(MappingError, match=r"context\.traits is not an object"):
        requested(GA4, GA4_CONFIG, {"event": "e", "anonymousId": "a", "context": {"traits": traits}})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@given(
    type_=st.sampled_from(["track", "page", "screen", "group", "identify", "alias"]),
    context=st.dictionaries(
        st.sampled_from(["traits", "page", "session", "consent", "userAgent", "ip"]), JSON_VALUES
    ),
    properties=st.dictionaries(
        st.sampled_from(["products", "url", "title", "currency", "price", "product_id", "value"]), JSON_VALUES
    ),
)
@settings(max_examples=100, deadline=None)
def test_any_shape_makes_a_request_or_a_clear_refusal(
    vendor: Vendor, type_: str, context: dict[str, Any], properties: dict[str, Any]
) -> None:
    event = {"type": type_, "event": "Order Completed", "anonymousId": "a"}
    config = {**vendor.examples[0].settings, **({"user_properties": "plan"} if vendor is GA4 else {})}
    with contextlib.suppress(MappingError):
        requested(vendor, config, {**event, "context": context, "properties": properties})


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

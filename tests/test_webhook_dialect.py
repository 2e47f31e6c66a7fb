"""From a third party's webhook to the canonical event, and from the log to the same event again."""

from __future__ import annotations

import contextlib
import gzip
import json
import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.configuration import WebhookSource
from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event, decode_envelope, decode_event, encode_envelope, encode_event
from datafly_lite.gateway import event_of
from datafly_lite.gateway.dialect import Item, Limits, Reading, Request
from datafly_lite.gateway.webhook import WEBHOOK, read
from datafly_lite.management.webhook_sources import SOURCE_TYPES

NOW_MS = 1_772_355_600_000
LIMITS = Limits(32, 65_536, 524_288, 5_242_880, 2_500)
JSON_SUITE = sorted((Path(__file__).parents[2] / "shared" / "data" / "json-test-suite").rglob("*.json"))

STRIPE = {
    "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy",
    "object": "event",
    "created": 1_772_355_555,
    "type": "payment_intent.succeeded",
    "data": {
        "object": {
            "id": "pi_1",
            "object": "payment_intent",
            "amount": 2000,
            "currency": "eur",
            "customer": "cus_1",
        }
    },
}
SHOPIFY = {
    "id": 820982911946154508,
    "order_number": 1234,
    "total_price": "40.00",
    "currency": "EUR",
    "updated_at": "2026-03-01T09:59:00+01:00",
    "customer": {"id": 115310627314723954, "email": "jo@example.com"},
    "line_items": [{"id": 1, "sku": "A", "price": "20.00"}, {"id": 2, "sku": "B", "price": "20.00"}],
}
SHOPIFY_HEADERS = {
    b"x-shopify-topic": b"orders/create",
    b"x-shopify-webhook-id": b"b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    b"x-shopify-event-id": b"98880550-7158-44d4-b7cd-2c97c8a091b5",
    b"x-shopify-triggered-at": b"2026-03-01T08:59:30.877041743Z",
    b"x-shopify-shop-domain": b"mugs.myshopify.com",
}
HUBSPOT = [
    {
        "eventId": 1,
        "subscriptionId": 12345,
        "portalId": 62515,
        "occurredAt": 1_772_355_500_000,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": attempt,
        "objectId": object_id,
        "propertyName": "lifecyclestage",
        "propertyValue": "customer",
    }
    for attempt, object_id in ((0, 123), (0, 124))
]


def source(source_type: Any, **fields: Any) -> WebhookSource:
    kind = SOURCE_TYPES[source_type]
    usual = {"event_type_path": kind.event_type_path, "mappings": kind.mappings}
    return WebhookSource(
        id="wh_1",
        pipeline_id="pip_1",
        source_type=source_type,
        enabled=True,
        secret="s",
        signature_header="X-Signature",
        signature_encoding="hex",
        **{**usual, **fields},
    )


def reading_of(one: WebhookSource, body: Any, headers: dict[bytes, bytes] | None = None) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(Request(raw, None, WEBHOOK.limits(LIMITS), headers or {}, b"source=wh_1", one))


def event_again(reading: Reading, item: Item) -> Event:
    """The event as the door makes it, which the log must give again, whatever is configured by then."""
    envelope = Envelope(
        dialect="webhook",
        message_id=item.message_id or "msg_1",
        received_at_ms=NOW_MS,
        anonymous_id=item.anonymous_id,
        shared=reading.shared,
    )
    event = WEBHOOK.normalise(envelope, item.wire)
    kept = decode_envelope(encode_envelope(envelope))
    assert event_of(kept, item.raw, LIMITS) == event
    assert encode_event(decode_event(encode_event(event))) == encode_event(event)
    return event


def events_of(one: WebhookSource, body: Any, headers: dict[bytes, bytes] | None = None) -> list[Event]:
    reading = reading_of(one, body, headers)
    return [event_again(reading, item) for item in reading.items if isinstance(item, Item)]


def event_of_custom(body: Any, event_type_path: str = "", **mappings: str) -> Event:
    paths = {name.replace("__", "."): text for name, text in mappings.items()}
    (event,) = events_of(source("custom", event_type_path=event_type_path, mappings=paths), body)
    return event


# ── Vendors ──────────────────────────────────────────────────────────────────────────────────


def test_stripe_as_the_specification_maps_it() -> None:
    (event,) = events_of(source("stripe"), STRIPE)
    assert (event.type, event.event) == ("track", "payment_intent.succeeded")
    assert event.user_id == "cus_1"
    assert event.properties == {"amount": 2000, "currency": "eur", "payment_id": "pi_1"}
    assert event.message_id == "wh_1:evt_1NG8Du2eZvKYlo2CUI79vXWy"
    assert event.timestamp == "2026-03-01T08:59:15.000Z"
    assert event.received_at == "2026-03-01T09:00:00.000Z"
    assert event.original == STRIPE
    assert event.context == {"webhook": {"source_id": "wh_1", "source_type": "stripe"}}
    assert event.anonymous_id is None


def test_shopify_is_named_by_its_topic() -> None:
    (event,) = events_of(source("shopify"), SHOPIFY, SHOPIFY_HEADERS)
    assert (event.type, event.event) == ("track", "orders/create")
    assert event.user_id == "115310627314723954"
    assert event.properties["products"] == SHOPIFY["line_items"]
    assert event.properties["total"] == "40.00"
    assert event.message_id == "wh_1:b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    assert event.timestamp == "2026-03-01T08:59:30.877Z"
    assert event.context["webhook"]["shop"] == "mugs.myshopify.com"
    assert event.original == SHOPIFY


def test_shopify_without_some_of_its_headers() -> None:
    def without(*names: bytes) -> tuple[Item, Event]:
        headers = {name: value for name, value in SHOPIFY_HEADERS.items() if name not in names}
        reading = reading_of(source("shopify"), SHOPIFY, headers)
        (item,) = reading.items
        assert isinstance(item, Item)
        return item, event_again(reading, item)

    item, event = without(b"x-shopify-webhook-id", b"x-shopify-triggered-at")
    assert item.message_id == "wh_1:orders/create:98880550-7158-44d4-b7cd-2c97c8a091b5"
    assert event.timestamp == "2026-03-01T08:59:00.000Z"
    item, event = without(*SHOPIFY_HEADERS)
    assert item.message_id is None
    assert event.event == "shopify webhook"


def test_hubspot_sends_several_in_one_request() -> None:
    first, second = events_of(source("hubspot"), HUBSPOT)
    assert first.event == "contact.propertyChange"
    assert first.properties["object_id"] == 123
    assert first.properties["property_name"] == "lifecyclestage"
    assert first.timestamp == "2026-03-01T08:58:20.000Z"
    assert first.message_id == "wh_1:1:12345:123:1772355500000"
    assert second.message_id == "wh_1:1:12345:124:1772355500000"
    assert (first.original, second.original) == (HUBSPOT[0], HUBSPOT[1])


def test_a_hubspot_retry_has_the_same_id() -> None:
    (again,) = events_of(source("hubspot"), [{**HUBSPOT[0], "attemptNumber": 3}])
    assert again.message_id == events_of(source("hubspot"), HUBSPOT)[0].message_id


# ── The mapping ──────────────────────────────────────────────────────────────────────────────


def test_identifiers_are_text_and_the_first_of_several() -> None:
    body = {"users": [None, {"a": 1}, True, "", 42, 43], "group": 7.5, "visitor": "v-1", "before": "b"}
    event = event_of_custom(
        body,
        userId="$.users[*]",
        groupId="$.group",
        anonymousId="$.visitor",
        previousId="$.before",
        properties__users="$.users[4:]",
        properties__nothing="$.nothing",
        properties__null="$.users[0]",
    )
    assert (event.user_id, event.group_id, event.anonymous_id) == ("42", "7.5", "v-1")
    assert event.previous_id == "b"
    assert event.properties == {"users": [42, 43], "null": None}


def test_what_is_no_identifier_is_left_out() -> None:
    for value in (None, "", " ", True, {"id": 1}, ["a"], "x" * 256):
        assert event_of_custom({"user": value}, userId="$.user").user_id is None, value


def test_dotted_targets_make_objects_and_leave_the_body_alone() -> None:
    body = {"data": {"meta": {"a": 1}, "price": 5}, "email": "a@b.test", "url": "https://shop.test/"}
    event = event_of_custom(
        body,
        properties__meta__b="$.data.price",
        properties="$.data",
        traits__email="$.email",
        context__page__url="$.url",
    )
    assert event.properties == {"meta": {"a": 1, "b": 5}, "price": 5}
    assert event.traits == {"email": "a@b.test"}
    assert event.context["page"] == {"url": "https://shop.test/"}
    assert event.original == body


def test_a_whole_object_must_be_one() -> None:
    assert event_of_custom({"data": [1]}, properties="$.data").properties == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"kind": "identify", "user": "u"}, "identify"),
        ({"kind": "identify"}, "track"),
        ({"kind": "group", "user": "u"}, "track"),
        ({"kind": "page"}, "page"),
        ({"kind": "other"}, "track"),
        ({"kind": ["page"]}, "track"),
        ({}, "track"),
    ],
)
def test_a_type_that_can_be_used(body: dict[str, Any], expected: str) -> None:
    event = event_of_custom(body, type="$.kind", userId="$.user")
    assert event.type == expected
    assert (event.event is None) is (expected != "track")


def test_a_text_in_quotes_stands_for_itself() -> None:
    event = event_of_custom({"id": 1}, type="'identify'", userId="$.id", traits__plan="'gold'")
    assert (event.type, event.traits) == ("identify", {"plan": "gold"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"event": "Signed Up", "type": "x"}, "Signed Up"),
        ({"type": "signup"}, "signup"),
        ({"event": {"a": 1}, "type": 5}, "5"),
        ({}, "custom webhook"),
        ({"event": "x" * 300}, "x" * 200),
    ],
)
def test_every_event_gets_a_name(body: dict[str, Any], expected: str) -> None:
    event = event_of_custom(body, "$.type", event="$.event")
    assert event.event == expected
    assert event.original == body


def test_ids_of_two_sources_never_meet() -> None:
    assert event_of_custom({"id": 7}, messageId="$.id").message_id == "wh_1:7"
    reading = reading_of(source("custom"), {"id": 7})
    (item,) = reading.items
    assert isinstance(item, Item)
    assert item.message_id is None
    long = [event_of_custom({"id": f"{'x' * 300}{end}"}, messageId="$.id").message_id for end in "ab"]
    assert long[0] != long[1]
    assert all(one.startswith("wh_1:") and len(one) <= 255 for one in long)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_772_355_000, "2026-03-01T08:50:00.000Z"),
        (1_772_355_000_500, "2026-03-01T08:50:00.500Z"),
        (1_772_355_000.25, "2026-03-01T08:50:00.250Z"),
        ("1772355000", "2026-03-01T08:50:00.000Z"),
        ("2026-03-01T09:50:00+01:00", "2026-03-01T08:50:00.000Z"),
        ("2026-03-01T08:50:00.000Z", "2026-03-01T08:50:00.000Z"),
        ("yesterday", "2026-03-01T09:00:00.000Z"),
        (None, "2026-03-01T09:00:00.000Z"),
        (True, "2026-03-01T09:00:00.000Z"),
        ([1], "2026-03-01T09:00:00.000Z"),
        (-1e300, "2026-03-01T09:00:00.000Z"),
        (2**63, "2026-03-01T09:00:00.000Z"),
        ("9" * 16, "2026-03-01T09:00:00.000Z"),
        ("9" * 5000, "2026-03-01T09:00:00.000Z"),
    ],
)
def test_times_in_seconds_milliseconds_and_iso(value: Any, expected: str) -> None:
    assert event_of_custom({"at": value}, timestamp="$.at").timestamp == expected


# ── Bodies ───────────────────────────────────────────────────────────────────────────────────


def code_of(one: WebhookSource, body: Any) -> str:
    with pytest.raises(Refused) as caught:
        reading_of(one, body)
    return caught.value.code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"event=1&b=2", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[", "invalid_json"),
        (b'"text"', "invalid_payload"),
        (b"5", "invalid_payload"),
        (b"null", "invalid_payload"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "invalid_json"),
        (b"[" * 5000, "invalid_json"),
        (json.dumps([{}] * 2_501).encode(), "batch_too_large"),
        (gzip.compress(b"{}"), "invalid_json"),  # the door inflates
    ],
    ids=lambda one: str(one)[:40],
)
def test_a_body_that_is_no_webhook(body: bytes, code: str) -> None:
    assert code_of(source("custom"), body) == code


def test_one_bad_part_of_an_array_hurts_no_other() -> None:
    body = b' [{"event": "a"}, 5, {"event": "b"}, [1], ' + b'{"a":' * 33 + b"1" + b"}" * 33 + b"]"
    reading = reading_of(source("custom"), body)
    assert [isinstance(one, Item) for one in reading.items] == [True, False, True, False, False]
    refused = [one for one in reading.items if isinstance(one, Refused)]
    assert [one.code for one in refused] == ["invalid_payload", "invalid_payload", "invalid_json"]
    assert refused[0].body == b"5"


def test_half_a_character_is_mended_and_said() -> None:
    reading = reading_of(source("custom"), b'\xef\xbb\xbf{"event": "Sale \\ud83d"}')
    (item,) = reading.items
    assert isinstance(item, Item)
    assert item.repaired
    assert event_again(reading, item).event == "Sale \N{REPLACEMENT CHARACTER}"


def test_a_mapping_that_looks_at_too_much_is_refused() -> None:
    greedy = source("custom", mappings={f"properties.{number}": "$..*..*..*" for number in range(10)})
    assert code_of(greedy, {"a": [[1] * 10] * 5_000}) == "invalid_payload"


def test_an_event_may_be_as_large_as_the_body() -> None:
    reading = reading_of(source("shopify"), {**SHOPIFY, "note": "x" * 500_000})
    (item,) = reading.items
    assert isinstance(item, Item)
    within = WEBHOOK.limits(LIMITS)
    assert len(item.raw) + reading.shared_size_bytes <= within.max_event_size_bytes
    assert event_again(reading, item).properties["total"] == "40.00"


def test_what_the_events_share_is_weighed() -> None:
    reading = reading_of(source("stripe"), STRIPE)
    assert reading.shared_size_bytes == len(msgspec.json.encode(reading.shared))


@pytest.mark.parametrize("path", JSON_SUITE, ids=lambda one: one.name)
def test_no_body_of_the_json_test_suite_breaks_it(path: Path) -> None:
    body = path.read_bytes()
    for one in (source("stripe"), source("hubspot"), source("custom", mappings={"properties.a": "$..*"})):
        for raw in (body, b'{"type":' + body + b',"id":' + body + b',"created":' + body + b"}"):
            # Any other exception would be a 500.
            with contextlib.suppress(Refused):
                events_of(one, raw)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "event",
    "type",
    "userId",
    "anonymousId",
    "groupId",
    "messageId",
    "timestamp",
    "properties",
    "context",
)
WITH_ALL = source(
    "custom",
    mappings={**{name: f"$.{name}" for name in FIELDS}, "properties.first": "$..*", "traits.a.b": "$.a"},
)
HEADERS = st.fixed_dictionaries({}, optional={name: st.binary(max_size=300) for name in SHOPIFY_HEADERS})


@settings(max_examples=150, deadline=None)
@given(
    body=st.dictionaries(st.sampled_from([*FIELDS, "a", "id", "created", "occurredAt", "eventId"]), VALUES),
    headers=HEADERS,
)
def test_whatever_comes_becomes_an_event_that_the_log_gives_again(
    body: dict[str, Any], headers: dict[bytes, bytes]
) -> None:
    for one in (WITH_ALL, source("stripe"), source("shopify"), source("hubspot")):
        for event in events_of(one, body, headers):
            assert event.type in ("track", "page", "identify", "group", "screen", "alias")
            assert event.event is None or 0 < len(event.event) <= 200
            assert set(event.message_id) - set(string.whitespace)
            assert len(event.message_id) <= 255

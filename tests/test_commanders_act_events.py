"""What a Commanders Act event means: its name, ids and times, consent, user, context; any type anywhere."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commanders_act_kit import (
    AGENT,
    EXAMPLES,
    RECEIVED,
    STATED,
    STATED_MS,
    event_for,
    items,
    places,
    reading,
    refused,
    taken,
)
from datafly_lite import consent
from datafly_lite.events import Event

# ── Names, ids, times ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event_name": None},
        {"event_name": ""},
        {"event_name": 5},
        {"event_name": ["search"]},
        {"event_name": {"a": 1}},
        {"event_name": "x" * 201},
        {"properties": {"event_name": "search"}},
    ],
)
def test_an_event_needs_a_name(body: dict[str, Any]) -> None:
    found = refused(body)
    assert found.code == "invalid_payload"
    assert found.message.startswith("event_name ")


def test_the_old_name_is_named_where_it_was_used() -> None:
    assert refused({"event": 5, "properties": {}}).message.startswith("event is required")
    assert taken({"event": "login", "properties": {}}).event == "login"
    assert taken({"event_name": "login", "event": "x"}).properties == {"event": "x"}


@pytest.mark.parametrize("name", ["x", "x" * 200, "Order Completed", "\u0000", "購入", "login", "sign_up"])
def test_names_stay_as_they_came(name: str) -> None:
    event = taken({"event_name": name, "user": {"id": "u"}})
    assert (event.type, event.event, event.user_id) == ("track", name, "u")


@pytest.mark.parametrize(
    ("properties", "name", "category"),
    [
        ({"page_name": "Best sellers", "page_type": "product_list"}, "Best sellers", "product_list"),
        ({"page_type": "product_list", "title": "T"}, "product_list", "product_list"),
        ({"title": "T"}, "T", None),
        ({"page_name": 5, "page_type": ["x"], "title": ""}, None, None),
        ({}, None, None),
    ],
)
def test_what_a_page_is_called(properties: dict[str, Any], name: str | None, category: str | None) -> None:
    event = taken({"event_name": "page_view", **properties})
    assert (event.type, event.name, event.category) == ("page", name, category)
    assert event.properties == properties


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"context": {"event_id": "a"}}, "a"),
        ({"context": {"eventId": "b"}}, "b"),
        ({"context": {"event_id": 202110130000000000}}, "202110130000000000"),
        ({"context": {"eventId": 952286789064281734002150}}, "952286789064281734002150"),
        ({"context": {"event_id": 12.0}}, "12"),
        ({"event_id": "c", "context": {}}, "c"),
        ({"event_id": "c", "context": {"event_id": None}}, "c"),
        ({"eventId": "d"}, "d"),
        ({"eventId": "d", "context": {"event_id": ""}}, "d"),
        ({"event_id": "e", "properties": {}}, "e"),
        ({"context": {"event_id": ["x"]}}, None),
        ({"context": {"event_id": True}}, None),
        ({"context": "x"}, None),
    ],
)
def test_where_the_id_of_an_event_is(body: dict[str, Any], expected: str | None) -> None:
    [item] = items(reading({"event_name": "x", **body}))
    assert item.message_id == expected
    assert event_for(reading({"event_name": "x"}), item).properties == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"context": {"event_id": "x" * 256}}, "event_id"),
        ({"eventId": "x" * 256}, "eventId"),
        ({"user": {"id": "x" * 256}}, "user.id"),
        ({"user": {"ID": "x" * 256}}, "user.id"),
        ({"user": {"id": 10**255}}, "user.id"),
        ({"user": {"consistent_anonymous_id": "x" * 256}}, "user.consistent_anonymous_id"),
        ({"context": {"device": {"sdk_id": "x" * 256}}}, "device.sdk_id"),
    ],
)
def test_long_ids_are_refused(body: dict[str, Any], field: str) -> None:
    found = refused({"event_name": "x", **body})
    assert (found.code, found.message) == (
        "invalid_payload",
        f"{field} has 256 characters, at most 255 are taken",
    )


@pytest.mark.parametrize("value", ["x" * 255, 7, 7.0, None, "", True, [], {}, ["x"]])
def test_ids_of_any_type_are_taken_or_left(value: Any) -> None:
    expected = str(value) if isinstance(value, str) and value else "7" if value in (7, 7.0) else None
    event = taken({"event_name": "x", "user": {"id": value, "consistent_anonymous_id": value}})
    assert (event.user_id, event.anonymous_id) == (None if value is True else expected,) * 2


@pytest.mark.parametrize(
    ("body", "timestamp", "original"),
    [
        ({"context": {"event_timestamp": STATED_MS}}, STATED, str(STATED_MS)),
        ({"context": {"event_timestamp": str(STATED_MS)}}, STATED, str(STATED_MS)),
        ({"context": {"event_timestamp": float(STATED_MS)}}, STATED, str(STATED_MS)),
        ({"context": {"event_timestamp": STATED}}, STATED, STATED),
        ({"context": {}, "event_timestamp": str(STATED_MS)}, STATED, str(STATED_MS)),
        ({"context": {"event_timestamp": STATED_MS}, "event_timestamp": 5}, STATED, str(STATED_MS)),
        ({"context": {"created": "2026-11-21T03:37:58.906+01:00"}}, STATED, "2026-11-21T03:37:58.906+01:00"),
        ({"context": {"event_timestamp": "soon", "created": STATED}}, STATED, STATED),
        ({"properties": {"created": STATED}}, STATED, STATED),
        ({"properties": {"created": STATED}, "event_timestamp": 0}, "1970-01-01T00:00:00.000Z", "0"),
        ({}, RECEIVED, None),
        ({"context": {"event_timestamp": "soon"}}, RECEIVED, "soon"),
        ({"context": {"event_timestamp": ""}}, RECEIVED, None),
        ({"context": {"event_timestamp": None}}, RECEIVED, None),
        ({"context": {"event_timestamp": True}}, RECEIVED, None),
        ({"context": {"event_timestamp": [STATED_MS]}}, RECEIVED, None),
        ({"context": {"event_timestamp": "9" * 30}}, RECEIVED, "9" * 30),
        ({"context": {"event_timestamp": 10**30}}, RECEIVED, "1" + "0" * 30),
        ({"context": {"event_timestamp": "²"}}, RECEIVED, "²"),
        # A phone that was off sends late: there is no sentAt, so nothing is corrected.
        ({"context": {"event_timestamp": 1_639_044_446_636}}, "2021-12-09T10:07:26.636Z", "1639044446636"),
    ],
)
def test_the_time_of_an_event(body: dict[str, Any], timestamp: str, original: str | None) -> None:
    event = taken({"event_name": "x", **body})
    assert (event.timestamp, event.original_timestamp, event.sent_at) == (timestamp, original, None)


# ── Consent, integrations, user, context ─────────────────────────────────────────────────────

NO_TO_ALL = {"functional": False, "analytics": False, "marketing": False, "personalization": False}


@pytest.mark.parametrize(
    ("user", "categories", "choices"),
    [
        ({"consent_categories": ["1", "3"]}, {"1": True, "3": True}, {"1": True, "3": True}),
        ({"consent_categories": [1, 3]}, {"1": True, "3": True}, {"1": True, "3": True}),
        ({"consent_categories": "1,3"}, {"1": True, "3": True}, {"1": True, "3": True}),
        ({"consent_categories": 2}, {"2": True}, {"2": True}),
        ({"consent_categories": []}, {}, NO_TO_ALL),
        ({"consent_categories": ""}, {}, NO_TO_ALL),
        ({"consent_categories": [None, True, {}]}, {}, NO_TO_ALL),
        ({"consent_categories": ["analytics"]}, {"analytics": True}, {**NO_TO_ALL, "analytics": True}),
        ({"consent_categories": ["advertising"]}, {"advertising": True}, {"marketing": True}),
        (
            {"consent_categories": ["1", "analytics"]},
            {"1": True, "analytics": True},
            {"1": True, "analytics": True},
        ),
        ({"consent_categories": {"marketing": False, "x": "y"}}, {"marketing": False}, {"marketing": False}),
        ({"consent_categories": ["1"], "rejected_vendors": "ALL"}, {"1": True}, {"1": True, **NO_TO_ALL}),
        ({"consent_categories": ["marketing"], "refused_vendors": ["ALL"]}, {"marketing": True}, NO_TO_ALL),
        ({"rejected_vendors": "ALL"}, None, NO_TO_ALL),
        ({"consent_categories": ["1"], "rejected_vendors": ["12"]}, {"1": True}, {"1": True}),
        ({"consent_categories": None}, None, {}),
        ({"consent_categories": True}, None, {}),
        ({}, None, {}),
    ],
)
def test_consent(user: dict[str, Any], categories: dict[str, bool] | None, choices: dict[str, bool]) -> None:
    event = taken({"event_name": "x", "user": user})
    stated = event.context.get("consent", {})
    assert stated.get("categories") == categories
    assert consent.canonical(event.context) == choices
    for name in ("rejected_vendors", "refused_vendors"):
        assert stated.get(name) == user.get(name)


def test_the_event_may_state_consent_itself_as_well() -> None:
    body = {
        "event_name": "x",
        "user": {"consent_categories": [1]},
        "context": {"consent": {"marketing": False}},
    }
    assert taken(body).context["consent"] == {"marketing": False, "categories": {"1": True}}


def test_only_a_boolean_switches_an_integration_off() -> None:
    stated = {"facebook": {"fbp": "x"}, "ga4": False, "All": True, "tiktok": None, "meta": "false", "x": 0}
    event = taken({"event_name": "x", "integrations": stated})
    assert event.integrations == {"ga4": False, "All": True}
    assert event.context["integrations"] == stated


def test_the_user_has_segments_names_too() -> None:
    user = {
        "id": "u-1",
        "email": "nadia@example.net",
        "phone": "+33123456789",
        "firstname": "Nadia",
        "lastname": "Roy",
        "gender": "f",
        "birthdate": "1990-04-01",
        "street": "1 rue X",
        "city": "Lyon",
        "state": "ARA",
        "zipcode": "69001",
        "country": "FR",
        "loyalty": "gold",
        "consent_categories": [1],
        "consistent_anonymous_id": "ca-1",
    }
    traits = taken({"event_name": "x", "user": user}).context["traits"]
    own = {name: value for name, value in user.items() if not name.startswith("cons")}
    assert traits == {
        **own,
        "firstName": "Nadia",
        "lastName": "Roy",
        "birthday": "1990-04-01",
        "address": {
            "street": "1 rue X",
            "city": "Lyon",
            "state": "ARA",
            "postalCode": "69001",
            "country": "FR",
        },
    }
    assert taken({"event_name": "x", "user": {"firstname": "a", "firstName": "b"}}).context["traits"] == {
        "firstname": "a",
        "firstName": "b",
    }


def test_the_address_and_the_agent_are_in_one_place() -> None:
    """Else what a setting does to the visitor's address would leave a copy in the device."""
    context = taken(
        {"event_name": "x", "context": {"device": {"ip": "203.0.113.9", "user_agent": AGENT}}}
    ).context
    assert context == {"ip": "203.0.113.9", "userAgent": AGENT}


def test_items_stay_as_they_are() -> None:
    listed = [{"id": "SKU1", "quantity": 2, "product": {"id": "P1", "price": 9.9, "colors": ["red"]}}]
    for value in (listed, "SKU1", {"0": "x"}, None):
        assert taken({"event_name": "purchase", "items": value}).properties == {"items": value}


def test_with_a_context_properties_are_a_property() -> None:
    """So is what only version 1 has at the root (1.7, the rule of detection)."""
    body = {"event_name": "x", "context": {}, "properties": {"a": 1}, "page": {"b": 2}, "version": 3}
    event = taken(body)
    assert event.properties == {"properties": {"a": 1}, "page": {"b": 2}, "version": 3}
    assert event.context == {}


def test_a_context_that_is_none_leaves_it_at_the_root() -> None:
    event = taken(
        {"event_name": "x", "context": [], "page": {"url": "u"}, "app": "Shop", "device": {"lang": "fr"}}
    )
    assert event.context == {"page": {"url": "u"}, "device": {"lang": "fr"}, "locale": "fr"}
    assert event.properties == {"app": "Shop"}


def test_properties_win_over_the_root_in_version_1() -> None:
    body = {"event_name": "x", "a": 1, "b": 2, "user": {"id": "root"}, "properties": {"a": 3, "event": "y"}}
    event = taken(body)
    assert event.properties == {"a": 3, "b": 2, "event": "y"}
    assert event.user_id == "root"


@pytest.mark.parametrize("value", [None, 0, 1.5, True, "x", [], ["x"], {}, {"x": [1]}])
@pytest.mark.parametrize(
    "path", sorted({*places(EXAMPLES), "context.traits", "context.consent"} - {"event_name"})
)
def test_any_type_in_any_place_is_taken(path: str, value: Any) -> None:
    *parents, last = path.split(".")
    body = copy.deepcopy(EXAMPLES)
    place = body
    for name in parents:
        place = place[name]
    place[last] = value
    event = taken(body)
    assert event.original == body
    assert event.event == "search"
    for name in ("page", "device", "app", "traits", "consent", "campaign"):
        assert isinstance(event.context.get(name, {}), dict), name
    assert isinstance(event.context.get("userAgent", ""), str)
    assert isinstance(event.context.get("ip", ""), str)


# ── Anything at all ──────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(sorted({name for path in places(EXAMPLES) for name in path.split(".")}))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["page_view", "search", "ALL", "1795228678906", STATED, "1,3", "marketing"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=15,
)
BODIES = st.dictionaries(NAMES | st.text(max_size=3), VALUES, max_size=8)


@given(BODIES, st.booleans())
def test_any_object_is_an_event_with_all_of_it_or_refused(body: dict[str, Any], named: bool) -> None:
    body = {**body, "event_name": "search"} if named else body
    name = body.get("event") if body.get("event_name") is None and "event" in body else body.get("event_name")
    if not isinstance(name, str) or not name:
        assert refused(body).code == "invalid_payload"
        return
    event = taken(body)
    assert event.original == body
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
    assert consent.is_refused(event.context, ["marketing"]) in (True, False)

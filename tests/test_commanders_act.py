"""Commanders Act's wire format: the documented events, the recordings, the request, batches. No server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from capture_kit import rebuilt, recordings
from commanders_act_kit import (
    AGENT,
    BATCH_BODY,
    CONTAINER_1,
    CONTAINER_2,
    MOBILE,
    RECEIVED,
    SEARCH,
    SEARCH_1_0,
    STATED,
    STATED_MS,
    WITHIN,
    event_for,
    items,
    reading,
    refused,
    taken,
)
from datafly_lite.errors import Refused
from datafly_lite.events import Event
from datafly_lite.gateway import limits
from datafly_lite.gateway.commanders_act import COMMANDERS_ACT, COMMANDERS_ACT_PIXEL
from datafly_lite.gateway.dialect import BATCH, Item
from datafly_lite.settings import Settings

# ── The documented events ────────────────────────────────────────────────────────────────────


def test_the_documented_event() -> None:
    event = taken(SEARCH)
    assert event == Event(
        type="track",
        message_id="evt-5f1c9d7a",
        timestamp=STATED,
        received_at=RECEIVED,
        original_timestamp=str(STATED_MS),
        event="search",
        user_id="crm-88231",
        anonymous_id="20261121093015447120934",
        properties={"search_term": "rain jacket"},
        context={
            "page": SEARCH["context"]["page"],
            "device": {"lang": "fr", "cookie": "_ga=GA1.1.5; _fbp=fb.1.1", "timezone": "Europe/Paris"},
            "app": SEARCH["context"]["app"],
            "ip": "203.0.113.9",
            "userAgent": AGENT,
            "locale": "fr",
            "timezone": "Europe/Paris",
            "traits": {"id": "crm-88231", "email": "nadia@example.net"},
            "consent": {"categories": {"1": True, "3": True}},
        },
        original=SEARCH,
    )


def test_the_documented_event_of_version_1_means_the_same() -> None:
    first, second = taken(SEARCH_1_0), taken(SEARCH)
    for name in ("type", "event", "message_id", "timestamp", "original_timestamp", "user_id", "properties"):
        assert getattr(first, name) == getattr(second, name), name
    for name in ("ip", "userAgent", "consent", "traits"):
        assert first.context[name] == second.context[name], name
    url = "https://shop.example/s?q=rain"
    assert first.context["page"] == {"title": "Results", "location": url, "url": url}
    assert first.context["app"] == {"name": "Shop"}
    assert first.anonymous_id is None
    assert first.original == SEARCH_1_0


def test_the_container_of_version_1() -> None:
    event = taken(CONTAINER_1)
    assert (event.type, event.event) == ("track", "add_to_cart")
    assert event.message_id == "952286789064281734002150"
    assert (event.timestamp, event.original_timestamp) == (STATED, "2026-11-21T02:37:58.906Z")
    assert event.properties["value"] == 5
    assert "user" not in event.properties
    assert event.context["library"] == {"name": "commandersact-web-container", "version": "3.4"}
    assert event.context["page"] == {"title": "Cart"}
    assert event.context["locale"] == "en-US"
    assert event.context["consent"]["categories"] == {"2": True}
    assert event.original == CONTAINER_1


def test_the_container_of_version_2() -> None:
    event = taken(CONTAINER_2)
    assert (event.type, event.event, event.name, event.category) == ("page", None, "home", "home")
    assert event.message_id == "952286789064281734002150"
    assert event.timestamp == STATED
    assert event.properties == {
        name: CONTAINER_2[name] for name in ("page_type", "type", "title", "path", "url", "referrer")
    }
    assert event.integrations == {}
    assert event.context["integrations"] == CONTAINER_2["integrations"]
    assert event.context["screen"] == {"width": 1920, "height": 1080}
    assert event.context["library"] == {"name": "commandersact-web-container", "version": "3.4"}
    assert event.context["consent"] == {"rejected_vendors": [], "categories": {"1": True, "3": True}}
    assert "ip" not in event.context
    assert "userAgent" not in event.context
    assert event.original == CONTAINER_2


def test_the_mobile_event() -> None:
    event = taken(MOBILE)
    assert event.user_id == "crm-88231"
    assert event.anonymous_id == "C32272DB0-C21E-11E4"
    device = event.context["device"]
    assert (device["id"], device["advertisingId"], device["adTrackingEnabled"]) == (
        "C32272DB0-C21E-11E4",
        "AEBE52E7",
        True,
    )
    assert device["lifecycle"]["first_visit"] == 1_327_449_000_000
    assert event.context["os"] == {"name": "iOS", "version": "18.1"}
    assert event.context["network"]["carrier"] == "T-Mobile"
    assert event.context["locale"] == "fr"
    assert event.context["library"] == {"name": "commandersact-mobile-sdk", "version": "5.0.2"}
    assert event.context["consent"] == {
        "refused_vendors": ["12"],
        "consentID": "C32272DB0-C21E-11E4",
        "categories": {"1": True},
    }


def test_the_mobile_event_of_version_1_is_known_by_its_installation() -> None:
    body = {
        "event_name": "search",
        "event_id": "202110130000000000",
        "properties": {"search_term": "t-shirts", "user": {"id": "12345"}},
        "device": {"sdk_id": "C32272DB0", "type": "ios"},
        "app": {"name": "MyApp", "core_version": "5.0.2"},
        "event_timestamp": "1639044446636",
    }
    event = taken(body)
    assert (event.anonymous_id, event.message_id) == ("C32272DB0", "202110130000000000")
    assert (event.timestamp, event.original_timestamp) == ("2021-12-09T10:07:26.636Z", "1639044446636")


def test_the_documented_batch() -> None:
    read = reading(BATCH_BODY, kind=BATCH)
    first, second = (event_for(read, item) for item in items(read))
    assert (first.message_id, second.message_id) == ("evt-11", "evt-12")
    assert (first.anonymous_id, second.anonymous_id) == ("ca-1", "ca-2")
    assert (first.timestamp, second.timestamp) == (STATED, "2026-11-21T02:37:59.906Z")
    assert first.properties == {"payment_method": "card", "revenue": 41.5, "value": 49.8, "currency": "EUR"}
    assert "page" not in first.context
    assert second.context["consent"]["categories"] == {"1": True, "2": True, "3": True}
    assert [event.original for event in (first, second)] == BATCH_BODY["batch"]


def test_both_versions_and_dialects_may_share_a_batch() -> None:
    bodies = [SEARCH, SEARCH_1_0, CONTAINER_1, CONTAINER_2, MOBILE]
    read = reading({"batch": bodies}, kind=BATCH)
    assert [event_for(read, item).original for item in items(read)] == bodies


INVALID = [
    # Copied from the batch's example: a comma is missing after the anonymous id.
    b'{"batch":[{"event_name":"x","user":{"consistent_anonymous_id":"568" "consent_categories":[1]}}]}',
    b'{"event_name":"search","properties":{"search_term":"t-shirts",},}',
    b"",
    b"{",
    b"event_name=search",
    b"--x\r\n\r\nno json\r\n--x--\r\n",
    b"--x\r\nno part",
]


@pytest.mark.parametrize("body", INVALID)
@pytest.mark.parametrize("kind", [None, BATCH])
def test_what_is_no_json_is_refused_whole(body: bytes, kind: str | None) -> None:
    with pytest.raises(Refused) as found:
        reading(body, kind=kind)
    assert found.value.code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"0", b"true"])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    assert refused(body).code == "invalid_payload"


# ── The recordings ───────────────────────────────────────────────────────────────────────────

RECORDED = [
    (name, entry)
    for name, entry in recordings()
    if name.startswith("commandersact-") and entry["method"] == "POST"
]


def test_the_recordings_are_there() -> None:
    assert len(RECORDED) == 5


@pytest.mark.parametrize(("name", "entry"), RECORDED, ids=[name for name, _ in RECORDED])
def test_a_recording_field_by_field(name: str, entry: dict[str, Any]) -> None:
    """Also that of a form's data, whose one part is the same JSON."""
    spoken = rebuilt(name, entry, "dk_1").spoken
    assert len(spoken) == entry["body_bytes"]
    body = (
        msgspec.json.decode(entry["body_text"].split("\r\n")[3])
        if "body_text" in entry
        else entry["body_json"]
    )
    event = taken(spoken, query="tc_s=4321&token=7f3a")
    assert event == Event(
        type="page",
        message_id="95227913595428817340021500",
        timestamp=body["context"]["created"],
        received_at=RECEIVED,
        original_timestamp=body["context"]["created"],
        name="home",
        category="home",
        properties={"page_type": "home", "path": "/", "title": "x", "url": body["url"], "type": "other"},
        context={
            "version": 2,
            "generatorVersion": "100.1",
            "containerVersion": "3.4",
            "page": body["context"]["page"],
            "device": body["context"]["device"],
            "locale": "en-US",
            "timezone": "Europe/Paris",
            "screen": {"width": 800, "height": 600},
            "library": {"name": "commandersact-web-container", "version": "3.4"},
            "consent": {"rejected_vendors": [], "categories": {"1": True, "3": True}},
            "integrations": {"facebook": {"event_id": "95227913595428817340021500"}},
            "commandersAct": {"siteId": "4321"},
        },
        original=body,
    )


# ── What a request says beside the event ─────────────────────────────────────────────────────


def test_the_query_and_the_cookie_are_kept_and_the_key_is_not() -> None:
    query = "tc_s=29&token=7183b9d4&tc_skey=7183b9d4&tc_do_not_track=false&x=y"
    read = reading(SEARCH_1_0, query=query, cookie="a=b; CAID=20261121093015447120934; _dfid=x")
    assert read.shared == {"tc_s": "29", "tc_do_not_track": "false", "caid": "20261121093015447120934"}
    [item] = items(read)
    assert item.anonymous_id == "20261121093015447120934"
    assert event_for(read, item).context["commandersAct"] == {
        "siteId": "29",
        "caid": "20261121093015447120934",
    }


def test_what_the_event_names_goes_before_the_cookie() -> None:
    [item] = items(reading(SEARCH, cookie="CAID=other"))
    assert item.anonymous_id == "20261121093015447120934"


@pytest.mark.parametrize("flag", ["true", "1", "TRUE"])
def test_where_no_cookies_are_wanted_the_cookie_names_nobody(flag: str) -> None:
    read = reading(SEARCH_1_0, query=f"tc_do_not_track={flag}", cookie="CAID=2026")
    [item] = items(read)
    assert item.anonymous_id is None
    event = event_for(read, item)
    assert event.context["commandersAct"]["doNotTrack"] is True
    assert event.context["consent"] == {"categories": {"1": True, "3": True}}


@pytest.mark.parametrize("cookie", ["", "CAID=", "xCAID=1", "CAID=a b", "CAID=" + "9" * 256, "caid=1"])
def test_a_malformed_caid_is_none(cookie: str) -> None:
    assert items(reading(SEARCH_1_0, cookie=cookie))[0].anonymous_id is None


def test_what_is_shared_is_small_enough_not_to_be_weighed() -> None:
    read = reading(SEARCH, query=f"tc_s={'9' * 256}&tc_do_not_track={'x' * 5_000}")
    assert (read.shared, read.shared_size_bytes) == ({}, 0)


# ── Batches ──────────────────────────────────────────────────────────────────────────────────


def test_a_bad_event_hurts_no_other() -> None:
    body = b'[{"event_name":"a"},5,null,{"event_name":"b","x":"cut \\ud83d"},' + b"[" * 40 + b"]" * 40 + b"]"
    read = reading(body, kind=BATCH)
    kinds = [item.code if isinstance(item, Refused) else item.wire["event_name"] for item in read.items]
    assert kinds == ["a", "invalid_payload", "invalid_payload", "b", "invalid_json"]
    mended = read.items[3]
    assert isinstance(mended, Item)
    assert (mended.repaired, mended.wire["x"]) == (True, "cut \ufffd")
    assert event_for(read, mended).properties == {"x": "cut \ufffd"}


@pytest.mark.parametrize(
    "body", [{}, {"batch": {}}, {"batch": None}, {"batch": "x"}, 5, None, {"event_name": "x"}]
)
def test_a_batch_is_a_list(body: Any) -> None:
    with pytest.raises(Refused) as found:
        reading(body, kind=BATCH)
    assert found.value.code == "invalid_payload"


def test_a_bare_list_is_a_batch_and_an_empty_one_holds_nothing() -> None:
    assert len(items(reading([SEARCH, MOBILE], kind=BATCH))) == 2
    assert reading({"batch": []}, kind=BATCH).items == []


def test_a_batch_has_no_more_events_than_the_settings_say() -> None:
    most = WITHIN.max_batch_events
    assert len(reading([{}] * most, kind=BATCH).items) == most
    with pytest.raises(Refused) as found:
        reading([{}] * (most + 1), kind=BATCH)
    assert found.value.code == "batch_too_large"


def test_a_form_may_carry_a_batch() -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + msgspec.json.encode(BATCH_BODY)
    assert len(items(reading(body + b"\r\n--B--\r\n", kind=BATCH))) == 2


def test_the_limits_are_the_vendors_or_the_settings_where_these_are_lower() -> None:
    most = limits(Settings())
    for dialect in (COMMANDERS_ACT, COMMANDERS_ACT_PIXEL):
        own = dialect.limits(most)
        assert (own.max_event_size_bytes, own.max_body_size_bytes) == (32_768, 32_768)
        assert own.max_batch_body_size_bytes == 512_000
        assert (own.max_batch_events, own.max_depth) == (most.max_batch_events, most.max_depth)
        small = most._replace(max_event_size_bytes=10, max_body_size_bytes=20, max_batch_body_size_bytes=30)
        assert dialect.limits(small) == small


def test_deep_nesting_is_refused() -> None:
    assert refused(b'{"event_name":"x","a":' + b"[" * 40 + b"]" * 40 + b"}").code == "invalid_json"

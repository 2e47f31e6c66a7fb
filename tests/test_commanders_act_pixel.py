"""Commanders Act's pixel: an event in a query string. Pure functions, no server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commanders_act_kit import STATED, items, pixel
from datafly_lite.errors import Refused
from datafly_lite.gateway import callers


def test_the_documented_pixel() -> None:
    read, event = pixel(
        "tc_s=1234&token=abcdef&event_name=page_view&page_type=product_list&page_name=Best%20sellers"
        "&user[id]=12356&user[email]=toto%40domain.fr&user[consent_categories][]=1&user[consent_categories][]=3"
    )
    assert read.shared == {"tc_s": "1234"}
    assert (event.type, event.name, event.user_id) == ("page", "Best sellers", "12356")
    assert event.properties == {"page_type": "product_list", "page_name": "Best sellers"}
    assert event.context == {
        "traits": {"id": "12356", "email": "toto@domain.fr"},
        "consent": {"categories": {"1": True, "3": True}},
        "commandersAct": {"siteId": "1234"},
    }
    assert event.original == {
        "tc_s": "1234",
        "event_name": "page_view",
        "page_type": "product_list",
        "page_name": "Best sellers",
        "user": {"id": "12356", "email": "toto@domain.fr", "consent_categories": ["1", "3"]},
    }


def test_the_documented_pixel_with_items() -> None:
    _, event = pixel(
        "event_name=purchase&id=O_12345&revenue=16.00"
        "&items[0][id]=SKU_12345&items[0][product][name]=Trex%20tshirt&items[0][product][colors][]=red"
        "&items[1][id]=SKU_12346&items[1][product][colors][]=blue"
        "&items[1][product][colors][]=white"
    )
    assert event.properties == {
        "id": "O_12345",
        "revenue": "16.00",
        "items": [
            {"id": "SKU_12345", "product": {"name": "Trex tshirt", "colors": ["red"]}},
            {"id": "SKU_12346", "product": {"colors": ["blue", "white"]}},
        ],
    }


def test_the_pixel_has_a_context_in_brackets_or_in_dots() -> None:
    _, event = pixel(
        "event_name=x&context[event_id]=e1&context.event_timestamp=1795228678906&context.device.ip=203.0.113.9"
    )
    assert (event.message_id, event.timestamp) == ("e1", STATED)
    assert event.context["ip"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("query", "key", "raw"),
    [
        ("token=NJtc+a%2Fb==&event_name=x", "NJtc+a/b==", "event_name=x"),
        ("event_name=x&tc_skey=k&a=%2f+%F0", "k", "event_name=x&a=%2f+%F0"),
        ("%74oken=k&event_name=x&token=second", "k", "event_name=x"),
        ("token=&tc_skey=k&event_name=x", "k", "event_name=x"),
        ("wk=k&event_name=x", "k", "event_name=x"),
        ("event_name=x&user[token]=t&tokens=1", None, "event_name=x&user[token]=t&tokens=1"),
    ],
)
def test_the_pixels_key_is_cut_out(query: str, key: str | None, raw: str) -> None:
    read, event = pixel(query)
    assert next(filter(None, callers.keys({}, query.encode())), None) == key
    assert items(read)[0].raw == raw.encode()
    assert "token" not in event.original


def test_the_pixel_takes_the_visitor_from_the_cookie() -> None:
    _, event = pixel("event_name=x&tc_s=1", cookie="CAID=2026112109301544")
    assert event.anonymous_id == "2026112109301544"
    assert event.context["commandersAct"] == {"siteId": "1", "caid": "2026112109301544"}
    assert pixel("event_name=x&tc_do_not_track=true", cookie="CAID=2026")[1].anonymous_id is None


@pytest.mark.parametrize("query", ["", "token=k", "event_name=", "event_name[]=x", "a=1&&b"])
def test_a_pixel_without_a_name_is_refused(query: str) -> None:
    with pytest.raises(Refused) as found:
        pixel(query)
    assert found.value.code == "invalid_payload"


def test_a_pixels_broken_bytes_are_replaced_and_said() -> None:
    read, event = pixel("event_name=x&a=%ff")
    assert items(read)[0].repaired
    assert event.properties == {"a": "\ufffd"}


@given(st.text(alphabet="ab[].=&%+0é", max_size=60))
def test_any_query_is_an_event(query: str) -> None:
    _, event = pixel(f"event_name=x&{query}")
    assert event.original["event_name"] == "x"


def test_a_page_that_wants_no_cookies_gets_none() -> None:
    assert pixel("event_name=x&tc_do_not_track=true")[0].is_cookieless
    assert not pixel("event_name=x&tc_do_not_track=false")[0].is_cookieless

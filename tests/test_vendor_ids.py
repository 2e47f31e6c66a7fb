"""Ids of vendors: where they are found, what is no id, which of two stands, and how long."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite import vendor_ids
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway import event_of, limits
from datafly_lite.settings import Settings
from datafly_lite.vendor_ids import COOKIE_NAMES, DAY_MS, KINDS, VendorId
from datafly_lite.vendors.ga4 import client_id

NOW_MS = 1_772_029_800_000
CLICK_MS = NOW_MS - 3 * DAY_MS
CLICK = "IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofrHyiLjcbCRxTDMgk"
UUID = "7b0c3e4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f"
COOKIES = {
    "_ga": "GA1.2.1234567.1690000000",
    "_fbp": "fb.1.1596403881668.1116446470",
    "_fbc": f"fb.1.{CLICK_MS}.{CLICK}",
    "_ttp": UUID,
    "_pin_unauth": UUID,
    "_scid": UUID,
    "_gcl_aw": f"GCL.{CLICK_MS // 1000}.Cj0KCQiA-click_1",
    "li_fat_id": UUID,
}


def event(context: dict[str, Any] | None = None, original: dict[str, Any] | None = None) -> Event:
    return Event(
        type="page",
        message_id="m",
        timestamp="",
        received_at="",
        context=context or {},
        original=original or {},
    )


def at(url: str) -> Event:
    return event({"page": {"url": url}})


def values(found: dict[str, VendorId]) -> dict[str, str]:
    return {name: one.value for name, one in found.items()}


# ── Where they are found ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("gclid", "gclid"),
        ("gbraid", "gbraid"),
        ("wbraid", "wbraid"),
        ("fbclid", "fbclid"),
        ("ttclid", "ttclid"),
        ("epik", "epik"),
        ("ScCid", "sccid"),
        ("sccid", "sccid"),
        ("li_fat_id", "li_fat_id"),
        ("msclkid", "msclkid"),
    ],
)
def test_a_click_id_is_in_the_address(parameter: str, name: str) -> None:
    url = f"https://shop.example/p?utm_source=x&{parameter}={CLICK}#{parameter}=no"
    found = vendor_ids.found(at(url), {}, NOW_MS)
    assert found[name] == VendorId(CLICK, NOW_MS)
    assert found.keys() == ({name, "fbc"} if name == "fbclid" else {name})


def test_the_first_of_a_parameter_counts() -> None:
    url = f"https://shop.example/?gclid={CLICK}&gclid=another-click-id"
    assert vendor_ids.found(at(url), {}, NOW_MS)["gclid"].value == CLICK


def test_an_address_of_endless_parameters_is_not_read() -> None:
    url = f"https://shop.example/?gclid={CLICK}&" + "a=b&" * 300
    assert vendor_ids.found(at(url), {}, NOW_MS) == {}


def test_cookies_are_read_in_their_vendors_forms() -> None:
    assert COOKIES.keys() <= COOKIE_NAMES
    assert vendor_ids.found(event(), {**COOKIES, "_ga_ABC123": "GS2.1.s17", "other": UUID}, NOW_MS) == {
        "ga4_client_id": VendorId("1234567.1690000000", NOW_MS),
        "fbp": VendorId(COOKIES["_fbp"], NOW_MS),
        "fbc": VendorId(COOKIES["_fbc"], CLICK_MS),
        "ttp": VendorId(UUID, NOW_MS),
        "pin_unauth": VendorId(UUID, NOW_MS),
        "scid": VendorId(UUID, NOW_MS),
        "gclid": VendorId("Cj0KCQiA-click_1", CLICK_MS),
        "li_fat_id": VendorId(UUID, NOW_MS),
    }


@pytest.mark.parametrize(
    ("context", "original"),
    [
        ({}, {"vendorIds": {"fbp": COOKIES["_fbp"], "ga4_client_id": "1234567.1690000000"}}),
        ({}, {"vendorIds": {"_fbp": COOKIES["_fbp"], "_ga": COOKIES["_ga"], "x": 7, "fbc": None}}),
        ({"device": {"cookie": f'a=b; _ga={COOKIES["_ga"]};_fbp="{COOKIES["_fbp"]}" ; c'}}, {}),
        ({"device": {"cookie": {"_ga": COOKIES["_ga"], "_fbp": COOKIES["_fbp"]}}}, {}),
        (
            {
                "integrations": {
                    "facebook": {"fbp": COOKIES["_fbp"]},
                    "Google Analytics": {"clientId": "1234567.1690000000"},
                }
            },
            {},
        ),
        (
            {
                "externalIds": [
                    {"id": COOKIES["_fbp"], "type": "fbp", "collection": "users", "encoding": "none"},
                    {"id": "1234567.1690000000", "type": "ga_client_id"},
                    7,
                    {"id": 7, "type": []},
                ]
            },
            {},
        ),
    ],
    ids=["named", "by cookie", "cookie text", "cookie object", "integrations", "external ids"],
)
def test_the_body_may_carry_them(context: dict[str, Any], original: dict[str, Any]) -> None:
    found = vendor_ids.found(event(context, original), {}, NOW_MS)
    assert values(found) == {"fbp": COOKIES["_fbp"], "ga4_client_id": "1234567.1690000000"}


def test_the_doors_own_events_are_read() -> None:
    cookie = f"_ga={COOKIES['_ga']}; _fbp={COOKIES['_fbp']}"
    bodies = {
        "commanders_act": {"event_name": "x", "user": {}, "context": {"device": {"cookie": cookie}}},
        "datafly": {
            "type": "track",
            "event": "x",
            "vendorIds": {"_ga": COOKIES["_ga"], "fbp": COOKIES["_fbp"]},
        },
    }
    for dialect, body in bodies.items():
        envelope = Envelope(dialect=dialect, message_id="m", received_at_ms=1, anonymous_id="a")
        one = event_of(envelope, msgspec.json.encode(body), limits(Settings()))
        assert vendor_ids.found(one, {}, NOW_MS).keys() == {"ga4_client_id", "fbp"}


def test_google_analytics_is_given_the_client_id_of_the_cookie() -> None:
    found = vendor_ids.found(event(), COOKIES, NOW_MS)
    one = event()
    one.vendor_ids = vendor_ids.current(found, NOW_MS)
    assert client_id(one) == found["ga4_client_id"].value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ga4_client_id", "GA1.1.5"),
        ("ga4_client_id", "GS2.1.s1690000000$o1"),
        ("ga4_client_id", "١٢٣.٤٥٦"),
        ("fbp", "fb.1.1"),
        ("fbp", "fb.1.1596403881668.abc"),
        ("fbc", f"fb.1.1596403881.{CLICK}"),
        ("fbc", "fb.1.1596403881668."),
        ("gclid", "undefined"),
        ("gclid", "null"),
        ("gclid", "x" * 501),
        ("gclid", "{{gclid}} of nobody"),
        ("ttclid", "<script>alert(1)</script>"),
        ("li_fat_id", "a b c d e f g h"),
        ("ttp", UUID + "\n"),
        ("unheard_of", UUID),
    ],
)
def test_what_has_not_its_vendors_form_is_no_id(name: str, value: str) -> None:
    assert vendor_ids.found(event(original={"vendorIds": {name: value}}), {}, NOW_MS) == {}
    assert vendor_ids.found(at("https://shop.example/?" + urlencode({name: value})), {}, NOW_MS) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([*COOKIES.values()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*COOKIES, "facebook", "type", "id", "url", "cookie"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["page", "device", "integrations", "externalIds"]), JSON),
    st.dictionaries(st.just("vendorIds"), JSON),
    st.sampled_from(["", "https://[::1?gclid=x", "?fbclid=" + CLICK, "x?" + "a=b&" * 300]),
    st.integers(-(2**41), 2**41),
)
def test_whatever_stands_there_ids_have_their_forms(
    context: Any, original: Any, url: str, at_ms: int
) -> None:
    one = event({"page": {"url": url}, **context}, original)
    for name, found in vendor_ids.found(one, {}, at_ms).items():
        assert KINDS[name].form.fullmatch(found.value)
        assert found.set_at_ms <= at_ms


# ── fbc ──────────────────────────────────────────────────────────────────────────────────────


def test_fbc_is_made_of_a_click_as_meta_documents_it() -> None:
    found = vendor_ids.found(at(f"https://shop.example/?fbclid={CLICK}"), {}, NOW_MS)
    assert found["fbc"] == VendorId(f"fb.1.{NOW_MS}.{CLICK}", NOW_MS)


def test_a_cookie_of_the_same_click_is_not_replaced() -> None:
    landing = at(f"https://shop.example/?fbclid={CLICK}")
    assert vendor_ids.found(landing, COOKIES, NOW_MS)["fbc"].value == COOKIES["_fbc"]
    own = vendor_ids.found(event(), COOKIES, NOW_MS)
    again = vendor_ids.merged(own, vendor_ids.found(landing, {}, NOW_MS), NOW_MS)
    assert again["fbc"].value == COOKIES["_fbc"]


def test_a_new_click_goes_before_the_cookie_of_an_old_one_and_stays() -> None:
    click = vendor_ids.found(at("https://shop.example/?fbclid=another-click-id"), COOKIES, NOW_MS)
    assert click["fbc"].value == f"fb.1.{NOW_MS}.another-click-id"
    later = vendor_ids.merged(click, vendor_ids.found(event(), COOKIES, NOW_MS + 5), NOW_MS + 5)
    assert later["fbc"] == click["fbc"]


def test_a_newer_cookie_goes_before_the_click_in_the_address() -> None:
    cookie = f"fb.1.{NOW_MS}.the-newer-click"
    late = vendor_ids.found(at(f"https://shop.example/?fbclid={CLICK}"), {}, CLICK_MS)
    assert (
        vendor_ids.merged(late, vendor_ids.found(event(), {"_fbc": cookie}, NOW_MS), NOW_MS)["fbc"].value
        == cookie
    )
    newer = vendor_ids.found(event(), {"_fbc": cookie}, NOW_MS)
    assert vendor_ids.merged(newer, late, CLICK_MS)["fbc"].value == cookie


def test_the_same_click_keeps_its_first_time() -> None:
    first = vendor_ids.found(at(f"https://shop.example/?fbclid={CLICK}"), {}, CLICK_MS)
    second = vendor_ids.found(at(f"https://shop.example/again?fbclid={CLICK}"), {}, NOW_MS)
    for one, other in ((first, second), (second, first)):
        assert vendor_ids.merged(one, other, NOW_MS)["fbc"] == first["fbc"]


def test_a_click_from_the_future_is_of_a_wrong_clock() -> None:
    found = vendor_ids.found(event(), {"_fbc": f"fb.1.{NOW_MS + DAY_MS}.{CLICK}"}, NOW_MS)
    assert found["fbc"].set_at_ms == NOW_MS


# ── Which of two, and how long ───────────────────────────────────────────────────────────────


def test_the_newer_id_stands_whatever_the_order() -> None:
    old, new = {"ttp": VendorId("old-enough-1", 5)}, {"ttp": VendorId("new-enough-1", 6)}
    assert vendor_ids.merged(old, new, 6) == new
    assert vendor_ids.merged(new, old, 5) is new
    assert vendor_ids.merged(old, {"ttp": VendorId("same-time-1", 5)}, 5)["ttp"].value == "same-time-1"


def test_that_an_id_was_seen_again_is_noted_once_a_day() -> None:
    known = {"ttp": VendorId(UUID, NOW_MS)}
    assert vendor_ids.merged(known, {"ttp": VendorId(UUID, NOW_MS + DAY_MS - 1)}, NOW_MS + DAY_MS) is known
    later = {"ttp": VendorId(UUID, NOW_MS + DAY_MS)}
    assert vendor_ids.merged(known, later, NOW_MS + DAY_MS) == later


@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_id_is_attached_until_its_lifetime_is_over(name: str) -> None:
    known = {name: VendorId("v", 1_000)}
    end_ms = 1_000 + KINDS[name].days * DAY_MS
    assert vendor_ids.current(known, end_ms - 1) == {name: "v"}
    assert vendor_ids.current(known, end_ms) == {}
    assert vendor_ids.merged(known, {}, end_ms - 1) is known
    assert vendor_ids.merged(known, {}, end_ms) == {}


def test_an_old_click_in_a_cookie_is_not_kept() -> None:
    found = {"fbc": VendorId(f"fb.1.1596403881668.{CLICK}", 1_596_403_881_668)}
    assert vendor_ids.merged({}, found, NOW_MS) == {}


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["gclid", "ttp"]), st.sampled_from("abc")),
        unique_by=lambda one: one[0],
        max_size=6,
    ).flatmap(lambda seen: st.tuples(st.just(seen), st.permutations(seen)))
)
def test_any_order_of_arrival_gives_the_same_ids(orders: Any) -> None:
    results = []
    for order in orders:
        known: dict[str, VendorId] = {}
        for day, name, value in order:
            known = vendor_ids.merged(known, {name: VendorId(value, day * DAY_MS)}, day * DAY_MS)
        results.append(msgspec.json.encode(known))
    newest = {name: VendorId(value, day * DAY_MS) for day, name, value in sorted(orders[0])}
    assert results == [msgspec.json.encode(dict(sorted(newest.items())))] * 2


# ── Consent ──────────────────────────────────────────────────────────────────────────────────


def test_the_ids_of_a_refused_category_are_not_allowed() -> None:
    assert vendor_ids.allowed({}) == vendor_ids.allowed({"marketing": True}) == KINDS.keys()
    assert vendor_ids.allowed({"marketing": False}) == {"ga4_client_id"}
    assert vendor_ids.allowed({"analytics": False}) == KINDS.keys() - {"ga4_client_id"}


def test_what_is_no_longer_allowed_is_forgotten() -> None:
    known = vendor_ids.found(event(), COOKIES, NOW_MS)
    names = vendor_ids.allowed({"marketing": False})
    kept = vendor_ids.merged(known, known, NOW_MS, names)
    assert kept == {"ga4_client_id": known["ga4_client_id"]}

"""Personal data is found wherever an event has it: in texts, numbers and keys, however long a list is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.events import Event
from datafly_lite.pii import TECHNICAL, PiiRules, hashed, protect
from datafly_lite.pii_detection import scrubbed

REDACT = PiiRules(auto_detect="redact")
HASH = PiiRules(auto_detect="hash")
WORD = "[redacted]"
MAIL = "jane@example.com"


def event(**given: Any) -> Event:
    base = {"type": "track", "message_id": "m-1", "timestamp": "t", "received_at": "t", "anonymous_id": "a"}
    return Event(**{**base, **given})


def after(rules: PiiRules, **given: Any) -> Event:
    one = event(**given)
    protect(one, rules)
    return one


# ── Lists ────────────────────────────────────────────────────────────────────────────────────


def test_every_item_of_a_list_is_hashed_and_redacted_however_many_there_are() -> None:
    items = [{"email": f"u{number}@example.com", "name": "x", "n": number} for number in range(2_500)]
    rules = PiiRules(hash_fields=("properties.items[*].email",), redact_fields=("properties.items[*].name",))
    one = event(properties={"items": items})
    changed = protect(one, rules)
    assert one.properties["items"] == [
        {"email": hashed(f"u{number}@example.com"), "n": number} for number in range(2_500)
    ]
    assert changed[0] == "properties.items[0].name"
    assert changed[-1] == "properties.items[2499].email"
    assert len(changed) == 5_000


def test_stars_within_stars_and_keys_in_quotes_lead_where_they_say() -> None:
    rules = PiiRules(
        redact_fields=('properties["a [*] b"][*].x[*]', "properties.m[*][0]", "properties.l[1]"),
        hash_fields=("properties.m[*][*]",),
    )
    one = after(
        rules,
        properties={
            "a [*] b": [{"x": [1, 2], "y": 1}, 5, {"x": "kept"}],
            "m": [["a", "b"], "t"],
            "l": [0, 1, 2],
        },
    )
    assert one.properties["l"] == [0, 2]
    assert one.properties["m"] == [[hashed("b")], "t"]


# ── Places ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["referrer", "location", "custom", "instanceName", "account", "externalIds"])
def test_all_of_the_context_is_looked_through(name: str) -> None:
    one = after(REDACT, context={"locale": "de", name: {"deep": [f"of {MAIL}"]}, "direct": True})
    assert one.context == {"locale": "de", "direct": True, name: {"deep": [f"of {WORD}"]}}


@pytest.mark.parametrize("name", sorted(TECHNICAL))
def test_what_is_technical_is_not_looked_through(name: str) -> None:
    assert after(REDACT, context={name: {"x": MAIL}}).context == {name: {"x": MAIL}}


def test_the_category_is_looked_through_and_ids_and_the_events_name_are_not() -> None:
    one = after(REDACT, category=MAIL, name=MAIL, user_id=MAIL, group_id=MAIL, previous_id=MAIL, event=MAIL)
    assert (one.category, one.name) == (WORD, WORD)
    assert [one.user_id, one.group_id, one.previous_id, one.event] == [MAIL] * 4


def test_a_key_can_be_personal_too() -> None:
    given = {MAIL: 1, "joe@example.com": {"x": MAIL}, "+44 7700 900123": 2, "plain": 3, "_x": 4, "1": 5}
    one = event(properties=given)
    changed = protect(one, REDACT)
    assert one.properties == {
        WORD: 1,
        f"{WORD} 2": {"x": WORD},
        f"{WORD} 3": 2,
        "plain": 3,
        "_x": 4,
        "1": 5,
    }
    assert not any("@" in path for path in changed)
    assert protect(one, REDACT) == []
    assert after(HASH, properties={MAIL: 1}).properties == {hashed(MAIL): 1}


def test_a_key_takes_no_other_keys_place() -> None:
    one = after(REDACT, properties={MAIL: 1, WORD: 2, f"{WORD} 2": 3})
    assert sorted(one.properties.values()) == [1, 2, 3]


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("note", 4111111111111111),
        ("order_id", 5500000000000004),
        ("card", 4111111111111111.0),
        ("amex", 378282246310005),
        ("phone", 447700900123),
        ("mobile_number", 7700900123),
        ("workTel", 2079460958),
        ("phone_home", 6505551212),
        ("fax", 2079460958.0),
        ("phone", "447700900123"),
        ("phone", " 6505551212 "),
        ("customer_mobile", "07700900123"),
    ],
)
def test_numbers_are_found_by_the_cards_rule_and_by_their_fields_name(name: str, value: Any) -> None:
    assert after(REDACT, properties={name: value, "list": [value]}).properties[name] == WORD
    made = after(HASH, properties={name: value}).properties[name]
    assert made == hashed(str(int(value)) if isinstance(value, float) else str(value), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order_id", 4506123456784),  # an id of a shop's with the right Luhn digit
        ("productId", 4506123456784),
        ("ean", 4006381333931),
        ("n", 4006381333931),
        ("at", 1772029800000),
        ("micros", 1772029800000000),
        ("nanos", 1772029800000000000),
        ("total", 129.95),
        ("large", 1e300),
        ("not_luhn", 4111111111111112),
        ("order_id", 447700900123),
        ("hotel", 447700900123),
        ("is_mobile", True),
        ("mobile_sessions", 12345678),
        ("phone_model", 12345678),
        ("phones", 3),
        ("phone", 112),
        ("phone", 1.5e10 + 0.5),
        ("phone", "192.168.100.200"),
        ("phone", "25-02-2026"),
        ("phone", None),
        ("mobile_version", "131.0.0.0"),
        ("negative", -4111111111111111),
    ],
)
def test_other_numbers_are_left(name: str, value: Any) -> None:
    assert after(REDACT, properties={name: value}).properties == {name: value}


# ── Writings ─────────────────────────────────────────────────────────────────────────────────

NBSP, NARROW, EN_DASH, MINUS = "\u00a0", "\u202f", "\u2013", "\u2212"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("jane@example.com-", "#-"),
        ("jane@example.com_x", "#_x"),
        ("x jane@example.xn--p1ai y", "x # y"),
        ("jane@example.xn--p1ai.", "#."),
        ("06.12.34.56.78", "#"),
        ("call 06.12.34.56.78.", "call #."),
        ("0471.12.34.56", "#"),
        ("(650)555 1212", "#"),
        (f"(650){NBSP}555{EN_DASH}1212", "#"),
        (f"650{EN_DASH}555{EN_DASH}1212", "#"),
        (f"+44{NBSP}20{NARROW}7946{NBSP}0958", "#"),
        (f"06{NBSP}12{NBSP}34{NBSP}56{NBSP}78", "#"),
        (f"0171{EN_DASH}1234567", "#"),
        (f"4111{NBSP}1111{NARROW}1111{NBSP}1111", "#"),
        (f"5500{EN_DASH}0000{MINUS}0000{EN_DASH}0004", "#"),
        ("a=%2B44%C2%A020%C2%A07946%C2%A00958", "a=%23"),
    ],
)
def test_it_is_found_in_whatever_writing(text: str, made: str) -> None:
    assert scrubbed(text, lambda _: "#") == made


@pytest.mark.parametrize(
    "text",
    [
        "logo@2x.png",
        "logo@2x.png-large",
        "logo@2x.png_1",
        "package@1.2.3-beta.4",
        "10.0.12.34",
        "06.12.34.56",
        "01.02.2024",
        "v01.02.03.04.05",
        "1.02.03.04.05.06",
        f"1{NBSP}234{NBSP}567,89",
        f"25{EN_DASH}02{EN_DASH}2026",
        f"10:30{EN_DASH}11:45",
        f"2019{EN_DASH}2026",
        f"100{EN_DASH}200 EUR",
        "2026-02-25",
        "order 1002 3400 55",
        "jane@example.c",
    ],
)
def test_versions_dates_prices_and_addresses_of_machines_are_left(text: str) -> None:
    assert scrubbed(text, lambda _: "#") == text


# ── Everything ───────────────────────────────────────────────────────────────────────────────

LEAVES = st.sampled_from([MAIL, "+447700900123", 4111111111111111, 5, 1.5, None, True, "x", ""])
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([MAIL, "a", "phone", "1"]), inner)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "traits", "locale", MAIL]), TREES), st.sampled_from([REDACT, HASH])
)
def test_nothing_is_left_nothing_is_changed_in_place_and_once_is_enough(
    given: dict[str, Any], rules: PiiRules
) -> None:
    one = event(properties=given, context={**given, "locale": "de"}, category=MAIL)
    before = copy.deepcopy(given)
    changed = protect(one, rules)
    assert given == before
    words = repr((one.properties, one.context, one.category, changed))
    assert not any(find in words for find in (MAIL, "447700900123", "4111111111111111"))
    assert protect(one, rules) == []

"""Personal data: named fields, what is found in texts and what is not, addresses, and Strip."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.events import Event
from datafly_lite.pii import PiiRules, hashed, problems, protect, strip
from datafly_lite.pii_detection import scrubbed


def event(**given: Any) -> Event:
    base = {"type": "track", "message_id": "m-1", "timestamp": "t", "received_at": "t", "anonymous_id": "a"}
    return Event(**{**base, **given})


def protected(rules: PiiRules, **given: Any) -> tuple[Event, list[str]]:
    one = event(**given)
    return one, protect(one, rules)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ── Named fields ─────────────────────────────────────────────────────────────────────────────


def test_the_hashes_are_those_of_metas_documentation() -> None:
    # developers.facebook.com, conversions-api/parameters/customer-information-parameters
    mail = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
    assert hashed(" John_Smith@gmail.com ") == mail
    assert (
        hashed("1 (650)555-1212", "phone")
        == "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"
    )


@pytest.mark.parametrize(
    ("value", "name", "written"),
    [
        ("Ada@Example.COM", "x", "ada@example.com"),
        ("+44 7700 900-123", "x", "+447700900123"),
        ("0044 7700 900123", "phone", "+447700900123"),
        ("(0)7700 900123", "mobile", "07700900123"),
        ("5551212", "phone_number", "5551212"),
        ("5551212", "account", "5551212"),
        ("1980-02-01", "birthday", "1980-02-01"),
        (" Ada Lovelace ", "name", "Ada Lovelace"),
        ("none", "phone", "none"),
    ],
)
def test_a_value_is_hashed_in_its_one_writing(value: str, name: str, written: str) -> None:
    assert hashed(value, name) == sha(written)


@settings(deadline=None)
@given(st.text(max_size=30), st.sampled_from(["", "phone", "email"]))
def test_a_hash_is_not_hashed_again(value: str, name: str) -> None:
    once = hashed(value, name)
    assert hashed(once, name) == once
    assert len(once) == 64


def test_fields_are_hashed_and_removed_where_they_are() -> None:
    rules = PiiRules(
        hash_fields=("traits.email", "properties.user", "userId"),
        redact_fields=("traits.ssn", "properties.none"),
    )
    one, changed = protected(
        rules,
        user_id="ada@example.com",
        traits={"email": "A@b.com", "ssn": "1", "plan": "pro"},
        properties={"user": {"zip": 1234, "tags": ["x", None, True], "when": 1.5}, "total": 5},
    )
    assert one.traits == {"email": sha("a@b.com"), "plan": "pro"}
    assert one.properties["user"] == {"zip": sha("1234"), "tags": [sha("x"), None, True], "when": sha("1.5")}
    assert one.properties["total"] == 5
    assert one.user_id == sha("ada@example.com")
    assert changed == [
        "traits.ssn",
        "traits.email",
        "properties.user.zip",
        "properties.user.tags[0]",
        "properties.user.when",
        "userId",
    ]


def test_a_trait_is_meant_under_the_context_too() -> None:
    rules = PiiRules(hash_fields=("traits.email",), redact_fields=("traits.phone",))
    one, changed = protected(rules, context={"traits": {"email": "a@b.com", "phone": "1", "n": 1}})
    assert one.context == {"traits": {"email": sha("a@b.com"), "n": 1}}
    assert changed == ["context.traits.phone", "context.traits.email"]


def test_a_star_is_every_item_of_a_list() -> None:
    rules = PiiRules(
        hash_fields=("properties.products[*].email",),
        redact_fields=("properties.products[*].people[*].name", "properties.mails[*]"),
    )
    products = [
        {"email": "a@b.com", "people": [{"name": "x", "n": 1}, {"name": "y"}]},
        {"sku": 1},
        "text",
        {"email": "c@d.com"},
    ]
    one, changed = protected(rules, properties={"products": products, "mails": ["a", "b"]})
    assert one.properties == {
        "products": [
            {"email": sha("a@b.com"), "people": [{"n": 1}, {}]},
            {"sku": 1},
            "text",
            {"email": sha("c@d.com")},
        ],
        "mails": [],
    }
    assert changed == [
        "properties.products[0].people[0].name",
        "properties.products[0].people[1].name",
        "properties.mails[0]",
        "properties.mails[1]",
        "properties.products[0].email",
        "properties.products[3].email",
    ]


def test_a_field_that_is_in_both_lists_is_removed() -> None:
    one, changed = protected(
        PiiRules(hash_fields=("traits.a",), redact_fields=("traits.a",)), traits={"a": "x"}
    )
    assert (one.traits, changed) == ({}, ["traits.a"])


def test_rules_that_are_off_change_nothing() -> None:
    rules = PiiRules(enabled=False, redact_fields=("traits.a",), auto_detect="redact", ip_address="drop")
    one, changed = protected(rules, traits={"a": "x@y.de"}, context={"ip": "1.2.3.4"})
    assert (one, changed) == (event(traits={"a": "x@y.de"}, context={"ip": "1.2.3.4"}), [])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a@b.com", "+447700900123", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)
PATHS = st.sampled_from(
    ["traits", "properties.a", "properties.a.b", "properties[*]", "properties.a[*].b", "userId"]
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), VALUES),
    st.lists(PATHS),
    st.lists(PATHS),
    st.sampled_from(["off", "hash"]),
)
def test_no_nested_value_is_changed_in_place(
    properties: dict[str, Any], hash_fields: list[str], redact_fields: list[str], auto_detect: Any
) -> None:
    rules = PiiRules(
        hash_fields=tuple(hash_fields), redact_fields=tuple(redact_fields), auto_detect=auto_detect
    )
    one = event(properties=properties, traits=properties, user_id="u", context={"traits": properties})
    before, logged = copy.deepcopy(one), msgspec.structs.replace(one)
    changed = protect(one, rules)
    assert repr(logged) == repr(before)
    assert (repr(one) != repr(before)) == bool(changed)
    assert protect(one, PiiRules(hash_fields=rules.hash_fields, auto_detect=rules.auto_detect)) == []


# ── What is found ────────────────────────────────────────────────────────────────────────────

FOUND = [
    "ada@example.com",
    "ada.lovelace+shop@mail.example.co.uk",
    "max@münchen.de",
    "+447700900123",
    "+44 20 7946 0958",
    "+1 (650) 555-1212",
    "(650) 555-1212",
    "650-555-1212",
    "1.650.555.1212",
    "020 7946 0958",
    "0171/1234567",
    "06 12 34 56 78",
    "0049 171 1234567",
    "4111111111111111",
    "4111 1111 1111 1111",
    "5500-0000-0000-0004",
    "378282246310005",
    "6011111111111117",
    "3530111333300000",
]
NOT_FOUND = [
    "1772029800000",
    "1772029800",
    "2026-02-25T14:30:00.000Z",
    "2026-02-25T14:30:00+0100",
    "01/02/2024 12:30",
    "01-02-2024",
    "25.02.2026 14:30",
    "4006381333931",  # EAN-13
    "4012345678901",  # EAN-13
    "012345678905",  # UPC
    "O-123456789012",
    "order-0171-123456",
    "1234567890",
    "4111111111111112",  # Luhn is wrong
    "1,234,567.89",
    "12.345.678,90",
    "1 234 567,89",
    "0.123456789",
    "52.520008, 13.404954",
    "192.168.100.200",
    "550e8400-e29b-41d4-a716-446655440000",
    "GA1.2.1234567890.1700000000",
    "fb.1.1700000000000.1234567890",
    "logo@2x.png",
    "package@1.2.3",
    "@handle",
    "user@localhost",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0.0.0",
    sha("x"),
]


@pytest.mark.parametrize("text", FOUND)
@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("call ", " now"), ("x=", "&y=1"), ("(", ")"), ("a: ", ".")]
)
def test_personal_data_is_found_wherever_it_stands(text: str, before: str, after: str) -> None:
    assert scrubbed(f"{before}{text}{after}", lambda _: "#") == f"{before}#{after}"


@pytest.mark.parametrize("text", NOT_FOUND)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("at ", " now"), ("x=", "&y=1")])
def test_ids_times_prices_and_article_numbers_are_left(text: str, before: str, after: str) -> None:
    assert scrubbed(f"{before}{text}{after}", lambda _: "#") == f"{before}{text}{after}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.de/?e=ada%40b.com&x=%C3%A9", "https://a.de/?e=[redacted]&x=%C3%A9"),
        ("https://a.de/u/ada%40b.com/x?y=1", "https://a.de/u/[redacted]/x?y=1"),
        ("https://a.de/?p=%2B447700900123", "https://a.de/?p=[redacted]"),
        ("https://a.de/?p=%2B44+7700+900123#top", "https://a.de/?p=[redacted]#top"),
        ("?to=https%3A%2F%2Fb.de%2F%3Fe%3Dada%2540b.com", "?to=https%3A%2F%2Fb.de%2F%3Fe%3D[redacted]"),
        ("https://a.de/?q=100%25+wool+%26+silk", "https://a.de/?q=100%25+wool+%26+silk"),
        ("?u=a%2540b.de", "?u=[redacted]"),
        ("mailto:ada@b.com", "mailto:[redacted]"),
    ],
)
def test_what_is_percent_encoded_is_found_and_the_rest_kept(url: str, expected: str) -> None:
    one, changed = protected(PiiRules(auto_detect="redact"), context={"page": {"url": url, "title": "T"}})
    assert one.context["page"] == {"url": expected, "title": "T"}
    assert changed == (["context.page.url"] if url != expected else [])


def test_found_values_become_their_hash_in_the_same_writing() -> None:
    one, changed = protected(
        PiiRules(auto_detect="hash"),
        properties={"note": "ask Ada@B.com", "list": [" Ada@B.com ", 5], "odd key": "+44 7700 900123"},
        traits={"n": "x"},
        original={"body": {"m": "a@b.com"}},
        name="a@b.com",
        user_id="a@b.com",
        event="a@b.com",
    )
    mail = sha("ada@b.com")
    assert one.properties == {"note": f"ask {mail}", "list": [mail, 5], "odd key": sha("+447700900123")}
    assert one.original == {"body": {"m": sha("a@b.com")}}
    assert (one.name, one.user_id, one.event) == (sha("a@b.com"), "a@b.com", "a@b.com")
    assert changed == [
        "properties.note",
        "properties.list[0]",
        'properties["odd key"]',
        "original.body.m",
        "name",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "@" * 60_000,
        "a" * 60_000 + "@",
        "+1" * 30_000,
        "01 23 " * 10_000,
        "4 " * 30_000,
        "%40" * 20_000,
        "a.a@" + "a-." * 20_000,
        "%25" * 20_000 + "40",
        "1-" * 30_000,
        "(0" * 30_000,
        "%252525" * 8_000,
    ],
)
def test_hostile_text_is_gone_through(text: str) -> None:
    assert isinstance(scrubbed(f"{text} ada@example.com", lambda _: "#"), str)


@settings(deadline=None)
@given(st.text(alphabet="ab@.+-%40 123()/=&?", max_size=60))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = scrubbed(text, lambda _: "#")
    assert scrubbed(once, lambda _: "#") == once


# ── Addresses ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ip", "truncated"),
    [
        ("198.51.100.77", "198.51.100.0"),
        ("2001:db8:85a3:8d3:1319:8a2e:370:7348", "2001:db8:85a3::"),
        ("::ffff:198.51.100.77", "198.51.100.0"),
        ("fe80::1%eth0", "fe80::"),
        ("not an address", None),
        (7, None),
    ],
)
def test_an_address_is_cut_short_or_dropped(ip: Any, truncated: str | None) -> None:
    one, changed = protected(PiiRules(ip_address="truncate"), context={"ip": ip, "locale": "de"})
    assert one.context.get("ip") == truncated
    assert one.context["locale"] == "de"
    assert changed == ["context.ip"]
    one, changed = protected(PiiRules(ip_address="drop"), context={"ip": ip})
    assert (one.context, changed) == ({}, ["context.ip"])


def test_an_address_that_is_short_already_has_not_changed() -> None:
    assert protected(PiiRules(ip_address="truncate"), context={"ip": "198.51.100.0"})[1] == []
    assert protected(PiiRules(ip_address="drop"))[1] == []


# ── Strip ────────────────────────────────────────────────────────────────────────────────────


def test_strip_takes_who_it_was_and_leaves_what_happened() -> None:
    one = event(
        event="purchase",
        user_id="u",
        group_id="g",
        previous_id="p",
        properties={"total": 5, "note": "ada@b.com"},
        traits={"email": "x"},
        vendor_ids={"fbp": "fb.1.1.1"},
        original={"user": {"email": "x"}},
        context={
            "traits": {"email": "x"},
            "ip": "1.2.3.4",
            "userAgent": "UA",
            "device": {"type": "mobile", "advertisingId": "x", "id": "x"},
            "page": {
                "url": "https://a.de/?a=1&gclid=x&b=2",
                "search": "?FBCLID=x",
                "referrer": "r?gclid=1#t",
            },
        },
    )
    changed = strip(one)
    assert one == event(
        event="purchase",
        properties={"total": 5, "note": "[redacted]"},
        context={
            "userAgent": "UA",
            "device": {"type": "mobile"},
            "page": {"url": "https://a.de/?a=1&b=2", "search": "", "referrer": "r#t"},
        },
    )
    assert changed == [
        "userId",
        "groupId",
        "previousId",
        "traits",
        "vendorIds",
        "original",
        "context.traits",
        "context.ip",
        "context.device.id",
        "context.device.advertisingId",
        "context.page.url",
        "context.page.search",
        "context.page.referrer",
        "properties.note",
    ]
    assert strip(one) == []


# ── What a user may write ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "a path is needed"),
        ("traits..email", "character 8"),
        ("trait.email", "an event has no field trait"),
        ("messageId", "cannot be changed"),
        ("anonymousId", "cannot be changed"),
        ("properties", "too much"),
        ("traits." + "x" * 300, "at most 300 characters"),
    ],
)
def test_a_path_that_cannot_be_used_says_why(path: str, words: str) -> None:
    for field in ("hash_fields", "redact_fields"):
        [(where, message)] = problems(PiiRules(**{field: ("traits.email", path)}))  # type: ignore[arg-type]
        assert where == f"{field}[1]"
        assert words in message


def test_good_paths_have_no_problem_and_too_many_have_one() -> None:
    paths = (
        "traits",
        "traits.email",
        "userId",
        "properties.products[*].email",
        'context["odd key"]',
        "original",
    )
    assert problems(PiiRules(hash_fields=paths, redact_fields=paths)) == []
    assert problems(PiiRules(hash_fields=("userId",) * 101)) == [
        ("hash_fields", "at most 100 paths are taken")
    ]


def test_the_documented_rules_are_read() -> None:
    text = (
        '{"enabled":true,"hash_fields":["traits.email","traits.phone"],'
        '"redact_fields":["traits.ssn","properties.credit_card"],"hash_algorithm":"sha256"}'
    )
    rules = msgspec.json.decode(text, type=PiiRules)
    assert rules.redact_fields == ("traits.ssn", "properties.credit_card")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode('{"hash_algorithm":"md5"}', type=PiiRules)

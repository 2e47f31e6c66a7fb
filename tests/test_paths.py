"""Paths into JSON: how they are written, and that reading and writing leave what others share alone."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.errors import ExpressionError, StepFailed
from datafly_lite.events import Event
from datafly_lite.paths import (
    DEEPEST,
    HIGHEST_INDEX,
    MISSING,
    Path,
    parse,
    put,
    put_event,
    read,
    read_event,
    remove_event,
    without,
)

ORDER: Any = {"id": 7, "items": [{"sku": "A"}, {"sku": "B", "tax": None}], "odd key": {"x'y": 1}}


def an_event(**fields: Any) -> Event:
    given = {"type": "track", "messageId": "m-1", "timestamp": "", "receivedAt": "", **fields}
    return msgspec.convert(given, Event)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a",)),
        ("properties.price", ("properties", "price")),
        ("events[0].params.value", ("events", 0, "params", "value")),
        ("a[0][12]", ("a", 0, 12)),
        ("properties.$set.2nd", ("properties", "$set", "2nd")),
        ('a["b c"].d', ("a", "b c", "d")),
        ("['it''s'][0]", ("it's", 0)),
        ('["say ""so"""]', ('say "so"',)),
        ("été.größe", ("été", "größe")),
        (f"a[{HIGHEST_INDEX}]", ("a", HIGHEST_INDEX)),
    ],
)
def test_how_a_path_is_written(text: str, parts: tuple[str | int, ...]) -> None:
    assert parse(text) == Path(text, parts)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        (".a", 1),
        ("a.", 3),
        ("a..b", 3),
        ("a b", 2),
        ("first-name", 6),
        ("a[-1]", 2),
        ("a[", 2),
        ("a['b]", 2),
        ("a.[0]", 2),
        ("a[0]b", 5),
        (f"abc[{HIGHEST_INDEX + 1}]", 5),
        (".".join("a" * (DEEPEST + 1)), 2 * DEEPEST + 1),
    ],
)
def test_a_path_that_cannot_be_read_says_where(text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse(text)
    assert raised.value.position == position


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id", 7),
        ("items[1].sku", "B"),
        ("items[1].tax", None),
        ("items[2].sku", MISSING),
        ("items.sku", MISSING),
        ("id.x", MISSING),
        ("id[0]", MISSING),
        ('["odd key"]["x\'y"]', 1),
        ("nothing", MISSING),
    ],
)
def test_what_a_path_reads(text: str, expected: Any) -> None:
    assert read(ORDER, parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id", {**ORDER, "id": 0}),
        ("new", {**ORDER, "new": 0}),
        ("a.b", {**ORDER, "a": {"b": 0}}),
        ("a[1].b", {**ORDER, "a": [None, {"b": 0}]}),
        ("items[0].sku", {**ORDER, "items": [{"sku": 0}, ORDER["items"][1]]}),
        ("items[1].tax.rate", {**ORDER, "items": [ORDER["items"][0], {"sku": "B", "tax": {"rate": 0}}]}),
        ("items[3]", {**ORDER, "items": [*ORDER["items"], None, 0]}),
    ],
)
def test_what_a_path_writes(text: str, expected: Any) -> None:
    assert put(ORDER, parse(text), 0) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id.x", "id.x cannot be written: id is a number"),
        ("items.sku", "items.sku cannot be written: items is a list"),
        ("items[0].sku[1].x", "items[0].sku[1].x cannot be written: items[0].sku is text"),
        ("[0]", "[0] cannot be written: the document is an object"),
    ],
)
def test_what_is_in_the_way_is_not_lost(text: str, words: str) -> None:
    with pytest.raises(StepFailed) as raised:
        put(ORDER, parse(text), 0)
    assert str(raised.value) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id", {name: ORDER[name] for name in ("items", "odd key")}),
        ("items[0]", {**ORDER, "items": [ORDER["items"][1]]}),
        ("items[1].tax", {**ORDER, "items": [{"sku": "A"}, {"sku": "B"}]}),
        ("items[7].tax", ORDER),
        ("id.x", ORDER),
    ],
)
def test_what_a_path_takes_away(text: str, expected: Any) -> None:
    assert without(ORDER, parse(text)) == expected


KEYS = st.sampled_from(["a", "b", "odd key", "$c"])
PARTS = st.lists(KEYS | st.integers(0, 3), min_size=1, max_size=4)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=12,
    ),
    max_size=4,
)


@given(DOCUMENTS, PARTS, st.integers())
def test_what_is_written_is_read_and_the_old_document_stays(
    document: Any, parts: list[str | int], value: int
) -> None:
    path, before = Path("", tuple(parts)), copy.deepcopy(document)
    try:
        after = put(document, path, value)
    except StepFailed:
        after = None
    assert document == before
    assert after is None or read(after, path) == value


@given(DOCUMENTS, PARTS)
def test_what_is_taken_away_is_gone_and_the_old_document_stays(document: Any, parts: list[str | int]) -> None:
    path, before = Path("", tuple(parts)), copy.deepcopy(document)
    found, after = read(document, path), without(document, path)
    assert document == before
    if found is MISSING:
        assert after is document
    elif isinstance(parts[-1], str):
        assert read(after, path) is MISSING
    else:
        parent = Path("", path.parts[:-1])
        assert len(read(after, parent)) == len(read(document, parent)) - 1


@given(PARTS)
def test_a_path_that_is_written_out_in_brackets_is_read_alike(parts: list[str | int]) -> None:
    text = "".join(f"[{one}]" if isinstance(one, int) else f'["{one}"]' for one in parts)
    assert parse(text).parts == tuple(parts)


# ── Events ───────────────────────────────────────────────────────────────────────────────────


def test_an_event_is_read_by_the_wires_names() -> None:
    event = an_event(userId="u-1", properties={"price": 1})
    assert read_event(event, parse("userId")) == "u-1"
    assert read_event(event, parse("properties.price")) == 1
    assert read_event(event, parse("groupId")) is MISSING
    assert read_event(event, parse("user_id")) is MISSING


def test_an_event_is_written_without_touching_what_the_log_shares() -> None:
    logged = an_event(properties={"cart": {"price": 1}})
    event = msgspec.structs.replace(logged)
    put_event(event, parse("properties.cart.price"), 2)
    put_event(event, parse("userId"), "u-1")
    put_event(event, parse("context.page.url"), "https://a.example/")
    assert logged == an_event(properties={"cart": {"price": 1}})
    assert event == an_event(
        properties={"cart": {"price": 2}}, userId="u-1", context={"page": {"url": "https://a.example/"}}
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("properties", 3),
        ("userId", 7),
        ("userId.x", 7),
        ("type", "buy"),
        ("messageId", None),
        ("vendorIds.ga4_client_id", 5),
        ("nothing", 1),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(text: str, value: Any) -> None:
    event = an_event()
    with pytest.raises(StepFailed, match=text.partition(".")[0]):
        put_event(event, parse(text), value)
    assert event == an_event()


def test_fields_of_an_event_are_taken_away() -> None:
    event = an_event(userId="u-1", properties={"a": 1, "b": 2}, traits={"c": 3})
    for text in ("userId", "properties.a", "traits", "context.nothing"):
        remove_event(event, parse(text))
    assert event == an_event(properties={"b": 2})
    with pytest.raises(StepFailed, match="messageId"):
        remove_event(event, parse("messageId"))

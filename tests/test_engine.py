"""The steps of a revision: what each does, what becomes of errors, and that a run can always be repeated."""

from __future__ import annotations

import copy
import re
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.configuration import Attachment
from datafly_lite.engine import Draft, Engine, Moment, Ran, compile_engine
from datafly_lite.engine_fields import MOST_FIELDS
from datafly_lite.errors import AdminError
from datafly_lite.events import Event, encode_event
from kit import RecordingVendor
from outbox_kit import delivering, outbox
from path_kit import ATTACHMENT, PIPELINE, open_path

MOMENT = Moment(1_772_359_201_000, "m-1")
ORDER = {
    "order_id": "O-1",
    "revenue": 40.5,
    "price": "12.50",
    "cents": 4050,
    "products": [{"sku": "A", "price": 20.25}, {"sku": "B", "price": 20.25}],
}


def an_event(**fields: Any) -> Event:
    given = {
        "type": "track",
        "event": "Order Completed",
        "messageId": "m-1",
        "timestamp": "2026-03-01T10:00:00.000Z",
        "receivedAt": "2026-03-01T10:00:01.000Z",
        "userId": "u-1",
        "properties": ORDER,
        **fields,
    }
    return msgspec.convert(given, Event)


def run(engine: Engine, event: Event | None = None) -> tuple[Draft, list[Ran]]:
    draft = Draft(msgspec.structs.replace(event or an_event()))
    return draft, list(engine.run(draft, MOMENT))


def through(*steps: dict[str, Any], event: Event | None = None) -> tuple[Draft, list[Ran]]:
    return run(compile_engine(steps, {}), event)


def payload(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    draft, ran = through(*steps, event=an_event(**fields))
    assert [one for one in ran if one.outcome not in ("ok", "changed")] == []
    return draft.payload


def outcome(*steps: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Of the last step that ran."""
    last = through(*steps, event=an_event(**fields))[1][-1]
    return last.outcome, last.detail


def scripted(body: str) -> dict[str, Any]:
    return {"type": "custom_js", "code": f"function process(event, context) {{\n{body}\n}}"}


def problems(steps: list[Any], events: dict[str, Any] | None = None) -> dict[str, str]:
    with pytest.raises(AdminError) as raised:
        compile_engine(steps, events or {})
    assert raised.value.code == "VALIDATION_ERROR"
    return {one["field"]: one["message"] for one in raised.value.details}


# ── The steps ────────────────────────────────────────────────────────────────────────────────


def test_the_documented_example_of_the_product() -> None:
    steps = (
        {
            "type": "filter",
            "condition": "event.type = 'track' AND event.event IN ('Order Completed','Checkout Started')",
            "on_error": "skip",
        },
        {
            "type": "map",
            "mappings": {
                "client_id": "event.vendorIds.ga4_client_id",
                "user_id": "event.userId",
                "events[0].name": "'purchase'",
                "events[0].params.value": "event.properties.revenue",
            },
            "on_missing": "skip",
        },
        {"type": "enrich", "fields": {"events[0].params.engagement_time_msec": 100}},
        {
            "type": "compute",
            "fields": {
                "events[0].params.value": {
                    "expression": "COALESCE(event.properties.revenue, 0)",
                    "type": "number",
                }
            },
        },
    )
    draft, ran = through(*steps)
    assert draft.payload == {
        "user_id": "u-1",
        "events": [{"name": "purchase", "params": {"value": 40.5, "engagement_time_msec": 100}}],
    }
    assert [(one.name, one.outcome) for one in ran] == [
        ("1_filter", "ok"),
        ("2_map", "changed"),
        ("3_enrich", "changed"),
        ("4_compute", "ok"),
    ]
    assert draft.event == an_event()
    assert not draft.replaces


def test_a_filter_drops_what_its_condition_is_not_true_for_and_nothing_runs_after_it() -> None:
    later = {"type": "enrich", "fields": {"a": 1}}
    for condition in ("type = 'page'", "properties.nothing", "FALSE"):
        draft, ran = through({"type": "filter", "condition": condition}, later)
        assert [(one.name, one.outcome) for one in ran] == [("1_filter", "drop")]
        assert draft.payload == {}


def test_what_builds_the_payload_and_what_changes_the_event() -> None:
    before = an_event()
    steps = {
        "type": "map",
        "mappings": {"properties.id": "properties.order_id", "event.properties.id": "properties.order_id"},
    }
    draft, _ = through(steps, event=before)
    assert draft.payload == {"properties": {"id": "O-1"}}
    assert draft.event.properties == {**ORDER, "id": "O-1"}
    assert before == an_event()


def test_a_later_step_sees_what_an_earlier_one_built_and_changed() -> None:
    assert payload(
        {"type": "enrich", "fields": {"event.properties.price": 5, "tax": 2}},
        {"type": "compute", "fields": {"total": "properties.price + payload.tax"}},
        {"type": "map", "mappings": {"copy": "payload.total", "again": "payload.copy"}},
    ) == {"tax": 2, "total": 7, "copy": 7, "again": 7}


def test_map_can_replace_the_whole_body() -> None:
    replacing = {"type": "map", "mappings": {"id": "properties.order_id"}, "mode": "replace"}
    draft, _ = through(replacing, {"type": "enrich", "fields": {"more": 1}})
    assert (draft.replaces, draft.payload) == (True, {"id": "O-1", "more": 1})


def test_transform_changes_what_is_there() -> None:
    steps = {
        "type": "transform",
        "fields": {
            "event.properties.cents": "value / 100",
            "event.properties.nothing": "1",
            "name": "UPPER(value)",
        },
    }
    draft, ran = through({"type": "enrich", "fields": {"name": "mug"}}, steps)
    assert draft.event.properties == {**ORDER, "cents": 40.5}
    assert draft.payload == {"name": "MUG"}
    assert [one.outcome for one in ran] == ["changed", "changed"]


def test_enrich_takes_any_json_and_shares_it_with_nobody() -> None:
    tags = {"a": [1, {"b": None}], "c": True}
    engine = compile_engine(
        [{"type": "enrich", "fields": {"x": tags}}, {"type": "enrich", "fields": {"x.a[0]": 2}}], {}
    )
    assert run(engine)[0].payload == run(engine)[0].payload == {"x": {"a": [2, {"b": None}], "c": True}}
    assert tags == {"a": [1, {"b": None}], "c": True}


@pytest.mark.parametrize(
    ("expression", "wanted", "expected"),
    [
        ("properties.cents", "string", "4050"),
        ("properties.price", "number", 12.5),
        ("properties.revenue", "integer", 41),
        ("'yes'", "boolean", True),
        ("properties.products", "array", ORDER["products"]),
        ("FIRST(properties.products)", "object", {"sku": "A", "price": 20.25}),
        ("properties.price", None, "12.50"),
    ],
)
def test_a_computed_value_becomes_its_type(expression: str, wanted: str | None, expected: Any) -> None:
    given = {"expression": expression, "type": wanted}
    assert payload({"type": "compute", "fields": {"x": given}}) == {"x": expected}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [("'many'", "number"), ("'maybe'", "boolean"), ("userId", "array"), ("properties.products", "object")],
)
def test_a_value_that_cannot_become_its_type_fails(expression: str, wanted: str) -> None:
    given = {"expression": expression, "type": wanted}
    found = outcome({"type": "compute", "fields": {"x.y": given}})
    assert found[0] == "fail"
    assert "step 1 (compute): x.y: " in found[1]


@pytest.mark.parametrize("kind", ["map", "compute", "transform"])
@pytest.mark.parametrize(
    ("on_missing", "expected"),
    [(None, "ok"), ("skip", "ok"), ("null", "changed"), ("drop", "drop"), ("fail", "fail")],
)
def test_what_is_missing(kind: str, on_missing: str | None, expected: str) -> None:
    fields = {"x": "properties.nothing"}
    step = {"type": kind, ("mappings" if kind == "map" else "fields"): fields}
    draft, ran = through({**step, "on_missing": on_missing} if on_missing else step)
    assert ran[-1].outcome == expected
    assert draft.payload == ({"x": None} if on_missing == "null" else {})
    assert expected not in ("drop", "fail") or "x: nothing is there" in ran[-1].detail


@pytest.mark.parametrize(
    ("on_missing", "expected", "left"),
    [
        (None, "ok", ORDER),
        ("skip", "ok", ORDER),
        ("null", "changed", {**ORDER, "price": None}),
        ("drop", "drop", ORDER),
        ("fail", "fail", ORDER),
    ],
)
@pytest.mark.parametrize("expression", ["properties.nothing", "NULLIF(value, value)", "value || NULL"])
def test_what_a_transform_makes_null_is_missing_too(
    expression: str, on_missing: str | None, expected: str, left: dict[str, Any]
) -> None:
    step = {"type": "transform", "fields": {"event.properties.price": expression}}
    draft, ran = through({**step, "on_missing": on_missing} if on_missing else step)
    assert ran[-1].outcome == expected
    assert draft.event.properties == left


TIMES = ("timestamp", "originalTimestamp", "sentAt")


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize(
    "text", ["yesterday", "", "1772359201000", "2026-03-01T10:00:00", "2026-13-01T10:00:00Z"]
)
def test_a_time_of_an_event_is_one_or_the_step_fails(field: str, text: str) -> None:
    for step in (
        {"type": "enrich", "fields": {f"event.{field}": text}},
        {"type": "compute", "fields": {f"event.{field}": "properties.at"}},
        scripted(f"event.{field} = event.properties.at; return event;"),
    ):
        found = outcome(step, properties={"at": text})
        assert found[0] == "fail"
        assert f"{field} needs a time" in found[1]


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize("text", ["2026-03-02T10:00:00.000Z", "2026-03-02T10:00:00+02:00"])
def test_a_time_of_an_event_can_be_set(field: str, text: str) -> None:
    for step in (
        {"type": "enrich", "fields": {f"event.{field}": text}},
        scripted(f"event.{field} = event.properties.at; return event;"),
    ):
        draft, _ = through(step, event=an_event(properties={"at": text}))
        assert msgspec.to_builtins(draft.event)[field] == text


def test_what_a_client_wrote_for_a_time_stands_in_no_steps_way() -> None:
    wrote = {"originalTimestamp": "last week", "sentAt": "now"}
    steps = (
        {"type": "transform", "fields": {"event.sentAt": "value"}},
        scripted("event.traits.a = 1; return event;"),
    )
    draft, ran = through(*steps, event=an_event(**wrote))
    assert draft.event == an_event(**wrote, traits={"a": 1})
    assert [one.outcome for one in ran] == ["ok", "changed"]


# ── Errors ───────────────────────────────────────────────────────────────────────────────────

FAILING: list[dict[str, Any]] = [
    {"type": "filter", "condition": "properties.price > 1 AND properties.price"},
    {"type": "map", "mappings": {"a": "1", "b": "properties.price + 1"}},
    {
        "type": "transform",
        "fields": {"event.properties.revenue": "value / 2", "event.properties.price": "-value"},
    },
    {"type": "enrich", "fields": {"event.properties.a": 1, "event.userId": 7}},
    {"type": "enrich", "fields": {"a": "text", "a.b": 1}},
    {"type": "compute", "fields": {"a": "1", "b": "1 / (properties.cents - 4050)"}},
    {"type": "custom_js", "code": "function process(event) {\n  throw new Error('no');\n}"},
]


@pytest.mark.parametrize("step", FAILING, ids=lambda step: step["type"])
@pytest.mark.parametrize("on_error", ["skip", "drop", "fail"])
def test_a_failing_step_leaves_nothing_half_done(step: dict[str, Any], on_error: str) -> None:
    if step["type"] == "filter":
        step = {**step, "condition": "properties.price"}
    later = {"type": "enrich", "fields": {"later": 1}}
    draft, ran = through({**step, "on_error": on_error, "name": "My step"}, later)
    assert ran[0].outcome == on_error
    assert ran[0].detail.startswith(f'step 1 ({step["type"]}, "My step"): ')
    assert draft.event == an_event()
    assert draft.payload == ({"later": 1} if on_error == "skip" else {})
    assert len(ran) == (2 if on_error == "skip" else 1)


@pytest.mark.parametrize("step", FAILING[1:], ids=lambda step: step["type"])
def test_nothing_is_dropped_or_sent_half_done_unless_a_user_says_so(step: dict[str, Any]) -> None:
    assert outcome(step)[0] == "fail"


def test_a_filter_that_cannot_be_worked_out_is_passed_over_unless_told() -> None:
    assert outcome({"type": "filter", "condition": "properties.price"})[0] == "skip"


@pytest.mark.parametrize(
    ("step", "fields"),
    [
        ({"type": "filter"}, ["condition"]),
        ({"type": "filter", "condition": 7}, ["condition"]),
        ({"type": "filter", "condition": "type ="}, ["condition"]),
        ({"type": "filter", "condition": "value = 1"}, ["condition"]),
        ({"type": "filter", "condition": "TRUE", "on_error": "panic"}, ["on_error"]),
        ({"type": "filter", "condition": "TRUE", "if": 1}, ["if"]),
        ({"type": "sort"}, ["type"]),
        ({}, ["type"]),
        ({"type": ["map"]}, ["type"]),
        ("map", [""]),
        ({"type": "map", "mappings": {"a": 5, "b": "c"}}, ['mappings["a"]', 'mappings["b"]']),
        ({"type": "map", "mappings": {"event.messageId": "'x'"}}, ['mappings["event.messageId"]']),
        ({"type": "map", "mappings": {"event.type": "'x'"}}, ['mappings["event.type"]']),
        ({"type": "map", "mappings": {"event.revenue": "1"}}, ['mappings["event.revenue"]']),
        ({"type": "map", "mappings": {"payload.a": "1"}}, ['mappings["payload.a"]']),
        ({"type": "map", "mappings": {"[0].a": "1"}}, ['mappings["[0].a"]']),
        ({"type": "map", "mappings": {"a..b": "1"}}, ['mappings["a..b"]']),
        ({"type": "map", "mappings": {}, "mode": "half"}, ["mode"]),
        ({"type": "map", "mappings": {f"a{n}": "1" for n in range(MOST_FIELDS + 1)}}, ["mappings"]),
        ({"type": "enrich", "fields": {"a b": 1}}, ['fields["a b"]']),
        ({"type": "transform", "fields": {"a": "valu"}}, ['fields["a"]']),
        ({"type": "compute", "fields": {"a": {"expression": "1", "type": "money"}}}, ['fields["a"]']),
        ({"type": "compute", "fields": {"a": {"type": "number"}}}, ['fields["a"]']),
        ({"type": "custom_js", "code": "function process("}, ["code"]),
        ({"type": "custom_js", "code": "var a = 1"}, ["code"]),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_used_names_the_field(step: Any, fields: list[str]) -> None:
    good = {"type": "enrich", "fields": {}}
    expected = [f"steps[1].{field}".removesuffix(".") for field in fields]
    assert list(problems([good, step])) == expected


def test_a_problem_says_at_which_character() -> None:
    found = problems([{"type": "filter", "condition": "type = = 1"}])
    assert found["steps[0].condition"].startswith("at character 8: a value ")


def test_all_problems_are_told_at_once() -> None:
    found = problems([{"type": "sort"}, {"type": "filter", "condition": ""}], {"a": 1, "*": {"x": "("}})
    assert list(found) == ["steps[0].type", "steps[1].condition", 'events["a"]', 'events["*"]["x"]']


@pytest.mark.parametrize(
    ("mappings", "words"),
    [
        ({f"copy{number}": "payload" for number in range(60)}, "too large to send"),
        (
            {"a": "properties", **{f"a.copy{number}": "payload.a" for number in range(60)}},
            "too large to send",
        ),
        ({f"event.traits.copy{number}": "traits" for number in range(60)}, "too large to send"),
        ({"a": "JSON_PARSE(REPLACE('[x]', 'x', '" + "[" * 70 + "]" * 70 + "'))"}, "nested deeper"),
    ],
)
def test_what_is_copied_into_itself_does_not_grow_without_end(mappings: dict[str, str], words: str) -> None:
    found = outcome({"type": "map", "mappings": mappings})
    assert found[0] == "fail"
    assert words in found[1]


def test_many_large_values_are_too_much_together() -> None:
    event = an_event(properties={"text": "a" * 60_000})
    steps = [
        {"type": "map", "mappings": {f"{step}{number}": "properties.text" for number in range(9)}}
        for step in "ab"
    ]
    assert [one.outcome for one in through(*steps, event=event)[1]] == ["changed", "fail"]


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["event.userId", "'a'", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["expression", "type", "a", "event.userId", "*", "page", ""]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
ANY_STEPS = st.lists(
    ANY_JSON
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["filter", "map", "transform", "enrich", "compute"])},
        optional=dict.fromkeys(
            ["condition", "mappings", "fields", "on_missing", "mode", "name", "on_error"], ANY_JSON
        ),
    ),
    max_size=3,
)


@given(
    ANY_STEPS, st.dictionaries(st.sampled_from(["*", "page", "purchase", "Order Completed", ""]), ANY_JSON)
)
def test_whatever_is_written_runs_or_is_refused_field_by_field(
    steps: list[Any], events: dict[str, Any]
) -> None:
    try:
        engine = compile_engine(steps, events)
    except AdminError as error:
        refused = error.details
    else:
        refused = []
        assert {one.outcome for one in run(engine)[1]} <= {"ok", "changed", "skip", "drop", "fail"}
    assert all(one["field"].startswith(("steps", "events")) and one["message"] for one in refused)


# ── Per-event parameters ─────────────────────────────────────────────────────────────────────

SECTIONS: dict[str, Any] = {
    "*": {"common": "'all'", "kind": "'other'"},
    "purchase": {"kind": "'sale'", "value": "properties.revenue"},
    "page": {"kind": "'view'"},
    "identify": False,
    "My Own-Event": {"kind": "'own'"},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"event": "Order Completed"}, {"common": "all", "kind": "sale", "value": 40.5}),
        ({"event": "purchase"}, {"common": "all", "kind": "sale", "value": 40.5}),
        ({"event": "Completed Order"}, {"common": "all", "kind": "sale", "value": 40.5}),
        ({"event": "my_own_event"}, {"common": "all", "kind": "own"}),
        ({"event": "Tested"}, {"common": "all", "kind": "other"}),
        ({"type": "page", "event": None, "name": "purchase"}, {"common": "all", "kind": "view"}),
        ({"type": "group", "event": None}, {"common": "all", "kind": "other"}),
    ],
)
def test_the_section_of_an_event_lies_over_that_of_all(
    fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    draft, ran = run(compile_engine([], SECTIONS), an_event(**fields))
    assert draft.payload == expected
    assert [(one.name, one.outcome) for one in ran] == [("events", "changed")]


def test_an_event_that_is_switched_off_is_dropped() -> None:
    _, ran = run(compile_engine([], SECTIONS), an_event(type="identify", event=None))
    assert [(one.outcome, one.detail) for one in ran] == [("drop", "events: identify is not sent")]


@pytest.mark.parametrize("kind", ["page", "screen", "identify", "group", "alias"])
def test_the_section_of_a_type_is_for_no_track_event_of_that_name(kind: str) -> None:
    engine = compile_engine([], {kind: False, "*": {"a": "1"}})
    for name in (kind, kind.upper()):
        draft, ran = run(engine, an_event(event=name))
        assert (ran[-1].outcome, draft.payload) == ("changed", {"a": 1})
    assert run(engine, an_event(type=kind, event=None))[1][-1].outcome == "drop"


def test_with_all_switched_off_the_named_ones_are_sent() -> None:
    engine = compile_engine([], {"*": False, "purchase": {"a": "1"}, "page": {}})
    assert run(engine)[0].payload == {"a": 1}
    assert run(engine, an_event(type="page", event=None))[1][0].outcome == "ok"
    assert run(engine, an_event(event="Tested"))[1][0].outcome == "drop"


def test_sections_come_after_the_steps_and_see_what_they_did() -> None:
    steps = [{"type": "enrich", "fields": {"event.event": "Refunded", "a": 1}}]
    draft, ran = run(compile_engine(steps, {"refunded": {"b": "payload.a + 1"}}))
    assert draft.payload == {"a": 1, "b": 2}
    assert [one.name for one in ran] == ["1_enrich", "events"]


def test_two_sections_for_one_event_are_refused() -> None:
    found = problems([], {"purchase": {}, "Order Completed": {}})
    assert found == {'events["Order Completed"]': 'means the same event as "purchase"'}


# ── JavaScript ───────────────────────────────────────────────────────────────────────────────


def test_a_script_changes_the_event_and_is_told_where_it_runs() -> None:
    context = {"integration": {"name": "Hook"}, "pipeline": {"id": "pip_1"}}
    step = scripted("event.traits.seen = [context.integration.name, context.now]; return event;")
    engine = compile_engine([step], {}, context)
    draft, ran = run(engine)
    assert draft.event == an_event(traits={"seen": ["Hook", "2026-03-01T10:00:01.000Z"]})
    assert [(one.name, one.outcome) for one in ran] == [("1_custom_js", "changed")]
    assert engine.has_scripts
    assert not compile_engine([], SECTIONS).has_scripts


def test_a_script_drops_with_null() -> None:
    assert outcome(scripted("return null;")) == ("drop", "step 1 (custom_js): process returned null")


def test_without_scripts_a_run_ends_before_the_first_of_them() -> None:
    before = {"type": "enrich", "fields": {"a": 1}}
    after = {"type": "filter", "condition": "FALSE"}
    engine = compile_engine([before, scripted("return null;"), after], {"*": {"b": "2"}})
    draft = Draft(an_event())
    ran = list(engine.run(draft, MOMENT, with_scripts=False))
    assert [(one.name, one.outcome) for one in ran] == [("1_enrich", "changed")]
    assert draft == Draft(an_event(), {"a": 1})


def test_without_scripts_a_revision_that_has_none_runs_to_its_end() -> None:
    engine = compile_engine([{"type": "enrich", "fields": {"a": 1}}], {"*": False})
    ran = list(engine.run(Draft(an_event()), MOMENT, with_scripts=False))
    assert [one.outcome for one in ran] == ["changed", "drop"]
    assert ran == list(engine.run(Draft(an_event()), MOMENT))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("event.messageId = 'other'; return event;", "messageId, which stays as it is"),
        ("event.type = 'page'; return event;", "type, which stays as it is"),
        ("delete event.receivedAt; return event;", "receivedAt, which stays as it is"),
        ("event.revenue = 1; return event;", "revenue, which no event has"),
        ("event.properties = 7; return event;", "$.properties"),
        ("event.userId = 7; return event;", "$.userId"),
        ("event.vendorIds.a = 1; return event;", "$.vendorIds"),
        ("\n\nnothing.at.all;", "line 4"),
    ],
)
def test_a_script_cannot_break_an_event(body: str, words: str) -> None:
    found = outcome(scripted(body))
    assert found[0] == "fail"
    assert words in found[1]


# ── The same again ───────────────────────────────────────────────────────────────────────────

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
STEPS = st.sampled_from(
    [
        {"type": "filter", "condition": "properties.a IS NOT NULL OR userId IS NULL"},
        {"type": "map", "mappings": {"x.y[1].z": "properties.a", "event.traits.a": "properties.b"}},
        {"type": "map", "mappings": {"x": "properties.b"}, "on_missing": "null", "on_error": "skip"},
        {"type": "transform", "fields": {"event.properties.a": "value + 1"}, "on_error": "skip"},
        {"type": "transform", "fields": {"event.properties.b": "UPPER(value)"}, "on_error": "skip"},
        {"type": "enrich", "fields": {"event.properties.c.d": [1], "t": {"u": 1}}},
        {"type": "compute", "fields": {"n": "NOW()", "h": "SHA256(TO_JSON(properties))"}},
        {"type": "compute", "fields": {"t.s": "TO_JSON(payload)"}, "on_error": "drop"},
    ]
)


@given(st.lists(STEPS, max_size=5), st.dictionaries(st.sampled_from("abc"), VALUES))
def test_the_same_event_gives_the_same_bytes_and_stays_as_it_was(
    steps: list[dict[str, Any]], properties: dict[str, Any]
) -> None:
    event, before = an_event(properties=properties), copy.deepcopy(properties)
    first, first_ran = run(compile_engine(steps, SECTIONS), event)
    again, again_ran = run(compile_engine(copy.deepcopy(steps), SECTIONS), event)
    assert event == an_event(properties=before)
    assert first_ran == again_ran
    assert (encode_event(first.event), msgspec.json.encode(first.payload)) == (
        encode_event(again.event),
        msgspec.json.encode(again.payload),
    )


def test_chance_in_a_script_is_the_events_own() -> None:
    step = scripted("event.traits.dice = [Math.random(), Date.now()]; return event;")
    engine = compile_engine([step], {})
    first, again = run(engine)[0].event, run(engine)[0].event
    other = Draft(an_event())
    assert [one.outcome for one in engine.run(other, Moment(MOMENT.now_ms, "m-2"))] == ["changed"]
    assert first == again
    assert first.traits["dice"][1] == MOMENT.now_ms
    assert other.event.traits["dice"][0] != first.traits["dice"][0]


# ── Where they come from ─────────────────────────────────────────────────────────────────────


def documented() -> dict[str, Any]:
    document = (Path(__file__).parent.parent / "docs" / "expressions.md").read_text(encoding="utf-8")
    found = re.search(r"```json\n(.*?)```", document.split("## Steps of a revision", 1)[1], re.DOTALL)
    assert found is not None
    config: dict[str, Any] = msgspec.json.decode(found[1])
    return config


def test_the_steps_of_the_document_run() -> None:
    config = documented()
    engine = compile_engine(config["steps"], config["events"])
    properties = {**ORDER, "revenue": 4050, "coupon": "may"}
    draft, ran = run(engine, an_event(properties=properties))
    assert [one.outcome for one in ran] == ["ok", *["changed"] * 5]
    assert draft.event.properties == {**properties, "revenue": 40.5, "items": 2}
    assert draft.payload == {
        "user_id": "u-1",
        "non_personalized_ads": True,
        "events": [{"params": {"site": "uk", "coupon": "MAY"}}],
    }
    for name in ("Internal Test", "Product Viewed"):
        assert run(engine, an_event(event=name))[1][-1].outcome == "drop"


@pytest.mark.anyio
async def test_an_attachment_has_its_revisions_steps_with_the_pipelines_parameters(data_dir: Path) -> None:
    steps = [
        {"type": "filter", "condition": "properties.revenue > {{pipeline_param.least}}"},
        {"type": "custom_js", "code": "function process(e, c) { e.traits.c = c; return e; }"},
    ]

    async with open_path(data_dir) as path:

        async def attachment(parameters: dict[str, str]) -> Attachment:
            await path.store.write(configure, {"steps": steps}, parameters)
            await path.configuration.reload()
            return path.configuration.current.attachments[ATTACHMENT]

        first, again = await attachment({"least": "10"}), await attachment({"least": "10"})
        assert first.engine is not None
        assert first.engine is again.engine
        draft, _ = run(first.engine)
        context = draft.event.traits["c"]
        assert context["integration"] == {"id": "tmpl_1", "name": "Hook", "vendor": "webhook"}
        assert context["pipeline"] == {"id": PIPELINE, "name": "Test"}
        broken = await attachment({"least": "'"})
        assert broken.engine is None
        assert broken.engine_error.startswith("steps[0].condition: at character 22: ")
        missing = await attachment({})
        assert "a pipeline parameter is not filled in" in missing.engine_error


def configure(connection: sqlite3.Connection, config: dict[str, Any], parameters: dict[str, str]) -> None:
    connection.execute("UPDATE revisions SET config = ?", (msgspec.json.encode(config).decode(),))
    connection.execute("UPDATE pipelines SET parameters = ?", (msgspec.json.encode(parameters).decode(),))


@pytest.mark.anyio
async def test_steps_decide_what_the_vendor_gets_and_a_failure_is_parked_with_its_words(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    steps = [
        {"type": "filter", "condition": "properties.n > 0"},
        {"type": "compute", "name": "Half", "fields": {"half": "properties.n / (properties.n - 2)"}},
        {"type": "custom_js", "code": "function process(event) { event.traits.seen = true; return event; }"},
    ]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url, steps=steps)
        for number in (0, 2, 4):
            await box.queue([attachment], properties={"n": number})
        async with delivering(box):
            await box.until(attachment, dropped=1, dead=1, delivered=1)
        dropped, dead, delivered = await box.deliveries(attachment)
        errors = [one["error"] for one in await box.attempts() if one["delivery_id"] == dead["id"]]
    assert (dropped["status"], dropped["reason"]) == ("dropped", "filter")
    assert (dead["status"], dead["reason"]) == ("dead", "mapping_failed")
    assert errors == ['step 2 (compute, "Half"): half: a division by zero']
    assert delivered["status"] == "delivered"
    (body,) = [msgspec.json.decode(one.body) for one in vendor.received]
    assert (body["half"], body["traits"], body["properties"]) == (2, {"seen": True}, {"n": 4})

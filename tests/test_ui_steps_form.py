"""Steps and per-event parameters between a revision and the rows, or the JSON, of its form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.engine import compile_engine
from datafly_lite.engine_steps import TYPES
from datafly_lite.ui.forms import MOST_FIELDS, Form, Problems
from datafly_lite.ui.revisions import readable
from datafly_lite.ui.steps_form import (
    AS,
    EVENTS,
    JSON,
    KEYS,
    STEPS,
    default_of,
    pairs_of,
    pressed,
    read,
    steps_config,
)
from datafly_lite.ui.steps_words import EXAMPLES, KINDS, SECTION, around, labels_of

URL = "http://127.0.0.1:8080/"

SIX: list[dict[str, Any]] = [
    {"type": "filter", "condition": "type = 'track' AND event NOT LIKE 'Internal%'", "on_error": "drop"},
    {"type": "transform", "fields": {"event.properties.revenue": "value / 100"}, "on_missing": "null"},
    {"type": "compute", "fields": {"event.properties.n": {"expression": "1 + 1", "type": "string"}}},
    {"type": "map", "name": "Ids", "mappings": {"user.id": "userId", "user.ids[0]": "anonymousId"}},
    {"type": "enrich", "fields": {"site": "uk", "more": {"a": [1, None, True]}, "event.properties.x": 1.5}},
    {"type": "custom_js", "code": "function process(event) {\n  return event;\n}\n"},
]
EVENTS_OF: dict[str, Any] = {
    "*": {"params.site": "'uk'"},
    "purchase": {"params.total": {"expression": "properties.value", "type": "number"}},
    "product_viewed": False,
}


def saved(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a form that nobody touched saves."""
    problems = Problems()
    found = steps_config(Form(pairs_of(config)), problems, {})
    assert not problems
    return found


# ── The form and the configuration ───────────────────────────────────────────────────────────


PLACES = st.sampled_from(["a", "a.b[0]", "event.properties.x", 'a["odd key"]', "{{pipeline_param.x}}"])
TEXTS = st.sampled_from(["userId", "1 +\n 2", "'it''s'", "{{pipeline_param.x}}", " properties.a "])
VALUES = TEXTS | st.fixed_dictionaries(
    {"expression": TEXTS, "type": st.sampled_from(["string", "integer", "array"])}
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
ANY_JSON = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
)
COMMON = {"name": st.text("abc é", min_size=1, max_size=9).map(str.strip).filter(bool)}
ON_MISSING = st.sampled_from(["null", "drop", "fail"])


def step_of(kind: str, own: Mapping[str, Any], **optional: Any) -> Any:
    others = [one for one in ("skip", "drop", "fail") if one != default_of(kind, "on_error")]
    return st.fixed_dictionaries(
        {"type": st.just(kind), **own},
        optional={**COMMON, "on_error": st.sampled_from(others), **optional},
    )


FIELDS = st.dictionaries(PLACES, VALUES, max_size=3)
ANY_STEP = st.one_of(
    step_of("filter", {"condition": TEXTS}),
    step_of("map", {"mappings": FIELDS}, on_missing=ON_MISSING, mode=st.just("replace")),
    step_of("transform", {"fields": FIELDS}, on_missing=ON_MISSING),
    step_of("compute", {"fields": FIELDS}, on_missing=ON_MISSING),
    step_of("enrich", {"fields": st.dictionaries(PLACES, ANY_JSON, max_size=3)}),
    step_of("custom_js", {"code": st.text("ab\n{}", max_size=20)}),
)
SECTIONS = st.dictionaries(st.sampled_from(["*", "purchase", "page", 'odd "name"']), st.just(False) | FIELDS)


@given(st.lists(ANY_STEP, max_size=4), SECTIONS)
def test_a_form_that_nobody_touched_saves_the_steps_that_were_there(
    steps: list[dict[str, Any]], events: dict[str, Any]
) -> None:
    config = {"steps": steps, "events": events}
    assert saved(config) == {name: value for name, value in config.items() if value}


@given(st.lists(ANY_STEP, max_size=4), SECTIONS)
def test_rows_become_json_and_rows_again(steps: list[dict[str, Any]], events: dict[str, Any]) -> None:
    config, problems = {"steps": steps, "events": events}, Problems()
    as_json = pressed(Form([*pairs_of(config), ("do", "write as JSON")]), problems)
    assert as_json is not None
    assert as_json.editor.texts is not None
    sent = [(AS, JSON), *as_json.editor.texts.items()]
    as_rows = pressed(Form([*sent, ("do", "write as rows")]), problems)
    assert as_rows is not None
    assert as_rows.editor == read(Form(pairs_of(config)))
    assert not problems


def test_what_these_tests_write_can_be_run() -> None:
    compile_engine(SIX, EVENTS_OF)
    assert {step["type"] for step in SIX} == set(TYPES)


def test_what_the_page_gives_as_examples_can_be_written() -> None:
    rows = [(kind, one) for kind, one in KINDS.items() if one.to]
    steps = [
        {
            "type": kind,
            KEYS[kind]: {
                one.to_example: json.loads(one.source_example) if kind == "enrich" else one.source_example
            },
        }
        for kind, one in rows
    ]
    assert {kind for kind, _ in rows} == set(KEYS)
    examples = {"type": "transform", "fields": {f"x{n}": one for n, one in enumerate(EXAMPLES)}}
    compile_engine([*steps, examples], {"*": {SECTION.to_example: SECTION.source_example}})


def test_a_revision_without_steps_stays_without() -> None:
    assert saved({}) == {}
    assert saved({"steps": [], "events": {}}) == {}


def test_a_form_that_has_no_fields_for_steps_keeps_them() -> None:
    stored = {"steps": SIX, "events": EVENTS_OF, "url": URL}
    assert steps_config(Form(), Problems(), stored) == {"steps": SIX, "events": EVENTS_OF}


def test_more_than_a_form_holds_is_json() -> None:
    fields = {f"a.b{number}": "userId" for number in range(190)}
    config = {"steps": [{"type": "map", "mappings": fields}, {"type": "map", "mappings": fields}]}
    pairs = pairs_of(config)
    assert len(pairs) < MOST_FIELDS
    assert dict(pairs)[AS] == JSON
    assert saved(config) == config


def test_an_added_row_too_many_makes_json_of_all() -> None:
    steps = [{"type": "enrich", "fields": {f"a{number}": number for number in range(226)}}]
    form = Form([*pairs_of({"steps": steps}), ("do", "config.steps[0].rows add")])
    for _ in range(20):
        press = pressed(form, Problems())
        assert press is not None
        if press.editor.texts is not None:
            break
        pairs = [(AS, "rows"), *_pairs(press.editor.blocks[STEPS])]
        form = Form([*pairs, ("do", "config.steps[0].rows add")])
    assert press is not None
    assert press.editor.texts is not None
    assert press.note
    assert json.loads(press.editor.texts[STEPS]) == steps


def _pairs(blocks: Any) -> Iterator[tuple[str, str]]:
    for number, (own, rows) in enumerate(blocks):
        yield from ((f"{STEPS}[{number}].{column}", one) for column, one in own.items())
        for place, row in enumerate(rows):
            yield from ((f"{STEPS}[{number}].rows[{place}].{column}", one) for column, one in row.items())


@given(st.sampled_from(["up", "down", "remove"]), st.integers(0, 7))
def test_a_step_moves_with_its_rows(verb: str, number: int) -> None:
    press = pressed(Form([*pairs_of({"steps": SIX}), ("do", f"{STEPS} {verb} {number}")]), Problems())
    assert press is not None
    before, after = read(Form(pairs_of({"steps": SIX}))).blocks[STEPS], press.editor.blocks[STEPS]
    if verb == "remove":
        assert after == [one for place, one in enumerate(before) if place != number]
    else:
        assert sorted(map(str, after)) == sorted(map(str, before))
        other = number + (-1 if verb == "up" else 1)
        if number < len(before) and 0 <= other < len(before):
            assert after[other] == before[number]
    assert press.focus in {name for name, _ in _pairs(after)} | {f"{STEPS}.add"}


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_of_step_is_added(kind: str) -> None:
    press = pressed(Form([(AS, "rows"), ("do", f"{STEPS}.{kind} add")]), Problems())
    assert press is not None
    assert [block.own["type"] for block in press.editor.blocks[STEPS]] == [kind]
    assert press.focus in {name for name, _ in _pairs(press.editor.blocks[STEPS])}


@pytest.mark.parametrize("do", ["", "config.steps add 1", "config.other add", "write as XML"])
def test_other_words_are_no_button_of_the_steps(do: str) -> None:
    assert pressed(Form([*pairs_of({"steps": SIX}), ("do", do)]), Problems()) is None


def wrong(pairs: list[tuple[str, str]], name: str, value: str) -> Problems:
    problems = Problems()
    steps_config(Form([*pairs, (name, value)]), problems, {})
    return problems


@pytest.mark.parametrize(
    ("name", "value", "at"),
    [
        ("config.steps[4].rows[0].from", "uk", "config.steps[4].rows[0].from"),
        ("config.steps[4].rows[0].from", '{"a":\n oops}', "config.steps[4].rows[0].from"),
        ("config.steps[4].rows[0].from", "NaN", "config.steps[4].rows[0].from"),
        ("config.steps[4].rows[0].from", "[" * 5000, "config.steps[4].rows[0].from"),
        ("config.steps[3].rows[1].to", "user.id", "config.steps[3].rows[1].to"),
        ("config.events[1].name", "*", "config.events[1].name"),
        ("config.events[1].name", "", "config.events[1].name"),
        ("config.events[1].sent", "no", "config.events[1].name"),
        ("config.events[2].name", "", "config.events[2].name"),
    ],
)
def test_what_rows_cannot_say_is_told_at_the_row(name: str, value: str, at: str) -> None:
    found = wrong(pairs_of({"steps": SIX, "events": EVENTS_OF}), name, value)
    assert [field for field, _ in found.items()] == [at]


def test_a_caret_stands_below_the_place_in_a_text_of_json() -> None:
    form = Form([(AS, JSON), (STEPS, '[\n  {"type": oops}\n]'), (EVENTS, "")])
    problems = Problems()
    steps_config(form, problems, {})
    (message,) = problems.of(STEPS)
    assert "line 2, column 12" in message
    line, caret = around(read(form), problems)["carets"][message].split("\n")
    assert line[caret.index("^") :].startswith("oops")


@given(st.lists(ANY_STEP, max_size=3), SECTIONS)
def test_all_fields_have_a_label(steps: list[dict[str, Any]], events: dict[str, Any]) -> None:
    editor = read(Form(pairs_of({"steps": steps, "events": events})))
    labels = labels_of(editor)
    told = {name for name, _ in pairs_of({"steps": steps, "events": events})} - {AS}
    assert {name for name in told if not name.endswith((".type", ".sent"))} <= set(labels)


@given(st.lists(ANY_STEP, min_size=1, max_size=3), SECTIONS)
def test_lines_to_be_read_have_every_place(steps: list[dict[str, Any]], events: dict[str, Any]) -> None:
    found = readable({"steps": steps, "events": events, "url": URL})
    assert found["url"] == URL
    for number, step in enumerate(steps, 1):
        assert any(line.startswith(f"{number}. ") for line in found["steps"])
        for to in step.get("mappings", step.get("fields", {})):
            assert any(line.strip().startswith(f"{to} ←") for line in found["steps"])
    assert {line for line in found["events"] if not line.startswith(" ")} == {
        f"{name} is not sent" if one is False else name for name, one in events.items()
    }


def test_steps_that_are_older_than_the_rules_can_still_be_seen() -> None:
    config = {"steps": [{"type": "forgotten", "of": [1]}], "events": {"x": 5}}
    assert "forgotten" in "\n".join(readable(config)["steps"])
    assert dict(pairs_of(config))[AS] == JSON
    assert saved(config) == config

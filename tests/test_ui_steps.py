"""The steps and per-event parameters of a revision, as a person writes them, as rows or as JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

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
from kit import Management, Pipeline, RecordingVendor, Server, recording_vendor, send_event, wait_until
from ui_kit import LOOKS, Client, Look, person, running_ui, texts

NUMBERS = itertools.count()
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("ui") / "data"
    with running_ui(data_dir, DATAFLY_DELIVERY_ALLOW_NETWORKS="127.0.0.0/8") as running:
        yield running


@pytest.fixture(scope="module")
def hook() -> Iterator[RecordingVendor]:
    with recording_vendor() as running:
        yield running


@pytest.fixture
def pipeline(management: Management) -> Pipeline:
    return management.create_pipeline("Shop", slug=f"steps-{next(NUMBERS)}")


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


def test_what_the_examples_of_this_file_say_can_be_run() -> None:
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


# ── In a browser ─────────────────────────────────────────────────────────────────────────────


def open_form(page: Page, pipeline: Pipeline, base_url: str) -> None:
    page.goto(f"{base_url}/pipelines/{pipeline.id}/integrations/new?vendor=webhook")
    page.get_by_text("drop, change or add").click()


def attach(page: Page) -> None:
    page.get_by_role("button", name="Attach", exact=True).click()


def latest(management: Management, pipeline: Pipeline) -> Any:
    (attached,) = management.call("GET", f"pipelines/{pipeline.id}/integrations")["data"]
    found = management.call("GET", f"integration-templates/{attached['integration_id']}")
    return found["revision"]["config"]


def test_steps_are_written_saved_and_run(
    server: Server, management: Management, hook: RecordingVendor, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url, role="editor") as visitor:
        page = visitor.page
        open_form(page, pipeline, server.base_url)
        page.get_by_label("Name", exact=True).fill(f"Hook of {pipeline.id}")
        page.get_by_label("URL").fill(hook.url)
        page.get_by_label("Authentication").select_option("bearer")
        page.get_by_label("Token").fill("secret-token-1")
        add = page.get_by_role("group", name="Add a step")
        add.get_by_role("button", name="Map").click()
        expect(page.get_by_label("Write to")).to_be_focused()
        page.keyboard.type("shop.total")
        page.get_by_label("Value", exact=True).fill("properties.total * 2")
        page.get_by_role("button", name="Add a row").click()
        page.get_by_label("Write to").nth(1).fill("event.properties.seen")
        page.get_by_label("Value", exact=True).nth(1).fill("'yes'")
        add.get_by_role("button", name="Filter").click()
        expect(page.get_by_label("Condition")).to_be_focused()
        page.keyboard.type("event = 'Bought'")
        page.get_by_role("button", name="Move step 2 up").click()
        expect(page.get_by_role("heading", level=4, name="1. Filter")).to_be_visible()
        page.get_by_text("values for single events").click()
        page.get_by_role("button", name="Add an event").click()
        expect(page.locator("[name='config.events[0].name']")).to_be_focused()
        page.keyboard.type("page")
        page.locator("[name='config.events[0].sent']").select_option("no")
        expect(page.get_by_label("Token")).to_have_value("secret-token-1")
        attach(page)
        expect(page.locator(".notice")).to_contain_text("attached")
        page.get_by_text("Its own steps").click()
        expect(page.locator("pre.listing").first).to_contain_text("shop.total ← properties.total * 2")

        send_event(server, pipeline.key, {"type": "track", "event": "Left"})
        send_event(server, pipeline.key, {"type": "track", "event": "Bought", "properties": {"total": 21}})
        wait_until(lambda: bool(hook.received), "the event at the hook")
    assert latest(management, pipeline)["steps"] == [
        {"type": "filter", "condition": "event = 'Bought'"},
        {"type": "map", "mappings": {"shop.total": "properties.total * 2", "event.properties.seen": "'yes'"}},
    ]
    assert latest(management, pipeline)["events"] == {"page": False}
    body = json.loads(hook.received[-1].body)
    assert (body["event"], body["shop"]["total"], body["properties"]["seen"]) == ("Bought", 42, "yes")


def test_a_change_keeps_what_nobody_touched_and_says_what_it_changed(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser
) -> None:
    name = f"Hook of {pipeline.id}"
    config = {
        "url": URL,
        "authentication": "bearer",
        "auth_token": "secret-token-2",
        "steps": SIX,
        "events": EVENTS_OF,
    }
    management.attach(pipeline.id, "webhook", config, name=name)
    before = latest(management, pipeline)
    with person(browser, server.base_url, role="editor") as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations")
        page.get_by_role("link", name=f"Settings of {name}").click()
        expect(page.locator("li.step")).to_have_count(len(SIX) + len(EVENTS_OF))
        page.get_by_label("Condition").fill("type = 'page'")
        page.get_by_role("button", name="Remove step 6").click()
        expect(page.locator("li.step")).to_have_count(len(SIX) + len(EVENTS_OF) - 1)
        page.get_by_role("button", name="Save as a new revision").click()
        expect(page.locator(".notice")).to_have_text("Saved.")
        page.get_by_role("link", name=f"Settings of {name}").click()
        page.get_by_text("What earlier revisions changed").click()
        told = page.locator(".revisions li").first
        expect(told).to_contain_text("Revision 2")
        expect(told.locator("ins").first).to_contain_text("type = 'page'")
        expect(told.locator("del").first).to_contain_text("NOT LIKE 'Internal%'")
        assert "secret-token-2" not in page.content()
    after = latest(management, pipeline)
    assert after["steps"] == [{**SIX[0], "condition": "type = 'page'"}, *SIX[1:5]]
    kept = {**before, "steps": after["steps"]}
    assert {name: after[name] for name in before} == kept


def test_buttons_work_without_scripts(server: Server, pipeline: Pipeline) -> None:
    client = Client(server.base_url, "editor")
    path = f"/pipelines/{pipeline.id}/integrations/new"
    typed = {
        "vendor": "webhook",
        "name": "Typed",
        "config.url": "kept",
        "do": "config.steps.map add",
        AS: "rows",
    }
    page = client.post(path, typed)
    text = page.body.decode()
    assert page.status == 200
    assert 'name="config.steps[0].rows[0].to"' in text
    assert 'value="kept"' in text
    assert 'value="Typed"' in text
    assert "Not saved yet" in text
    assert "typed again" in text
    page = client.post(path, {**typed, "do": "write as JSON"})
    assert 'name="config.steps"' in page.body.decode()


def test_mistakes_in_steps_stand_at_their_fields_with_a_caret(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.page
        open_form(page, pipeline, server.base_url)
        page.get_by_label("URL").fill(URL)
        page.get_by_role("button", name="Write all of it as JSON").click()
        page.get_by_label("Steps as JSON").fill(json.dumps(SIX))
        page.get_by_role("button", name="Write all of it as rows").click()
        expect(page.locator("li.step")).to_have_count(len(SIX))
        page.get_by_label("Condition").fill("type = 'track' AND evnt = 'x'")
        page.locator("[name='config.steps[1].rows[0].from']").fill("value / '{{pipeline_param.x}}' /")
        page.locator("[name='config.steps[3].rows[1].to']").fill("event.userid")
        page.locator("[name='config.steps[5].code']").fill("function process(event) {\n  return event;\n")
        attach(page)
        told = [text.partition(":")[0] for text in texts(page, ".problems li")]
        assert told == [
            "Step 1 (Filter), condition",
            "Step 2 (Transform), event.properties.revenue",
            "Step 4 (Map), event.userid, write to",
            "Step 6 (JavaScript), script",
        ]
        pointers = [text.split("\n") for text in texts(page, "step-editor .pointer")]
        assert [line[caret.index("^") :] for line, caret in pointers] == ["evnt = 'x'", "", "userid"]
        expect(page.get_by_label("Condition")).to_have_value("type = 'track' AND evnt = 'x'")
        expect(page.locator(".problem").last).to_contain_text("Line 3")
        visitor.check_layout()
        page.get_by_role("link", name="Step 4 (Map)").click()
        assert page.url.endswith("#f-config.steps[3].rows[1].to")
    assert management.call("GET", f"pipelines/{pipeline.id}/integrations")["data"] == []


def test_enter_in_a_row_saves(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser
) -> None:
    name = f"Hook of {pipeline.id}"
    management.attach(pipeline.id, "webhook", {"url": URL, "steps": SIX}, name=name)
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations")
        page.get_by_role("link", name=f"Settings of {name}").click()
        place = page.locator("[name='config.steps[1].rows[0].to']")
        place.fill("event.properties.other")
        place.press("Enter")
        expect(page.locator(".notice")).to_have_text("Saved.")
    changed = {**SIX[1], "fields": {"event.properties.other": "value / 100"}}
    assert latest(management, pipeline)["steps"] == [SIX[0], changed, *SIX[2:]]


def test_what_is_typed_stays_where_a_button_cannot_work(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.page
        open_form(page, pipeline, server.base_url)
        add = page.get_by_role("group", name="Add a step")
        add.get_by_role("button", name="Filter").click()
        page.get_by_label("Condition").fill("type = 'page'")
        cookies = visitor.context.cookies()
        visitor.context.clear_cookies()
        add.get_by_role("button", name="Map").click()
        expect(page.locator("step-editor [role=alert]")).to_contain_text("still signed in")
        visitor.context.add_cookies([{**one} for one in cookies])  # type: ignore[typeddict-item]
        add.get_by_role("button", name="Map").click()
        expect(page.locator("step-editor [role=alert]")).to_have_count(0)
        expect(page.get_by_label("Condition")).to_have_value("type = 'page'")
        page.get_by_role("button", name="Remove step 2").click()
        page.get_by_role("button", name="Remove step 1").click()
        expect(add.get_by_role("button", name="Filter")).to_be_focused()


def test_mistakes_in_json_name_the_step(server: Server, pipeline: Pipeline) -> None:
    steps = [SIX[0], {"type": "map", "mappings": {"user.id": "userid"}}]
    fields = {"vendor": "webhook", "name": "Json", "config.url": URL, AS: JSON, STEPS: json.dumps(steps)}
    answer = Client(server.base_url).post(
        f"/pipelines/{pipeline.id}/integrations/new", {**fields, EVENTS: "[]"}
    )
    text = answer.body.decode()
    assert answer.status == 422
    assert "Step 2 (Map), user.id: at character 1: there is no field userid" in text
    assert '<pre class="pointer" aria-hidden="true">userid\n^</pre>' in text


def test_a_value_is_checked_while_it_is_typed(server: Server, pipeline: Pipeline, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.page
        open_form(page, pipeline, server.base_url)
        page.get_by_role("group", name="Add a step").get_by_role("button", name="Compute").click()
        area, said = page.get_by_label("Expression"), page.locator("step-editor [role=status]")
        area.fill("{{pipeline_param.rate}} * 2")
        expect(said).to_have_text("Can be read.")
        area.fill("{{pipeline_param.rate}} *")
        expect(said.locator(".problem")).to_contain_text("at character")
        expect(area).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_form_of_steps_is_to_be_read_in_every_look(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser, look: Look
) -> None:
    config = {"url": URL, "steps": SIX, "events": EVENTS_OF}
    management.attach(pipeline.id, "webhook", config, name=f"Hook of {pipeline.id}")
    with person(browser, server.base_url, look=look) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations")
        page.get_by_text("Its own steps").click()
        visitor.check_layout()
        page.get_by_role("link", name="Settings of").click()
        for one in page.locator("details").all():
            one.evaluate("one => { one.open = true }")
        visitor.check_layout()

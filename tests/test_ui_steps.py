"""The steps and per-event parameters of a revision, as a person writes them in a browser."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from datafly_lite.ui.steps_form import AS, EVENTS, JSON, STEPS
from kit import Management, Pipeline, RecordingVendor, Server, recording_vendor, send_event, wait_until
from test_ui_steps_form import EVENTS_OF, SIX, URL
from ui_kit import LOOKS, Client, Look, person, running_ui, texts

NUMBERS = itertools.count()


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

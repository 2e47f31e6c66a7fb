"""A change is tried from its form, in a tab of its own, before it is saved."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from kit import Management, Pipeline, RecordingVendor, Server, recording_vendor, send_event, wait_until
from ui_kit import LOOKS, Client, Look, person, running_ui, texts

TOKEN = "tok-of-the-page-9157"
NUMBERS = itertools.count(1)
LAST, OWN = "Try it on the last 100 events", "Try it on this event"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("ui") / "data"
    with running_ui(data_dir, DATAFLY_DELIVERY_ALLOW_NETWORKS="127.0.0.0/8") as running:
        yield running


@pytest.fixture(scope="module")
def hook() -> Iterator[RecordingVendor]:
    with recording_vendor() as running:
        yield running


class Shop:
    """A pipeline with a webhook, and the events that it was sent."""

    def __init__(self, server: Server, management: Management, hook: RecordingVendor) -> None:
        self.server, self.hook = server, hook
        number = next(NUMBERS)
        self.pipeline: Pipeline = management.create_pipeline("Shop", slug=f"shop-{number}")
        config = {"url": f"{hook.url}{number}", "authentication": "bearer", "auth_token": TOKEN}
        name = f"Hook {number}"
        self.name = name
        self.attachment = management.attach(self.pipeline.id, "webhook", config, name=name)
        self.form = f"/pipelines/{self.pipeline.id}/integrations/{self.attachment}"

    def send(self, *bodies: dict[str, Any]) -> list[str]:
        """Until all are delivered; their messageIds."""
        before = len(self.hook.received)
        ids = [f"m-{next(NUMBERS)}" for _ in bodies]
        for body, message_id in zip(bodies, ids, strict=True):
            event = {"type": "track", "event": "Viewed", "messageId": message_id, **body}
            assert send_event(self.server, self.pipeline.key, event).status == 200
        wait_until(lambda: len(self.hook.received) == before + len(bodies), "the events at the hook")
        return ids


@pytest.fixture
def shop(server: Server, management: Management, hook: RecordingVendor) -> Shop:
    return Shop(server, management, hook)


def tried(page: Page, button: str = LAST) -> Page:
    """The tab that the button opens."""
    with page.expect_popup() as opened:
        page.get_by_role("button", name=button).click()
    opened.value.wait_for_load_state()
    return opened.value


@pytest.mark.parametrize("look", LOOKS)
def test_a_new_header_is_tried_before_it_is_saved(shop: Shop, browser: Browser, look: Look) -> None:
    ids = shop.send({}, {}, {})
    with person(browser, shop.server.base_url, look) as visitor:
        page = visitor.open(shop.form)
        page.get_by_label("Headers").fill("X-Shop: eu")
        visitor.page = tab = tried(page)
        visitor.check_layout()
        assert texts(tab, "section.card h2") == ["3 changed: headers.X-Shop"]
        expect(tab.get_by_role("row").filter(has_text="headers.X-Shop")).to_contain_text("absent")
        expect(tab.locator("main")).to_contain_text("Against revision 1, which the pipeline uses.")
        tab.get_by_text("2 more like this").click()
        expect(tab.locator("summary").filter(has_text=ids[0])).to_be_visible()
        tab.get_by_text("All of it after").first.click()
        visitor.check_layout()
        assert TOKEN not in tab.content()
        # The form is as it was typed, and still to be saved.
        expect(page.get_by_label("Headers")).to_have_value("X-Shop: eu")
        tab.get_by_role("link", name="The event's trace").first.click()
        expect(tab.get_by_role("heading", name="Viewed")).to_be_visible()
        page.get_by_role("button", name="Save as a new revision").click()
        expect(page.get_by_role("listitem").filter(has_text=shop.name)).to_contain_text("revision 2")


def test_a_step_is_tried_before_it_is_saved(shop: Shop, browser: Browser) -> None:
    shop.send(*({"properties": {"value": value}} for value in range(5)))
    with person(browser, shop.server.base_url) as visitor:
        page = visitor.open(shop.form)
        page.locator("summary").filter(has_text="Steps").click()
        page.get_by_role("button", name="Filter", exact=True).click()
        page.locator("[name='config.steps[0].condition']").fill("properties.value >= 3")
        tab = tried(page)
        assert texts(tab, "section.card h2") == ["3 newly dropped by 1_filter (filter)", "2 unchanged"]
        assert texts(tab, ".figures dd") == ["5", "3", "0", "2"]
        page.locator("[name='config.steps[0].condition']").fill("((")
        expect(tried(page).get_by_role("alert")).to_contain_text("is expected")


def test_what_it_says_of_today_is_what_the_vendor_was_sent(shop: Shop, management: Management) -> None:
    shop.send(
        {"properties": {"value": 7}, "anonymousId": "a", "context": {"page": {"url": "https://e.com/"}}}
    )
    sent = shop.hook.received[-1]
    form = management.call("GET", f"pipelines/{shop.pipeline.id}/integrations")["data"][0]
    revision = management.call("GET", f"integration-templates/{form['integration_id']}/revisions/1")
    fields = {"integration_id": form["integration_id"], "config": revision["config"], "last": 1}
    run = management.call("POST", "dry-run", {"pipeline_id": shop.pipeline.id, **fields})
    request = run["events"][0]["before"]["request"]
    assert request["body"].encode() == sent.body
    assert request["url"] == f"{shop.hook.url}{sent.path.lstrip('/')}"
    received = {name.lower(): value for name, value in sent.headers.items()}
    assert received["authorization"] == f"Bearer {TOKEN}"
    shown = {name.lower(): value for name, value in request["headers"].items()}
    for name in shown.keys() - {"authorization", "webhook-timestamp"}:
        assert received[name] == shown[name]


def test_a_pipeline_without_events_offers_one_to_edit(shop: Shop, browser: Browser) -> None:
    with person(browser, shop.server.base_url) as visitor:
        page = visitor.open(shop.form)
        expect(page.get_by_role("button", name=LAST)).to_have_count(0)
        expect(page.get_by_text("This pipeline has no events yet.")).to_be_visible()
        event = json.loads(page.get_by_label("Event", exact=True).input_value())
        page.get_by_label("Event", exact=True).fill(json.dumps({**event, "event": "Mine"}))
        tab = tried(page, OWN)
        assert texts(tab, "section.card h2") == ["1 unchanged"]
        expect(tab.locator("pre").first).to_contain_text("Mine")
        expect(tab.get_by_role("link", name="The event's trace")).to_have_count(0)


@pytest.mark.parametrize("look", LOOKS)
def test_what_saving_would_refuse_cannot_be_tried(shop: Shop, browser: Browser, look: Look) -> None:
    shop.send({})
    with person(browser, shop.server.base_url, look) as visitor:
        page = visitor.open(shop.form)
        page.get_by_label("URL").fill("https://elsewhere.example/")
        visitor.page = tab = tried(page)
        expect(tab.get_by_role("alert")).to_contain_text("Bearer token: the address changed")
        visitor.check_layout()
        page.get_by_text("Try it on an event of your own").click()
        page.get_by_label("Event", exact=True).fill('{"type": ')
        alert = tried(page, OWN).get_by_role("alert")
        expect(alert).not_to_contain_text("saving")
        expect(alert).to_contain_text("An event of your own: is not JSON: line 1, column 10")


def test_a_new_integration_is_tried_before_there_is_one(shop: Shop, browser: Browser) -> None:
    shop.send({})
    with person(browser, shop.server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{shop.pipeline.id}/integrations/new?vendor=webhook")
        page.get_by_label("URL").fill(f"{shop.hook.url}new")
        tab = tried(page)
        assert texts(tab, "section.card h2") == ["1 would be sent"]
        expect(tab.locator("main")).to_contain_text("not on this pipeline")


def test_enter_saves_and_does_not_try(shop: Shop, browser: Browser) -> None:
    with person(browser, shop.server.base_url) as visitor:
        page = visitor.open(shop.form)
        page.get_by_label("What changed").press("Enter")
        expect(page.get_by_role("listitem").filter(has_text=shop.name)).to_contain_text("revision 2")


def test_a_data_layer_is_tried_before_it_is_in_force(shop: Shop, browser: Browser) -> None:
    shop.send({"event": "Internal"}, {"event": "Bought"})
    with person(browser, shop.server.base_url) as visitor:
        page = visitor.open("/data-layer")
        page.get_by_role("button", name="Add a rule").click()
        page.locator("[name='routing_rules[0].condition']").fill("event == 'Internal'")
        tab = tried(page)
        [first, *_] = texts(tab, "section.card h2")
        assert first == "1 newly dropped by route (routing)"
        expect(tab.locator("main")).to_contain_text("Against the defaults, which are in force")
        page.locator("[name='routing_rules[0].condition']").fill("event ==")
        expect(tried(page).get_by_role("alert")).to_contain_text("Rule 1: ")
        page.goto(f"{shop.server.base_url}/data-layer")
        expect(page.locator("[name='routing_rules[0].condition']")).to_have_count(0)


def test_consent_is_tried_before_it_is_in_force(shop: Shop, browser: Browser) -> None:
    shop.send({})
    with person(browser, shop.server.base_url) as visitor:
        tab = tried(visitor.open("/consent-settings"))
        expect(tab.get_by_role("status")).to_contain_text("It changes nothing")


@pytest.mark.parametrize("path", ["/data-layer/dry-run", "/consent-settings/dry-run"])
def test_only_who_may_edit_may_try(shop: Shop, path: str) -> None:
    for target in (path, f"{shop.form}/dry-run"):
        assert Client(shop.server.base_url, "viewer").post(target, {"try": "last"}).status == 403
        assert (
            Client(shop.server.base_url, "owner").post(target, {}, sec_fetch_site="cross-site").status == 403
        )


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (f'{{"a": {"9" * 5_000}}}', "olds a number that loses digits"),
        (r'{"type": "track", "event": "\ud800"}', "olds half a character"),
        (r'[{"\udfff": 1}]', "olds half a character"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "olds a number that loses digits"),
        ("7", "must be an object"),
    ],
)
def test_an_event_that_cannot_be_one_is_said_at_its_field(shop: Shop, event: str, message: str) -> None:
    page = Client(shop.server.base_url).post(
        "/consent-settings/dry-run", {"try": "event", "try_event": event}
    )
    assert page.status == 422
    said = page.body.decode()
    assert "An event of your own: " in said
    assert message in said

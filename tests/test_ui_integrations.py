"""Vendors on a pipeline, as a person attaches, changes and detaches them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from datafly_lite.ui.forms import Form, Problems
from datafly_lite.ui.vendor_form import config_of, form_of
from datafly_lite.vendors import VENDORS, Vendor
from datafly_lite.vendors.declaration import MASK
from kit import (
    Management,
    Pipeline,
    RecordingVendor,
    Server,
    VendorAnswer,
    recording_vendor,
    send_event,
    wait_until,
)
from ui_kit import Client, person, running_ui, texts

SIGNING_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NUMBERS = itertools.count()
EVENT = {"type": "track", "event": "Signed Up"}


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
    return management.create_pipeline("Shop", slug=f"shop-{next(NUMBERS)}")


def attach_webhook(page: Page, url: str, name: str) -> None:
    page.get_by_role("link", name="Attach Webhook").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("URL").fill(url)
    page.get_by_role("button", name="Attach", exact=True).click()


def test_a_webhook_is_attached_changed_and_detached(
    server: Server, hook: RecordingVendor, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations")
        expect(page.get_by_text("go nowhere yet")).to_be_visible()
        attach_webhook(page, f"{hook.url}here", "My hook")
        card = page.get_by_role("listitem").filter(has_text="My hook")
        expect(card.get_by_text("live")).to_be_visible()
        send_event(server, pipeline.key, EVENT)
        wait_until(lambda: len(hook.received) == 1, "the event at the hook")

        for button, state in (("Pause", "paused"), ("Shadow", "shadow"), ("Set live", "live")):
            card.get_by_role("button", name=button).click()
            expect(card.locator(".badge")).to_contain_text(state)
        card.get_by_role("button", name="Disable").click()
        expect(card).to_contain_text("New events do not go to it.")
        card.get_by_role("button", name="Enable").click()

        card.get_by_role("link", name="Settings").click()
        page.get_by_label("URL").fill(f"{hook.url}there")
        page.get_by_role("button", name="Save as a new revision").click()
        expect(card).to_contain_text("revision 2")
        send_event(server, pipeline.key, EVENT)
        wait_until(lambda: len(hook.received) == 2, "the event at the new address")
        assert [one.path for one in hook.received] == ["/here", "/there"]

        card.get_by_role("link", name="Detach").click()
        page.get_by_role("button", name="Detach the integration").click()
        expect(page.get_by_text("go nowhere yet")).to_be_visible()
        page.get_by_label("Or one that exists already").select_option(label="My hook (Webhook)")
        page.get_by_role("button", name="Attach it").click()
        expect(card).to_contain_text("revision 2")


def test_a_card_says_how_its_deliveries_go(
    server: Server, management: Management, hook: RecordingVendor, pipeline: Pipeline, browser: Browser
) -> None:
    name = f"Hook of {pipeline.id}"
    # With nothing to wait for, the second attempt may come before anybody has seen the first one fail.
    hook.answers = [VendorAnswer(503, headers={"Retry-After": "6"}), VendorAnswer(400)]
    before = len(hook.received)
    management.attach(pipeline.id, "webhook", {"url": hook.url}, name=name)
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations")
        card = page.get_by_role("listitem").filter(has_text=name)
        expect(card).to_contain_text("0 wait, 0 dead letters")
        expect(card.locator(".badge.ok")).to_contain_text("live")

        send_event(server, pipeline.key, EVENT)
        failed = "The last attempt failed: HTTP 503"
        shown = Client(server.base_url)
        wait_until(lambda: failed in shown.get(page_path(page)).body.decode(), "a failure on the card")
        page.reload()
        expect(card).to_contain_text(failed)
        expect(card.locator(".badge.bad")).to_contain_text("failing")
        expect(card.locator(".badge.ok")).to_have_count(0)
        visitor.check_layout()

        wait_until(lambda: len(hook.received) == before + 2, "the second attempt")
        wait_until(lambda: "1 dead letter" in shown.get(page_path(page)).body.decode(), "the dead letter")
        page.reload()
        expect(card).to_contain_text("0 wait, 1 dead letter")
        expect(card).to_contain_text("The last attempt failed: HTTP 400")

        card.get_by_role("button", name="Pause").click()
        card.get_by_role("link", name="1 dead letter").click()
        page.get_by_role("button", name="Replay all").click()
        expect(page.get_by_role("status")).to_have_text(
            "1 delivery was queued again. It waits until the integration is enabled and live: "
            "it is paused or disabled now."
        )
        page.goto(f"{server.base_url}/pipelines/{pipeline.id}/integrations")
        expect(card).to_contain_text("1 waits, 0 dead letters")
        card.get_by_role("button", name="Set live").click()
        wait_until(lambda: "0 wait, " in shown.get(page_path(page)).body.decode(), "the delivery")
        page.reload()
        expect(card.locator(".badge.ok")).to_contain_text("live")


def page_path(page: Page) -> str:
    return urlsplit(page.url).path


def test_mistakes_stay_beside_their_fields_and_secrets_stay_away(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations/new?vendor=webhook")
        expect(page.get_by_label("Signing secret")).to_be_hidden()
        page.get_by_label("URL").fill("http://169.254.169.254/latest")
        page.get_by_label("Headers").fill("X-Shop: uk\nthis is no header")
        page.get_by_label("Authentication").select_option("hmac")
        page.get_by_label("Signing secret").fill(SIGNING_KEY)
        page.get_by_label("Retries").fill("many")
        page.get_by_label("Name", exact=True).fill("")
        page.get_by_role("button", name="Attach", exact=True).click()
        for label in ("Name", "URL", "Headers", "Retries"):
            exact = label == "Name"
            expect(page.get_by_label(label, exact=exact)).to_have_attribute("aria-invalid", "true")
        told = [text.partition(":")[0] for text in texts(page, ".problems li")]
        assert sorted(told) == ["Headers", "Name", "Retries", "URL"]
        assert page.get_by_label("URL").input_value() == "http://169.254.169.254/latest"
        assert page.get_by_label("Headers").input_value() == "X-Shop: uk\nthis is no header"
        expect(page.get_by_label("Signing secret")).to_have_value("")
        assert SIGNING_KEY not in page.content()
        visitor.check_layout()


def test_a_stored_secret_is_kept_and_never_shown(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    config = {"url": "https://example.com/", "authentication": "hmac", "secret": SIGNING_KEY}
    attachment_id = management.attach(pipeline.id, "webhook", config, name="Signed")
    path = f"/pipelines/{pipeline.id}/integrations/{attachment_id}"
    client = Client(server.base_url)
    page = client.get(path).body.decode()
    assert "One is stored" in page
    assert SIGNING_KEY not in page
    fields = {"config.url": "https://example.com/new", "config.authentication": "hmac", "config.secret": ""}
    assert client.post(path, {**fields, "config.method": "POST"}).status == 303
    attached = management.call("GET", f"pipelines/{pipeline.id}/integrations")["data"][0]
    revisions = management.call("GET", f"integration-templates/{attached['integration_id']}/revisions")
    assert revisions["data"][0]["config"] == {
        "url": "https://example.com/new",
        "method": "POST",
        "authentication": "hmac",
        "secret": MASK,
    }


def test_a_form_keeps_the_secrets_of_the_revision_that_filled_it(
    server: Server, management: Management, hook: RecordingVendor, pipeline: Pipeline, browser: Browser
) -> None:
    config = {"url": f"{hook.url}pinned", "authentication": "bearer", "auth_token": "token-of-1"}
    attachment_id = management.attach(pipeline.id, "webhook", config, name=f"Pinned {pipeline.id}")
    attached = management.call("GET", f"pipelines/{pipeline.id}/integrations")["data"][0]
    newer = {"config": {**config, "auth_token": "token-of-2"}}
    management.call("POST", f"integration-templates/{attached['integration_id']}/revisions", newer)
    before = len(hook.received)
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations/{attachment_id}")
        management.call(
            "PUT",
            f"pipelines/{pipeline.id}/integrations/{attachment_id}",
            {"revision_id": _revision_id(management, attached["integration_id"], 2)},
        )
        page.get_by_label("URL").fill(f"{hook.url}saved")
        page.get_by_role("button", name="Save as a new revision").click()
        expect(page.get_by_text("revision 3")).to_be_visible()
    send_event(server, pipeline.key, EVENT)
    wait_until(lambda: len(hook.received) > before, "the event at the hook")
    sent = hook.received[-1]
    assert (sent.path, sent.headers["Authorization"]) == ("/saved", "Bearer token-of-1")


def _revision_id(management: Management, integration_id: str, number: int) -> str:
    found = management.call("GET", f"integration-templates/{integration_id}/revisions")["data"]
    return str(next(one["id"] for one in found if one["revision_number"] == number))


def test_a_new_address_asks_for_the_secret_at_its_field(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser
) -> None:
    config = {"url": "https://example.com/", "authentication": "bearer", "auth_token": "t0ken"}
    name = f"Moved {pipeline.id}"
    attachment_id = management.attach(pipeline.id, "webhook", config, name=name)
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations/{attachment_id}")
        page.get_by_label("URL").fill("https://example.net/")
        page.get_by_label("Retries").fill("many")
        page.get_by_role("button", name="Save as a new revision").click()
        expect(page.get_by_label("Bearer token")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_role("alert")).to_contain_text("Bearer token: the address changed")
        expect(page.get_by_role("alert")).to_contain_text("Retries: ")
        page.get_by_label("Bearer token").fill("another")
        page.get_by_label("Retries").fill("3")
        page.get_by_role("button", name="Save as a new revision").click()
        expect(page.get_by_role("listitem").filter(has_text=name)).to_contain_text("revision 2")


def test_a_secret_of_an_authentication_that_is_left_is_not_kept(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    config = {"url": "https://example.com/", "authentication": "bearer", "auth_token": "t0ken"}
    attachment_id = management.attach(pipeline.id, "webhook", config, name=f"Left {pipeline.id}")
    fields = {"config.url": "https://example.net/", "config.authentication": "none"}
    path = f"/pipelines/{pipeline.id}/integrations/{attachment_id}"
    assert Client(server.base_url).post(path, fields).status == 303


def test_ga4_is_attached_with_what_it_declares(server: Server, pipeline: Pipeline, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{pipeline.id}/integrations/new?vendor=ga4")
        page.get_by_role("button", name="Attach", exact=True).click()
        for label in ("Measurement ID", "API secret"):
            expect(page.get_by_label(label)).to_have_attribute("aria-invalid", "true")
        assert texts(page, ".problems li") == ["Measurement ID: is required", "API secret: is required"]
        page.get_by_label("Measurement ID").fill("{{pipeline_param.ga4}}")
        page.get_by_label("API secret").fill("s3cret-of-ga4")
        page.get_by_label("Send the visitor's IP address").check()
        page.get_by_role("button", name="Attach", exact=True).click()
        card = page.get_by_role("listitem").filter(has_text="Google Analytics 4 of Shop")
        card.get_by_role("link", name="Settings").click()
        expect(page.get_by_label("Send the visitor's IP address")).to_be_checked()
        expect(page.get_by_label("Measurement ID")).to_have_value("{{pipeline_param.ga4}}")
        assert "s3cret-of-ga4" not in page.content()


@pytest.mark.parametrize("path", ["new?vendor=nobody", "pi_none", "pi_none/detach"])
def test_what_is_not_there_is_not_found(server: Server, pipeline: Pipeline, path: str) -> None:
    assert Client(server.base_url).get(f"/pipelines/{pipeline.id}/integrations/{path}").status == 404


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=list(VENDORS))
def test_a_form_gives_back_the_config_that_filled_it(vendor: Vendor) -> None:
    """Each of the vendor's own examples, its secrets masked as a stored revision has them."""
    secrets = {one.name for one in vendor.settings if one.type == "secret"}
    defaults = {one.name: one.default for one in vendor.settings}
    for example in vendor.examples:
        stored = {name: MASK if name in secrets else value for name, value in example.settings.items()}
        given = config_of(vendor, form_of(vendor, stored), Problems(), stored)
        assert _without(defaults, given) == _without(defaults, stored)


def _without(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if value != defaults.get(name)}


def test_what_the_form_does_not_show_is_kept() -> None:
    vendor, problems = VENDORS["webhook"], Problems()
    steps = [{"type": "filter", "condition": "event.type = 'track'"}]
    stored = {"url": "https://example.com/", "steps": steps, "consent_categories": ["marketing"]}
    given = config_of(vendor, form_of(vendor, stored), problems, stored)
    assert given["steps"] == steps
    assert given["consent_categories"] == ["marketing"]
    emptied = config_of(vendor, Form([("config.url", "https://example.com/")]), problems, stored)
    assert "consent_categories" not in emptied
    assert not problems

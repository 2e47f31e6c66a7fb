"""Webhook sources as a person adds, changes and deletes them, in Chromium."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from kit import Answer, Management, Pipeline, Server, request
from ui_kit import LOOKS, Client, Look, person, running_ui, texts

PLANTED = "whsec_planted-in-the-form-91b2"
PATH = "/webhook-sources"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("ui") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(server: Server, management: Management, browser: Browser) -> Pipeline:
    """Made after a look at the page of somebody who has none."""
    with person(browser, server.base_url) as visitor:
        page = visitor.open(PATH)
        expect(page.get_by_role("link", name="Make the first pipeline")).to_be_visible()
        expect(page.get_by_role("link", name="Add Stripe")).to_have_count(0)
    return management.create_pipeline("Shop")


def post(url: str, body: bytes, **headers: str) -> Answer:
    return request(url, "POST", body, {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_source_is_added_used_changed_and_deleted(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(PATH)
        page.get_by_role("link", name="Add Shopify").click()
        address = page.locator("#url").inner_text()
        assert post(address, b"{}").status == 401
        page.get_by_label("Name", exact=True).fill("Mugs")
        page.get_by_label("Signing secret").fill(PLANTED)
        page.get_by_role("button", name="Add the source").click()
        expect(page.locator(".notice")).to_contain_text("The webhook source is made")
        card = page.get_by_role("listitem").filter(has_text="Mugs")
        expect(card.locator("pre")).to_have_text(address)
        expect(card).to_contain_text("Shopify into Shop")
        assert PLANTED not in page.content()

        body = json.dumps({"id": 7, "customer": {"id": 42}}).encode()
        signature = base64.b64encode(hmac.digest(PLANTED.encode(), body, hashlib.sha256)).decode()
        signed = {"X_Shopify_Hmac_Sha256": signature, "X_Shopify_Topic": "orders/create"}
        assert post(address, body, **signed).json() == {"success": True}

        card.get_by_role("link", name="Settings").click()
        assert PLANTED not in page.content()
        expect(page.get_by_label("Name", exact=True)).to_have_value("Mugs")
        page.get_by_label("Enabled").uncheck()
        page.get_by_role("button", name="Save").click()
        expect(card).to_contain_text("What is posted there is refused.")
        assert post(address, body, **signed).status == 403
        card.get_by_role("link", name="Settings").click()
        page.get_by_label("Enabled").check()
        page.get_by_role("button", name="Save").click()
        assert post(address, body, **signed).status == 200

        card.get_by_role("link", name="Delete").click()
        page.get_by_role("button", name="Delete the webhook source").click()
        expect(page.locator(".notice")).to_contain_text("is deleted")
        expect(card).to_have_count(0)
        assert post(address, body, **signed).status == 401


def test_all_mistakes_are_told_at_once_and_the_address_stays(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"{PATH}/new?type=custom")
        address = page.locator("#url").inner_text()
        page.get_by_label("Header of the signature").fill("not a header")
        page.get_by_label("Event name").fill("$.type[")
        page.get_by_label("Fields").fill("userId = $.a[?match(@.b, 'x')]\nnothing\nuser = $.id")
        page.get_by_role("button", name="Add the source").click()
        told = [text.partition(":")[0] for text in texts(page, ".problems li")]
        assert sorted(told) == [
            *("Event name", "Fields", "Fields", "Header of the signature", "Name", "Signing secret")
        ]
        for label in ("Event name", "Fields", "Header of the signature", "Signing secret"):
            expect(page.get_by_label(label)).to_have_attribute("aria-invalid", "true")
        assert "function match() is not taken" in page.content()
        assert page.locator("#url").inner_text() == address
        expect(page.get_by_label("Event name")).to_have_value("$.type[")
        visitor.check_layout()

        page.get_by_label("Name", exact=True).fill("Forms")
        page.get_by_label("Event name").fill("$.kind")
        page.get_by_label("Fields").fill("userId = $.user\nproperties.plan = 'gold'")
        page.get_by_label("Header of the signature").fill("X-Signature")
        page.get_by_label("Signature", exact=True).select_option("none")
        page.get_by_role("button", name="Add the source").click()
        card = page.get_by_role("listitem").filter(has_text="Forms")
        expect(card).to_contain_text("Unsigned: whoever knows the address can send events.")
        expect(card.locator("pre")).to_have_text(address)
        assert post(address, b'{"kind": "Sent", "user": 5}').status == 200


def test_a_custom_source_gets_a_secret_and_loses_it(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser
) -> None:
    fields = {"pipeline_id": pipeline.id, "name": "Turns", "source_type": "custom"}
    made = management.call("POST", "webhook-sources", fields)
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"{PATH}/{made['id']}")
        expect(page.get_by_label("Signing secret")).to_be_hidden()
        page.get_by_label("Signature", exact=True).select_option("hmac")
        page.get_by_label("Signing secret").fill(PLANTED)
        page.get_by_label("Encoding").select_option("base64")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".notice")).to_have_text("Saved.")
        seen = management.call("GET", f"webhook-sources/{made['id']}")
        assert (seen["signing_secret"], seen["signature_encoding"]) == ("***", "base64")

        page.goto(f"{server.base_url}{PATH}/{made['id']}")
        expect(page.get_by_label("Signing secret")).to_be_visible()
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".notice")).to_have_text("Saved.")
        assert management.call("GET", f"webhook-sources/{made['id']}")["signing_secret"] == "***"

        page.goto(f"{server.base_url}{PATH}/{made['id']}")
        page.get_by_label("Signature", exact=True).select_option("none")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".notice")).to_have_text("Saved.")
        assert management.call("GET", f"webhook-sources/{made['id']}")["signing_secret"] == ""


def test_a_form_without_a_browser(server: Server, management: Management, pipeline: Pipeline) -> None:
    client = Client(server.base_url)
    assert client.get(f"{PATH}/new?type=paypal").status == 404
    assert client.get(f"{PATH}/new").status == 404
    assert client.get(f"{PATH}/wh_nothing").status == 404
    assert client.post(f"{PATH}/new", {"source_type": "paypal"}).status == 404
    before = len(management.call("GET", "webhook-sources?limit=100")["data"])
    fields = {"source_type": "stripe", "name": "Chosen", "pipeline_id": pipeline.id, "signing_secret": "s"}
    assert client.post(f"{PATH}/new", {**fields, "id": "wh_chosen-by-hand"}).status == 303
    made = management.call("GET", "webhook-sources?limit=100")["data"]
    assert len(made) == before + 1
    assert made[-1]["id"] != "wh_chosen-by-hand"
    again = client.post(f"{PATH}/new", {**fields, "id": made[-1]["id"]})
    assert again.status == 422
    assert "Another webhook source has this address" in again.body.decode()
    assert PLANTED not in client.get(PATH).body.decode()


def test_a_viewer_sees_the_addresses_and_nothing_to_press(server: Server, pipeline: Pipeline) -> None:
    page = Client(server.base_url, "viewer").get(PATH).body.decode()
    assert "/v1/webhook?source=wh_" in page
    assert "/webhook-sources/" not in page


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_pages_are_fit_to_be_looked_at(
    server: Server, management: Management, pipeline: Pipeline, browser: Browser, look: Look
) -> None:
    gone = management.create_pipeline("Gone", slug=f"gone-{look.width}-{look.theme}")
    fields = {"name": "y" * 200, "pipeline_id": gone.id, "source_type": "custom", "enabled": False}
    made = management.call("POST", "webhook-sources", fields)
    management.call("DELETE", f"pipelines/{gone.id}")
    with person(browser, server.base_url, look) as visitor:
        page = visitor.open(PATH)
        card = page.get_by_role("listitem").filter(has_text=made["id"])
        expect(card).to_contain_text("a pipeline that is deleted")
        visitor.check_layout()
        for path in ("new?type=custom", "new?type=hubspot", made["id"], f"{made['id']}/delete"):
            visitor.open(f"{PATH}/{path}")
            visitor.check_layout()

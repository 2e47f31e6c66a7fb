"""The trace page and the live list with what people and machines really send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, expect

from datafly_lite.ui.events import correction_s
from kit import Management, RecordingVendor, Server, VendorAnswer, send_event, wait_until
from ui_kit import person, running_ui

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7 * 7 }}",
    "</template></tbody></table><h1>out</h1>",
    "javascript:alert(1)",
    "../../x?y#z%00",
    "田中さんにあげて下さい",
    "\u202etest\u202e",
)
"""Of the list of naughty strings (shared/data/blns.json), one for each way out of a page."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trace") / "data"
    with running_ui(folder, DATAFLY_DELIVERY_ALLOW_NETWORKS="127.0.0.0/8") as running:
        yield running


def event_of(text: str, message_id: str) -> dict[str, Any]:
    return {
        "type": "track",
        "event": text,
        "userId": text,
        "messageId": message_id,
        "timestamp": text,
        "properties": {text: text},
    }


def test_whatever_is_sent_is_shown_as_text(server: Server, browser: Browser) -> None:
    pipeline = Management(server.base_url).create_pipeline("Hostile")
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect(page.locator(".live-state")).to_have_text("Live")
        for number, text in enumerate(HOSTILE):
            assert send_event(server, pipeline.key, event_of(text, f"m/{number} {text}")).status == 200
        names = page.locator("tbody th a")
        expect(names).to_have_count(len(HOSTILE))
        assert set(names.all_text_contents()) == set(HOSTILE)
        live = names.evaluate_all("links => links.map(link => link.href)")
        page.reload()
        assert set(names.all_text_contents()) == set(HOSTILE)
        again = names.evaluate_all("links => links.map(link => link.href)")
        assert set(map(unquote, again)) == set(map(unquote, live))
        for address in live:
            page.goto(address)
            assert page.locator("h1").text_content() in HOSTILE
            visitor.check_layout()


def test_an_event_that_waits_for_a_person_says_so(
    server: Server, browser: Browser, vendor: RecordingVendor
) -> None:
    vendor.answers.append(VendorAnswer(401))
    management = Management(server.base_url)
    pipeline = management.create_pipeline("Waiting")
    management.attach(pipeline.id, "webhook", {"url": vendor.url}, "Refusing hook")
    send_event(server, pipeline.key, event_of("Kept", "kept-1"))
    path = f"/pipelines/{quote(pipeline.id)}/integrations"
    wait_until(lambda: management.call("GET", f"{path[1:]}")["data"][0]["trouble"], "it is paused")
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/live/{pipeline.id}/kept-1")
        delivery = page.get_by_role("region", name="Refusing hook")
        expect(delivery).to_contain_text("it waits until the integration is set live")
        page = visitor.open(path)
        expect(page.get_by_role("main")).to_contain_text("The vendor refused the credentials")
        page.get_by_role("button", name="Set live").click()
        wait_until(lambda: len(vendor.received) == 2, "it is sent again")
        page = visitor.open(f"/live/{pipeline.id}/kept-1")
        expect(delivery).to_contain_text("Attempt 2")
        expect(delivery).to_contain_text("Answer: 200")


def test_there_is_a_page_for_an_event_that_is_not_there(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/live/pip_none/none")
        expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")


@pytest.mark.parametrize(
    ("claimed", "used", "expected"),
    [
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000Z", 0.0),
        ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00.000Z", 0.0),
        ("2026-03-01T10:00:00", "2026-03-01T09:58:29.500Z", -90.5),
        ("not a time", "2026-03-01T10:00:00.000Z", 0.0),
        (None, "2026-03-01T10:00:00.000Z", 0.0),
    ],
)
def test_the_correction_of_a_clock(claimed: str | None, used: str, expected: float) -> None:
    assert correction_s({"originalTimestamp": claimed, "timestamp": used}) == expected

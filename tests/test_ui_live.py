"""The list of events while events arrive, and the dead letters, as a person works with them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from kit import (
    Management,
    Pipeline,
    RecordingVendor,
    Server,
    VendorAnswer,
    recording_vendor,
    request,
    send_event,
    wait_until,
)
from ui_kit import Client, Look, person, running_ui, texts

NUMBERS = itertools.count()
MANY = 55


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("ui") / "data"
    with running_ui(data_dir, DATAFLY_DELIVERY_ALLOW_NETWORKS="127.0.0.0/8") as running:
        yield running


@pytest.fixture
def pipeline(management: Management) -> Pipeline:
    number = next(NUMBERS)
    return management.create_pipeline(f"Shop {number}", slug=f"shop-{number}")


@pytest.fixture
def hook(management: Management, pipeline: Pipeline) -> Iterator[RecordingVendor]:
    """A webhook receiver that the pipeline delivers to."""
    with recording_vendor() as running:
        management.attach(pipeline.id, "webhook", {"url": running.url}, name=f"Hook of {pipeline.id}")
        yield running


def track(server: Server, pipeline: Pipeline, event: str, **fields: Any) -> None:
    sent = send_event(server, pipeline.key, {"type": "track", "event": event, **fields})
    assert sent.status == 200, sent.body


def names(page: Page) -> list[str]:
    return list(texts(page, "tbody th a"))


def expect_live(page: Page) -> None:
    expect(page.locator(".live-state")).to_have_text("Live")


# ── Events ───────────────────────────────────────────────────────────────────────────────────


def test_the_first_event_takes_the_place_of_the_command(
    server: Server, pipeline: Pipeline, hook: RecordingVendor, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect_live(page)
        expect(page.get_by_text("No event matches")).to_be_visible()
        track(server, pipeline, "Signed Up", userId="u-1")
        row = page.get_by_role("row").filter(has_text="Signed Up")
        expect(row).to_contain_text("1 delivered")
        expect(row).to_contain_text("u-1")
        expect(page.get_by_text("No event matches")).to_be_hidden()
        reloaded = row.inner_text()
        page.reload()
        expect_live(page)
        assert row.inner_text() == reloaded
        assert [json.loads(one.body)["event"] for one in hook.received] == ["Signed Up"]


def test_a_page_view_without_a_name_stands_under_its_path(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    """Live and in the list; what is no text, and what is no page view, has no path."""
    views: tuple[dict[str, Any], ...] = (
        {"type": "page", "properties": {"path": "/pricing"}, "context": {"page": {"path": "/other"}}},
        {"type": "page", "context": {"page": {"path": "/context"}}},
        {"type": "page", "name": "Home", "properties": {"path": "/"}},
        {"type": "page", "properties": {"path": {"not": "text"}}},
        {"type": "identify", "userId": "u-1", "context": {"page": {"path": "/form"}}},
    )
    wanted = ["(identify)", "(page)", "Home", "/context", "/pricing"]
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect_live(page)
        for view in views:
            path = "/v1/p" if view["type"] == "page" else "/v1/i"
            assert send_event(server, pipeline.key, view, path).status == 200
        expect(page.locator("tbody th a")).to_have_text(wanted)
        page.reload()
        expect_live(page)
        expect(page.locator("tbody th a")).to_have_text(wanted)
        page.get_by_role("link", name="/pricing").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("/pricing")


def test_a_paused_list_stands_still_and_then_has_everything(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    track(server, pipeline, "First")
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect_live(page)
        page.get_by_role("button", name="Pause").click()
        track(server, pipeline, "Second")
        track(server, pipeline, "Third")
        expect(page.locator(".live-state")).to_have_text("Paused. 2 more since")
        assert names(page) == ["First"]
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("tbody th a")).to_have_text(["Third", "Second", "First"])


def test_filters_stand_in_the_address_and_hold_for_what_arrives(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/live")
        page.get_by_label("Pipeline").select_option(pipeline.id)
        page.get_by_label("User id").fill("wanted & found")
        page.get_by_role("button", name="Apply").click()
        assert "user_id=wanted+%26+found" in page.url
        expect_live(page)
        track(server, pipeline, "Not this", userId="other")
        track(server, pipeline, "This", userId="wanted & found")
        expect(page.locator("tbody th a")).to_have_text(["This"])
        page.get_by_role("link", name="wanted & found").click()
        expect(page.locator("tbody th a")).to_have_text(["This"])
        page.get_by_role("link", name="Clear").click()
        expect(page.get_by_role("link", name="Not this")).to_be_visible()


def test_it_comes_back_after_a_broken_connection(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    sockets: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    with person(browser, server.base_url) as visitor:
        visitor.page.route_web_socket(re.compile("/debug/stream"), through)
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect_live(page)
        sockets[0].send(json.dumps({"missed": 7}))
        expect(page.locator(".live-missed")).to_contain_text("7 frames")
        sockets[0].close(code=1012)
        expect(page.locator(".live-state")).to_contain_text("Trying again in")
        track(server, pipeline, "Meanwhile")
        expect(page.locator("tbody th a")).to_have_text(["Meanwhile"])
        expect_live(page)
        sockets[-1].close(code=1008)
        expect(page.locator(".live-state")).to_contain_text("signed out")


def test_refused_events_are_told_of(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/live")
        expect_live(page)
        assert request(f"{server.base_url}/v1/t", "POST", b"{}").status == 401
        expect(page.locator(".live-refused")).to_contain_text("1 refused")
        expect(page.locator(".live-refused")).to_contain_text("invalid_key")


def test_a_long_list_has_pages_and_needs_no_script(
    server: Server, pipeline: Pipeline, browser: Browser
) -> None:
    for number in range(MANY):
        track(server, pipeline, f"Event {number}")
    wait_until(lambda: str(MANY - 1) in Client(server.base_url).get("/live").body.decode(), "the last event")
    with person(browser, server.base_url, Look(390, "dark"), java_script_enabled=False) as visitor:
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect(page.get_by_role("button", name="Pause")).to_be_hidden()
        assert names(page) == [f"Event {number}" for number in range(MANY - 1, MANY - 51, -1)]
        page.get_by_role("link", name="Older").click()
        expect(page.locator("tbody tr")).to_have_count(MANY - 50)
        assert names(page) == [f"Event {number}" for number in range(MANY - 51, -1, -1)]
        page.get_by_role("link", name="Newest").click()
        page.get_by_role("link", name=f"Event {MANY - 1}").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Event {MANY - 1}")


def test_a_message_id_may_be_anything(server: Server, pipeline: Pipeline, browser: Browser) -> None:
    ids = ["a/b", "a b?c=d&e#f", "%2e%2e", "naïve ☃", "<b>", "a+b", "\\x"]
    for message_id in ids:
        track(server, pipeline, "Same name", messageId=message_id)
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/live?pipeline_id={pipeline.id}")
        expect(page.locator("tbody tr")).to_have_count(len(ids))
        for place, message_id in enumerate(reversed(ids)):
            page.locator("tbody th a").nth(place).click()
            expect(page.locator("#message-id")).to_have_text(message_id)
            page.go_back()


@pytest.mark.parametrize(("path", "status"), [("/live?type=nothing", 422), ("/live?cursor=nonsense", 422)])
def test_a_filter_that_cannot_be_says_so(server: Server, path: str, status: int) -> None:
    answer = Client(server.base_url).get(path)
    assert answer.status == status
    assert b"cannot be used" in answer.body


def test_the_list_as_json_is_for_those_who_are_signed_in(server: Server) -> None:
    json_only = {"accept": "application/json"}
    assert Client(server.base_url, role=None).get("/live/data", **json_only).status == 401
    answer = Client(server.base_url, role="viewer").get("/live/data", **json_only)
    assert set(answer.json()) == {"data", "next_cursor", "has_more"}


# ── Dead letters ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def letters(server: Server, pipeline: Pipeline, hook: RecordingVendor) -> Callable[[], int]:
    """Three deliveries that the vendor refused; how many there still are."""
    hook.answers = [VendorAnswer(400, b"<script>alert(1)</script>")] * 3
    for name in ("One", "Two", "Three"):
        track(server, pipeline, name)

    def count() -> int:
        page = Client(server.base_url).get(f"/dead-letters?pipeline_id={pipeline.id}").body.decode()
        return page.count('name="id"')

    wait_until(lambda: count() == 3, "three dead letters")
    return count


def test_letters_are_replayed_and_discarded(
    server: Server,
    pipeline: Pipeline,
    hook: RecordingVendor,
    letters: Callable[[], int],
    browser: Browser,
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/dead-letters?pipeline_id={pipeline.id}")
        visitor.check_layout()
        page.get_by_role("button", name="Replay selected").click()
        expect(page.get_by_role("status")).to_have_text("Nothing was selected, so nothing was done.")
        page.get_by_role("checkbox", name="Select Two").check()
        page.get_by_role("button", name="Replay selected").click()
        expect(page.get_by_role("status")).to_have_text("1 delivery was queued again.")
        wait_until(lambda: len(hook.received) == 4, "the letter that was sent again")
        sent = [json.loads(one.body)["messageId"] for one in hook.received]
        assert sent[3] in sent[:3]

        page.get_by_role("checkbox", name="Select all on this page").check()
        page.get_by_role("button", name="Discard selected").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Discard dead letters?")
        page.get_by_role("link", name="Cancel").click()
        assert letters() == 2
        page.get_by_role("button", name="Discard all that match").click()
        page.get_by_role("button", name="Discard", exact=True).click()
        expect(page.get_by_role("status")).to_have_text("2 deliveries were discarded.")
        expect(page.get_by_text("No dead letter matches")).to_be_visible()
        assert len(hook.received) == 4


def test_a_viewer_looks_and_changes_nothing(
    server: Server, pipeline: Pipeline, letters: Callable[[], int]
) -> None:
    viewer = Client(server.base_url, role="viewer")
    page = viewer.get(f"/dead-letters?pipeline_id={pipeline.id}").body.decode()
    assert "Three" in page
    assert "<button" not in page.partition("<main")[2].partition("<table")[2]
    for path in ("/dead-letters/replay", "/dead-letters/discard"):
        assert viewer.post(path, {"which": "all", "confirmed": "yes"}).status == 403
    assert letters() == 3


def test_the_vendors_answer_is_text(
    server: Server, pipeline: Pipeline, letters: Callable[[], int], browser: Browser
) -> None:
    assert letters() == 3
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/dead-letters?pipeline_id={pipeline.id}")
        page.get_by_role("link", name="Three").click()
        expect(page.get_by_role("region", name="Hook of")).to_contain_text("<script>alert(1)</script>")
        expect(page.get_by_text("refused by vendor")).to_be_visible()

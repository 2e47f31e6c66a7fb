"""Visitors as a person finds, reads and unlinks them, and the events that could not be processed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import Browser, expect

from datafly_lite.management.schemas_identities import ConsentChangeOfIdentity
from datafly_lite.ui.dlq_events import REASONS, WORDS
from datafly_lite.ui.identities import FEW_ROWS, PAGE_SIZE, choice_changes
from kit import Management, Pipeline, Server, running_server, send_event, wait_until
from ui_kit import LOOKS, Client, Look, person, store_with_users, texts

PATH = "/identities"
SCRIPT = "<script>alert(1)</script>"
TURNED = "\u202egnp.exe"
LONG = "x" * 250
KIOSK = "kiosk/in the hall?#1"
MANY = PAGE_SIZE + 5
LINKS = FEW_ROWS + 30
FAILS = "function process(event) { if (event.event === 'Bad') throw new Error('no price'); return event; }"
FAILED = 27


class Shown(NamedTuple):
    """A server with a crowd of visitors, a shared one with many links, a hostile one, and failed events."""

    server: Server
    pipeline: Pipeline
    management: Management


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("identities") / "data"
    store_with_users(folder)
    with running_server(folder) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline("Shop")
        for number in range(MANY):
            send(server, pipeline, f"m{number}", "t", f"visitor-{number:03}", event="Seen")
        for number in range(LINKS):
            consent = {"marketing": bool(number % 2), LONG[:90]: True}
            identify(server, pipeline, f"k{number}", KIOSK, f"user-{number}", context={"consent": consent})
        group = {"groupId": "acme", "traits": {"name": TURNED, "seats": 5, "tree": {"a": [1, SCRIPT]}}}
        send(server, pipeline, "g1", "g", KIOSK, **group)
        identify(
            server, pipeline, "h1", SCRIPT, f'"><img src=x onerror=alert(1)>{TURNED}', traits={SCRIPT: LONG}
        )
        identify(server, pipeline, "l1", LONG, LONG, traits={"plan": "pro"})
        page = {"url": "https://shop.test/?gclid=Cj0KCQjw_0123456789&fbclid=IwAR0abcdefghij"}
        send(server, pipeline, "c1", "p", LONG, context={"page": page})
        fail(server, management, pipeline)
        wait_until(lambda: processed(management, FAILED + 1), "all are processed")
        yield Shown(server, pipeline, management)


def send(server: Server, pipeline: Pipeline, message_id: str, kind: str, visitor: str, **fields: Any) -> None:
    body = {"messageId": message_id, "anonymousId": visitor, **fields}
    assert send_event(server, pipeline.key, body, f"/v1/{kind}").status == 200


def identify(
    server: Server, pipeline: Pipeline, message_id: str, visitor: str, user: str, **fields: Any
) -> None:
    send(server, pipeline, message_id, "i", visitor, userId=user, **fields)


def fail(server: Server, management: Management, pipeline: Pipeline) -> None:
    """Events that the data layer's script fails on."""
    management.call("PUT", "data-layer", {"config": {"custom_js": {"enabled": True, "code": FAILS}}})
    for number in range(FAILED):
        send(server, pipeline, f"f{number}", "t", "visitor-000", event="Bad", properties={"n": number})
    long = {"text": LONG * 3, "script": SCRIPT, "turned": TURNED}
    send(server, pipeline, "f-long", "t", "visitor-000", event="Bad", properties=long)


def processed(management: Management, failed: int) -> bool:
    """Whether as many failed events are to be seen."""
    return len(management.call("GET", "dlq-events?limit=100")["data"]) == failed


def visitors_of(shown: Shown, user: str) -> list[str]:
    found = shown.management.call("GET", f"identities?user_id={user}")["data"]
    return [one["anonymous_id"] for one in found]


def path_of(visitor: str) -> str:
    return f"{PATH}/{quote(visitor, safe='')}"


# ── The list ─────────────────────────────────────────────────────────────────────────────────


def test_it_is_reached_from_the_navigation_and_begins_with_who_was_there_last(
    shown: Shown, browser: Browser
) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open("/")
        page.get_by_role("navigation", name="Main").get_by_role("link", name="Identities").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Identities")
        assert texts(page, "tbody th")[:4] == [
            "visitor-000",
            LONG[:39] + "…",
            SCRIPT,
            KIOSK,
        ]
        expect(page.get_by_role("link", name="Identities")).to_have_attribute("aria-current", "page")


def test_all_are_gone_through_by_id_and_found_by_each_id(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open(PATH)
        page.get_by_role("link", name="All, by anonymous id").click()
        found = list(texts(page, "tbody th"))
        assert len(found) == PAGE_SIZE
        page.get_by_role("link", name="More").last.click()
        found += texts(page, "tbody th")
        assert len(found) == MANY + 3
        assert [one for one in found if one.startswith("visitor-")] == [
            f"visitor-{number:03}" for number in range(MANY)
        ]
        for label, value in (("User id", f"user-{LINKS - 1}"), ("Anonymous id", KIOSK), ("Group id", "acme")):
            page = visitor.open(PATH)
            page.get_by_label(label).fill(value)
            page.get_by_role("button", name="Find").click()
            assert texts(page, "tbody th") == [KIOSK]
            expect(page.get_by_label(label)).to_have_value(value)
        page.get_by_role("link", name="Clear").click()
        expect(page.get_by_label("Group id")).to_have_value("")


def test_where_nobody_matches_the_page_says_what_an_id_is(shown: Shown) -> None:
    page = Client(shown.server.base_url, "viewer").get(f"{PATH}?user_id=USER-1").body.decode()
    assert "Ids match as a whole" in page


@pytest.mark.parametrize("query", ["cursor=zzz", "cursor=%00", f"user_id={'x' * 1_001}"])
def test_a_filter_that_cannot_be_used_is_said(shown: Shown, query: str) -> None:
    answer = Client(shown.server.base_url).get(f"{PATH}?{query}")
    assert answer.status == 422
    assert "These filters cannot be used." in answer.body.decode()


def test_a_store_that_knows_nobody_says_what_to_do(tmp_path: Path, browser: Browser) -> None:
    store_with_users(tmp_path / "data")
    with running_server(tmp_path / "data") as empty, person(browser, empty.base_url, LOOKS[0]) as visitor:
        page = visitor.open(PATH)
        expect(page.get_by_text("Nobody is known yet.")).to_be_visible()
        expect(page.get_by_role("search")).to_have_count(0)
        visitor.check_layout()
        page = visitor.open("/dlq-events")
        expect(page.get_by_text("every event that was taken could be processed")).to_be_visible()
        visitor.check_layout()
        assert "could not be processed" not in visitor.open("/dead-letters").content()


# ── One visitor ──────────────────────────────────────────────────────────────────────────────


def test_a_visitors_page_tells_who_why_and_since_when(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open(path_of(KIOSK))
        expect(page.get_by_role("heading", level=1)).to_have_text(f"user-{LINKS - 1}")
        links = page.get_by_role("region", name="Links to users, table")
        expect(links.locator("tbody tr")).to_have_count(FEW_ROWS)
        expect(links.locator("tbody tr").first).to_contain_text("now")
        expect(links.get_by_role("link", name=re.compile("Unlink"))).to_have_count(0)
        older = page.get_by_role("region", name="Older links to users")
        expect(older).to_be_hidden()
        page.get_by_text(f"{LINKS - FEW_ROWS} older").last.click()
        expect(older.locator("tbody tr")).to_have_count(LINKS - FEW_ROWS)
        changes = page.get_by_role("region", name="Changes of consent, table")
        expect(changes.locator("tbody tr").first).to_contain_text("marketing: denied → granted")
        expect(page.locator("dl").last).to_contain_text("seats")
        links.get_by_role("link", name="this event").first.click()
        expect(page).to_have_url(re.compile(rf"/live/{shown.pipeline.id}/k{LINKS - 1}$"))
        page = visitor.open(path_of(KIOSK))
        page.get_by_role("link", name="Its events").click()
        expect(page.get_by_label("Anonymous id")).to_have_value(KIOSK)


def test_vendor_ids_stand_with_their_ends(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open(path_of(LONG))
        rows = page.get_by_role("region", name="Vendor ids, table").locator("tbody tr")
        assert texts(page, "[aria-label='Vendor ids, table'] tbody th") == ["fbc", "fbclid", "gclid"]
        expect(rows.last).to_contain_text("Cj0KCQjw_0123456789")


def test_what_strangers_wrote_is_text(shown: Shown, browser: Browser) -> None:
    """`person` fails when a script of it runs: the dialog and the policy's refusal are complaints."""
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(path_of(SCRIPT))
        expect(page.get_by_role("heading", level=1)).to_have_text(
            '"><img src=x onerror=alert(1)>\\u202egnp.exe'
        )
        expect(page.locator("dt", has_text=SCRIPT)).to_have_count(1)
        assert TURNED not in visitor.open(path_of(KIOSK)).locator("dl").last.inner_text()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_pages_fit_and_can_be_read(shown: Shown, browser: Browser, look: Look, tmp_path: Path) -> None:
    paths = (PATH, f"{PATH}?order=id", f"{PATH}?user_id=nobody", path_of(KIOSK), path_of(LONG))
    others = (path_of(SCRIPT), path_of("visitor-001"), f"{path_of(LONG)}/unlink?user_id={LONG}")
    failed = ("/dlq-events", "/dlq-events?reason=schema", "/dlq-events?reason=x", "/dead-letters", "/")
    with person(browser, shown.server.base_url, look) as visitor:
        for number, path in enumerate((*paths, *others, *failed)):
            page = visitor.open(path)
            page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
            visitor.check_layout()
            visitor.shoot(tmp_path, f"{number}")


def test_a_change_of_consent_is_what_is_another_choice() -> None:
    change = ConsentChangeOfIdentity(
        before={"analytics": True, "marketing": True},
        after={"analytics": True, "functional": False},
        cancelled_deliveries=0,
        at="",
        pipeline_id="",
        message_id=None,
    )
    assert choice_changes(change) == [
        ("functional", "unknown", "denied"),
        ("marketing", "granted", "unknown"),
    ]


# ── Undoing a link ───────────────────────────────────────────────────────────────────────────


def test_a_link_is_undone_after_saying_what_that_does(shown: Shown, browser: Browser) -> None:
    identify(shown.server, shown.pipeline, "u1", "to-unlink", "grace/1")
    wait_until(
        lambda: shown.management.call("GET", "identities?user_id=grace/1")["data"], "the visitor is linked"
    )
    with person(browser, shown.server.base_url, role="admin") as visitor:
        page = visitor.open(path_of("to-unlink"))
        page.get_by_role("link", name="Unlink from grace/1").click()
        expect(page.get_by_text("no longer get the user grace/1")).to_be_visible()
        page.get_by_role("link", name="Cancel").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("grace/1")
        page.get_by_role("link", name="Unlink from grace/1").click()
        page.get_by_role("button", name="Undo the link").click()
        expect(page.locator(".notice")).to_have_text("The link is undone.")
        expect(page.get_by_role("heading", level=1)).to_have_text("Unknown visitor")
        expect(page.get_by_role("region", name="Links to users")).to_contain_text("undone")
        expect(page.get_by_role("link", name=re.compile("Unlink"))).to_have_count(0)
        page = visitor.open("/audit-logs?resource_id=to-unlink")
        expect(page.locator(".card h3")).to_have_text("Visitor unlinked from a user")
        page.locator(".card").get_by_role("link", name="to-unlink", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Unknown visitor")


def test_an_earlier_link_says_that_the_present_user_stays(shown: Shown) -> None:
    page = Client(shown.server.base_url, "admin").get(f"{path_of(KIOSK)}/unlink?user_id=user-0")
    assert f"who the visitor is now, user-{LINKS - 1}, stays" in page.body.decode()


def test_what_is_no_link_cannot_be_undone(shown: Shown) -> None:
    client = Client(shown.server.base_url, "admin")
    for path, user in ((path_of(KIOSK), "nobody"), (path_of("nobody"), "user-1")):
        assert client.get(f"{path}/unlink?user_id={user}").status == 404
        assert client.post(f"{path}/unlink", {"user_id": user}).status == 404


def test_an_id_may_end_as_the_page_that_undoes_a_link(shown: Shown) -> None:
    identify(shown.server, shown.pipeline, "un1", "p/unlink", "somebody")
    identify(shown.server, shown.pipeline, "un2", "p", "somebody")
    wait_until(lambda: visitors_of(shown, "somebody") == ["p", "p/unlink"], "both are known")
    client = Client(shown.server.base_url, "admin")
    assert "p/unlink</" in client.get(path_of("p/unlink")).body.decode()
    assert client.post(f"{path_of('p/unlink')}/unlink", {"user_id": "somebody"}).status == 303
    assert visitors_of(shown, "somebody") == ["p"]
    location = Client(shown.server.base_url, None).get(path_of("p/unlink")).headers["Location"]
    assert unquote(location) == f"/login?next={path_of('p/unlink')}"


# ── Events that could not be processed ───────────────────────────────────────────────────────


def test_every_reason_has_words_and_a_sentence() -> None:
    assert set(WORDS.values()) == REASONS.keys()
    assert all(re.fullmatch(r"[A-Z].*[^.]", reason.words) for reason in REASONS.values())
    assert all(re.fullmatch(r"[A-Z].*\.", reason.advice) for reason in REASONS.values())


def test_failed_events_are_told_of_where_deliveries_are_looked_after(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open("/")
        expect(
            page.get_by_text(f"{FAILED + 1} events of the last day could not be processed")
        ).to_be_visible()
        page = visitor.open("/dead-letters")
        page.get_by_role("link", name=f"{FAILED + 1} events").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Failed events")
        page.get_by_role("navigation", name="Main").get_by_text("More", exact=True).click()
        link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Failed events")
        expect(link).to_have_attribute("aria-current", "page")


def test_a_failed_event_says_why_and_shows_what_came(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open("/dlq-events")
        long, short = page.locator(".card").first, page.locator(".card").nth(1)
        expect(short).to_contain_text("no price")
        expect(short).to_contain_text(REASONS["custom_js"].advice)
        expect(short.locator("pre")).to_contain_text('"messageId"')
        expect(long.locator("pre")).to_be_hidden()
        long.get_by_text("What came").click()
        expect(long.locator("pre")).to_contain_text(SCRIPT)
        expect(long.locator("pre")).to_contain_text("\\u202egnp.exe")
        page.get_by_role("link", name="Older").click()
        expect(page.locator(".card")).to_have_count(FAILED + 1 - 25)
        page.get_by_role("link", name="Newest").click()
        page.locator(".card").first.get_by_role("link", name="Bad").click()
        expect(page).to_have_url(re.compile("/f-long$"))
        page = visitor.open("/dlq-events")
        page.get_by_label("Reason").select_option("schema")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("No event matches.")).to_be_visible()

"""The page of refused events, as a person reads it: the reason, what to do, what came, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from playwright.sync_api import Browser, expect

from datafly_lite.clock import system_clock
from datafly_lite.errors import Refused
from datafly_lite.events import Refusal
from datafly_lite.gateway.refusals import Refusals
from datafly_lite.ui.refused_events import PAGE_SIZE, REASONS, words_of
from kit import Management, Server, open_store, running_server
from ui_kit import LOOKS, Client, Look, person, store_with_users, texts

PATH = "/refused-events"
SCRIPT = "<script>alert(1)</script>"
SHORT = {
    "script": SCRIPT,
    "nul": '{"a\x00b": 1}',
    "rtl": "\u202etxt.exe שלום",
    "markup": '"><img src=x onerror=alert(1)>{{ 7*7 }}',
}
LONG = "x" * 4_096
MANY = 2 * PAGE_SIZE + 3


class Shown(NamedTuple):
    """A server with what was refused by three pipelines, and by none."""

    server: Server
    hostile: str
    busy: str
    quiet: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("refused") / "data"
    store_with_users(folder)
    with running_server(folder) as server:
        management = Management(server.base_url)
        ids = [management.create_pipeline(name).id for name in ("Hostile", "Busy", "Quiet")]
    anyio.run(_fill, folder, ids[0], ids[1])
    with running_server(folder) as server:
        yield Shown(server, *ids)


async def _fill(folder: Path, hostile: str, busy: str) -> None:
    async with open_store(folder / "datafly.db") as store:
        refusals = Refusals(store, system_clock)
        for text in (*SHORT.values(), LONG):
            refusals.note(refused("invalid_json", text, hostile, message=SCRIPT, origin=f"https://{LONG}"))
        for number in range(MANY):
            refusals.note(refused("rate_limited", f"busy-{number}.", busy))
        refusals.note(refused("invalid_key", "", None, dialect=None))
        refusals.note(refused("body_too_large", "", None, body_size_bytes=600_000))
        await refusals.flush()


def refused(code: str, text: str, pipeline_id: str | None, **fields: Any) -> Refusal:
    body = text.encode()
    known = {"message": "no", "path": "/v1/t", "dialect": "datafly", "body_size_bytes": len(body)}
    return Refusal(
        code=code, body=body, pipeline_id=pipeline_id, refused_at_ms=system_clock(), **{**known, **fields}
    )


def page_of(shown: Shown, query: str = "", role: str = "viewer") -> str:
    answer = Client(shown.server.base_url, role=role).get(f"{PATH}?{query}")
    assert answer.status == 200
    return answer.body.decode()


def test_every_code_has_words_and_a_sentence() -> None:
    assert REASONS.keys() == Refused.STATUS.keys()
    assert all(re.fullmatch(r"[A-Z].*[^.]", reason.words) for reason in REASONS.values())
    assert all(re.fullmatch(r"[A-Z].*\.", reason.advice) for reason in REASONS.values())
    assert words_of("made_by_another_version") == "made by another version"


def test_it_is_reached_from_the_navigation_and_from_a_pipeline(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="viewer") as visitor:
        page = visitor.open("/")
        expect(page.locator(".figures > div", has_text="Refused")).to_contain_text(f"{MANY + 5 + 2}")
        page.get_by_role("navigation", name="Main").get_by_role("link", name="Refused events").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Refused events")
        expect(page.get_by_role("link", name="Refused events")).to_have_attribute("aria-current", "page")
        page = visitor.open(f"/pipelines/{shown.busy}")
        page.get_by_role("link", name="Its refused events").click()
        expect(page.get_by_label("Pipeline")).to_have_value(shown.busy)
        assert set(texts(page, ".card h3")) == {REASONS["rate_limited"].words}


def test_each_reason_is_said_with_its_number_and_what_to_do(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(PATH)
        reasons = page.get_by_role("region", name="Reasons")
        expect(reasons.get_by_text(REASONS["rate_limited"].advice)).to_be_visible()
        expect(reasons.locator("dl").first).to_contain_text(re.compile(rf"{MANY}\s*·\s*rate_limited"))
        expect(reasons.get_by_text(REASONS["challenge_required"].advice)).to_be_hidden()
        reasons.get_by_text("Other reasons").click()
        expect(reasons.get_by_text(REASONS["challenge_required"].advice)).to_be_visible()
        page.get_by_role("link", name=REASONS["invalid_json"].words).click()
        expect(page.get_by_label("Reason", exact=True)).to_have_value("invalid_json")
        assert set(texts(page, ".card h3")) == {REASONS["invalid_json"].words}


def test_filters_and_pages_are_in_the_address(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(PATH)
        page.get_by_label("Pipeline").select_option(label="Busy")
        page.get_by_label("Reason", exact=True).select_option("rate_limited")
        page.get_by_role("button", name="Apply").click()
        found = texts(page, ".card pre")
        for size in (PAGE_SIZE, MANY - 2 * PAGE_SIZE):
            page.get_by_role("link", name="Older").click()
            expect(page.get_by_label("Pipeline")).to_have_value(shown.busy)
            expect(page.locator(".card")).to_have_count(size)
            found = [*found, *texts(page, ".card pre")]
        assert found == [f"busy-{number}." for number in reversed(range(MANY))]
        expect(page.get_by_role("link", name="Older")).to_have_count(0)
        page.get_by_role("link", name="Newest").click()
        assert texts(page, ".card pre")[0] == f"busy-{MANY - 1}."
        page.get_by_role("link", name="Clear").click()
        expect(page.get_by_label("Pipeline")).to_have_value("")


def test_what_came_without_a_key_can_be_asked_for(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(PATH)
        page.get_by_label("Pipeline").select_option("none")
        page.get_by_role("button", name="Apply").click()
        cards = page.locator(".card")
        expect(cards).to_have_count(2)
        expect(cards.nth(0)).to_contain_text("Of its body, 600,000 bytes, nothing is kept.")
        expect(cards.nth(1)).to_contain_text("It had no body.")
        cards.nth(1).get_by_text("Who sent it").click()
        expect(cards.nth(1)).to_contain_text(re.compile(r"Wire format\s*unknown"))


def test_a_body_is_text_whatever_it_holds(shown: Shown, browser: Browser) -> None:
    """`person` fails when a script of the body runs: the dialog and the policy's refusal are complaints."""
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(f"{PATH}?pipeline_id={shown.hostile}")
        assert texts(page, ".card pre") == [
            LONG,
            SHORT["markup"],
            "\\u202etxt.exe שלום",
            '{"a\\u0000b": 1}',
            SCRIPT,
        ]
        assert set(texts(page, ".card > p:first-of-type")) == {SCRIPT}
        folded, short = page.locator(".card").first, page.locator(".card").last
        expect(short.locator("pre")).to_be_visible()
        expect(folded.locator("pre")).to_be_hidden()
        folded.get_by_text("Body, 4,096 bytes").click()
        expect(folded.locator("pre")).to_be_visible()
        visitor.check_layout()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_page_fits_and_can_be_read(shown: Shown, browser: Browser, look: Look, tmp_path: Path) -> None:
    with person(browser, shown.server.base_url, look) as visitor:
        for number, query in enumerate((f"pipeline_id={shown.hostile}", "pipeline_id=none", "code=x")):
            page = visitor.open(f"{PATH}?{query}")
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            visitor.check_layout()
            visitor.shoot(tmp_path, f"{number}")


def test_where_nothing_matches_the_page_says_so(shown: Shown) -> None:
    assert "No refused event of the last 24 hours matches" in page_of(shown, f"pipeline_id={shown.quiet}")
    assert "No refused event of the last 24 hours matches" in page_of(shown, "code=not_found")


def test_a_store_where_nothing_was_refused_says_so(tmp_path: Path, browser: Browser) -> None:
    store_with_users(tmp_path / "data")
    with running_server(tmp_path / "data") as empty, person(browser, empty.base_url, LOOKS[0]) as visitor:
        page = visitor.open(PATH)
        expect(page.get_by_text("nothing was refused in the last 24 hours")).to_be_visible()
        expect(page.get_by_role("search")).to_have_count(0)
        page.get_by_text("All reasons").click()
        expect(page.get_by_text(REASONS["invalid_key"].advice)).to_be_visible()
        visitor.check_layout()


@pytest.mark.parametrize("query", ["code=nonsense", "cursor=zzz", f"pipeline_id={'x' * 300}", "cursor=%00"])
def test_a_filter_that_cannot_be_used_is_said(shown: Shown, query: str) -> None:
    answer = Client(shown.server.base_url).get(f"{PATH}?{query}")
    assert answer.status == 422
    assert "These filters cannot be used." in answer.body.decode()


def test_a_stranger_is_sent_to_log_in(shown: Shown) -> None:
    answer = Client(shown.server.base_url, role=None).get(PATH)
    assert (answer.status, answer.headers["Location"].partition("?")[0]) == (303, "/login")

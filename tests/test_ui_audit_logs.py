"""The page of the audit log, as an admin reads it: who, what, when, before and after, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from datafly_lite.ui.audit_logs import ACTIONS, FEW_VALUES, PAGE_SIZE, end_of_day, values_of, words_of
from kit import OWNER_EMAIL, Management, Server, running_server
from ui_kit import LOOKS, Client, Look, person, store_with_users, texts

PACKAGE = Path(__file__).parent.parent / "datafly_lite"
PATH = "/audit-logs"
SCRIPT = "<script>alert(1)</script>"
TURNED = "\u202egnp.exe"
LONG = "x" * 3_000
SECRET = "a-secret-nobody-may-read"
MANY = PAGE_SIZE + 3


class Shown(NamedTuple):
    """A server where an owner and an admin did a few things."""

    server: Server
    pipeline_id: str
    renamed_id: str
    source_id: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("audit") / "data"
    store_with_users(folder)
    with running_server(folder) as server:
        management = Management(server.base_url)
        renamed = management.create_pipeline("Renamed").id
        for number in range(MANY):
            management.call("PUT", f"pipelines/{renamed}", {"name": f"Renamed {number}"})
        pipeline = management.create_pipeline("Shop").id
        fields = {"name": SCRIPT, "labels": [TURNED], "config": {"cookie_domain": "", "note": LONG}}
        management.call("PUT", f"pipelines/{pipeline}", fields)
        source_id = management.call("POST", "sources", {"name": "Legacy", "domain": "legacy.example"})["id"]
        source = {"pipeline_id": pipeline, "name": "Till", "source_type": "custom", "signing_secret": SECRET}
        management.call("POST", "webhook-sources", source)
        admin = Client(server.base_url, role="admin")
        assert admin.post(f"/pipelines/{renamed}/delete", {"name": f"Renamed {MANY - 1}"}).status == 303
        assert Client(server.base_url, role=None).post("/login", WRONG).status == 401
        yield Shown(server, pipeline, renamed, source_id)


WRONG = {"email": "eve@example.com", "password": "a wrong password"}


def cards_of(page: Page) -> list[str]:
    return list(texts(page, ".card h3"))


# ── Words and values ─────────────────────────────────────────────────────────────────────────


def test_every_action_has_words() -> None:
    sources = [
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "auditing.py"
    ]
    written = {action for text in sources for action in re.findall(r'Audited\(\s*"([a-z_.]+)"', text)}
    assert "auth.login_failed" in written
    assert written - ACTIONS.keys() == set()


def test_an_action_of_another_version_is_its_own_words() -> None:
    assert words_of("auth.login") == "Logged in"
    assert words_of("brand.updated") == "Brand updated"


def test_objects_are_told_value_by_value() -> None:
    changes: dict[str, dict[str, Any]] = {
        "name": {"old": "a", "new": "b"},
        "config": {"old": {"same": 1, "gone": True, "in": {"x": 1}}, "new": {"same": 1, "in": {"x": 2}}},
        "labels": {"old": [], "new": ["a:b"]},
        "parameters": {"old": None, "new": {"id": "1"}},
        "description": {"old": None, "new": ""},
    }
    assert [tuple(one) for one in values_of(changes)] == [
        ("name", "a", "b"),
        ("config.gone", "true", None),
        ("config.in.x", "1", "2"),
        ("labels", "[]", '["a:b"]'),
        ("parameters.id", None, "1"),
        ("description", None, '""'),
    ]


def test_a_day_is_meant_to_its_end() -> None:
    assert end_of_day("2026-02-25") == "2026-02-25T23:59:59.999Z"
    assert end_of_day("2026-02-25T10:00:00Z") == "2026-02-25T10:00:00Z"
    assert end_of_day("") == ""


# ── Who may read it ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 403), ("editor", 403), ("admin", 200), ("owner", 200)]
)
def test_admins_and_the_owner_read_it_and_are_led_there(shown: Shown, role: str, status: int) -> None:
    client = Client(shown.server.base_url, role=role)
    assert client.get(PATH).status == status
    assert ('href="/audit-logs"' in client.get("/pipelines").body.decode()) is (status == 200)


def test_a_stranger_is_sent_to_log_in(shown: Shown) -> None:
    answer = Client(shown.server.base_url, role=None).get(PATH)
    assert (answer.status, answer.headers["Location"].partition("?")[0]) == (303, "/login")


# ── The list ─────────────────────────────────────────────────────────────────────────────────


def test_it_says_who_did_what_newest_first(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url, role="admin") as visitor:
        page = visitor.open("/")
        page.get_by_role("navigation", name="Main").get_by_text("More", exact=True).click()
        page.get_by_role("navigation", name="Main").get_by_role("link", name="Audit log").click()
        expect(page.locator("nav [aria-current=page]")).to_have_text("Audit log")
        assert cards_of(page)[:5] == [
            "Log-in failed",
            "Pipeline deleted",
            "Webhook source made",
            "Source made",
            "Pipeline changed",
        ]
        failed, deleted, made = (page.locator(".card").nth(number) for number in range(3))
        expect(failed).to_contain_text("By somebody who gave eve@example.com from 127.0.0.1")
        expect(deleted).to_contain_text("By admin@example.com from 127.0.0.1")
        expect(made).to_contain_text(f"By {OWNER_EMAIL}")
        assert SECRET not in page.content()


def test_each_value_is_shown_before_and_after(shown: Shown, browser: Browser) -> None:
    """`person` fails when a script of a name runs: the dialog and the policy's refusal are complaints."""
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(f"{PATH}?resource_id={shown.pipeline_id}&action=pipeline.updated")
        rows = page.locator(".card tbody tr")
        expect(rows).to_have_count(4)
        assert rows.nth(0).locator("th, td").all_inner_texts() == ["name", "Shop", SCRIPT]
        assert rows.nth(1).locator("th, td").all_inner_texts() == ["labels", "[]", '["\\u202egnp.exe"]']
        folded = rows.nth(3).locator("bdi")
        expect(folded).to_be_hidden()
        rows.nth(3).get_by_text("3,000 characters").click()
        expect(folded).to_have_text(LONG)
        visitor.check_layout()


def test_many_values_are_folded(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(f"{PATH}?resource_id={shown.pipeline_id}&action=pipeline.created")
        expect(page.locator(".card table")).to_be_hidden()
        page.locator(".card summary").first.click()
        expect(page.locator(".card table")).to_be_visible()
        assert page.locator(".card tbody tr").count() > FEW_VALUES


def test_filters_and_pages_are_in_the_address(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(PATH)
        page.get_by_label("What", exact=True).select_option(label="Pipeline changed")
        page.get_by_label("Who", exact=True).select_option(label=OWNER_EMAIL)
        page.get_by_label("Id of the thing").fill(shown.renamed_id)
        page.get_by_role("button", name="Apply").click()
        found = texts(page, ".card td:last-child")
        page.get_by_role("link", name="Older").click()
        expect(page.get_by_label("Id of the thing")).to_have_value(shown.renamed_id)
        expect(page.locator(".card")).to_have_count(MANY - PAGE_SIZE)
        assert [*found, *texts(page, ".card td:last-child")] == [
            f"Renamed {number}" for number in reversed(range(MANY))
        ]
        page.get_by_role("link", name="Newest").click()
        expect(page.locator(".card")).to_have_count(PAGE_SIZE)
        page.get_by_role("link", name="Clear").click()
        expect(page.get_by_label("Id of the thing")).to_have_value("")


def test_one_thing_and_one_person_are_a_click_away(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(PATH)
        page.get_by_role("link", name=f"Only {shown.pipeline_id}").first.click()
        page.wait_for_url("**resource_id=**")
        assert cards_of(page) == ["Pipeline changed", "Pipeline made"]
        page.get_by_role("link", name=shown.pipeline_id, exact=True).first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(SCRIPT)
        page = visitor.open(f"{PATH}?resource_id={shown.source_id}")
        page.get_by_role("link", name=shown.source_id, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Legacy")
        page = visitor.open(PATH)
        page.get_by_role("link", name="admin@example.com").first.click()
        page.wait_for_url("**user_id=**")
        assert cards_of(page) == ["Pipeline deleted"]


def test_days_bound_the_list(shown: Shown, browser: Browser) -> None:
    with person(browser, shown.server.base_url) as visitor:
        page = visitor.open(PATH)
        day = page.locator(".card time").first.get_attribute("datetime")
        assert day is not None
        page.get_by_label("From").fill(day[:10])
        page.get_by_label("Until").fill(day[:10])
        page.get_by_role("button", name="Apply").click()
        assert cards_of(page)[0] == "Log-in failed"
        page.get_by_label("From").fill("2000-01-01")
        page.get_by_label("Until").fill("2000-01-02")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("No entry of the last 90 days matches")).to_be_visible()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_page_fits_and_can_be_read(shown: Shown, browser: Browser, look: Look, tmp_path: Path) -> None:
    with person(browser, shown.server.base_url, look) as visitor:
        for number, query in enumerate(("", f"resource_id={shown.pipeline_id}", "from=x", "action=none")):
            page = visitor.open(f"{PATH}?{query}")
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            visitor.check_layout()
            visitor.shoot(tmp_path, f"{number}")


def test_a_store_where_nothing_was_done_says_so(tmp_path: Path, browser: Browser) -> None:
    store_with_users(tmp_path / "data")
    with running_server(tmp_path / "data") as empty, person(browser, empty.base_url, LOOKS[0]) as visitor:
        page = visitor.open(PATH)
        expect(page.get_by_text("There are none yet")).to_be_visible()
        expect(page.get_by_role("search")).to_have_count(0)
        visitor.check_layout()


@pytest.mark.parametrize("query", ["from=yesterday", "cursor=zzz", f"user_id={'x' * 300}", "to=%00"])
def test_a_filter_that_cannot_be_used_is_said(shown: Shown, query: str) -> None:
    answer = Client(shown.server.base_url).get(f"{PATH}?{query}")
    assert answer.status == 422
    assert "These filters cannot be used." in answer.body.decode()

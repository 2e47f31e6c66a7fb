"""The first page says whether the numbers add up: quietly when they do, in red with a way on when not."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from kit import Management, Server, free_port, request, running_server, send_event, wait_until
from ui_kit import LOOKS, Client, Look, person, store_with_users

LOSSES = (
    "DELETE FROM deliveries WHERE id = (SELECT min(id) FROM deliveries WHERE status = 'pending')",
    "UPDATE counters SET value = value - 2 WHERE name = 'stored'",
)
LOOPBACK = {"DATAFLY_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8"}
NAME = "A very long name <b>of an integration</b> " + "x" * 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overview") / "data"
    store_with_users(folder)
    return folder


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("empty") / "data"
    store_with_users(folder)
    with running_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def balanced(folder: Path) -> Iterator[Server]:
    """Events that were stored, refused, sent twice, dropped, and that wait for a vendor that is not there."""
    with running_server(folder, env=LOOPBACK) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline("Site")
        config = {"url": f"http://127.0.0.1:{free_port()}/", "consent_categories": ["marketing"]}
        management.attach(pipeline.id, "webhook", config, name=NAME)
        refused = {"context": {"consent": {"categories": {"marketing": False}}}}
        for number in range(3):
            event = {"event": "A", "messageId": f"m{number}", **(refused if number == 2 else {})}
            assert send_event(server, pipeline.key, event).status == 200
        assert send_event(server, pipeline.key, {"event": "A", "messageId": "m0"}).status == 200
        assert request(f"{server.base_url}/v1/t", "POST", json.dumps({}).encode()).status == 401
        wait_until(lambda: is_settled(management), "all is processed and counted")
        yield server


def is_settled(management: Management) -> bool:
    ledger = management.call("GET", "ledger")
    return bool(ledger["events"]["processed"] == 3 and ledger["received"]["rejected"] == 1)


@pytest.fixture(scope="module")
def broken(balanced: Server, folder: Path) -> Iterator[Server]:
    """The same, with a delivery gone and events that the door counted and the log does not have."""
    assert balanced.terminate() == 0
    with closing(sqlite3.connect(folder / "datafly.db")) as connection:
        for loss in LOSSES:
            assert connection.execute(loss).rowcount == 1
        connection.commit()
    with running_server(folder, env=LOOPBACK) as server:
        yield server


def ledger_of(page: Page) -> str:
    return page.get_by_role("region", name="Do the numbers add up?").inner_text()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_an_empty_store_has_nothing_to_add_up(
    empty: Server, browser: Browser, look: Look, tmp_path: Path
) -> None:
    with person(browser, empty.base_url, look) as visitor:
        page = visitor.open("/")
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        expect(page.get_by_role("region", name="Do the numbers add up?")).to_have_count(0)
        visitor.check_layout()
        visitor.shoot(tmp_path, "empty")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_sums_that_come_out(balanced: Server, browser: Browser, look: Look, tmp_path: Path) -> None:
    with person(browser, balanced.base_url, look, role="viewer") as visitor:
        told = ledger_of(visitor.open("/"))
        assert "5 received = 3 stored + 1 rejected (invalid_key 1) + 1 duplicate" in told
        assert "3 stored = 3 processed + 0 to be processed" in told
        assert "3 matched = 0 delivered + 2 waiting + 0 dead letters + 1 dropped (consent 1)" in told
        assert told.count("✓ adds up") == 3
        expect(visitor.page.get_by_role("alert")).to_have_count(0)
        expect(visitor.page.get_by_text("Nothing needs you.")).to_be_visible()
        visitor.check_layout()
        visitor.shoot(tmp_path, "balanced")


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_sums_that_do_not_come_out(broken: Server, browser: Browser, look: Look, tmp_path: Path) -> None:
    with person(browser, broken.base_url, look, role="viewer") as visitor:
        page = visitor.open("/")
        told = ledger_of(page)
        assert "✕ 1 missing" in told
        assert "✕ 2 too many" in told
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The numbers do not add up.")
        expect(alert).to_contain_text(f"{NAME}: 1 missing")
        expect(page.get_by_text("Nothing needs you.")).to_have_count(0)
        visitor.check_layout()
        visitor.shoot(tmp_path, "broken")
        alert.get_by_role("link", name=re.compile("waiting")).click()
        expect(page).to_have_url(re.compile(r"/live\?status=pending$"))
        page.go_back()
        page.get_by_role("alert").get_by_role("link", name="see how it does").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Site")


def test_it_needs_a_session(broken: Server) -> None:
    assert Client(broken.base_url, role=None).get("/").status == 303

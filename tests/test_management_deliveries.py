"""Deliveries as a list and one by one, and how each attached integration does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datafly_lite.clock import iso, iso_s
from datafly_lite.store import attachment_health, delivery_list
from datafly_lite.store.deliveries import Attempted, record_attempts
from management_kit import Admin, error_of, running_admin

URL = "https://example.com/"
REQUEST = {"method": "POST", "url": URL, "headers": {"authorization": "***"}, "body": "{}"}
RESPONSE = {"headers": {"server": "x"}, "body": "no"}


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with running_admin(tmp_path / "data") as running:
        yield running


class Site:
    """A pipeline and its webhook integrations."""

    def __init__(self, admin: Admin, name: str = "Site", *integrations: str) -> None:
        self.admin = admin
        self.id = admin.ok("POST", "/pipelines", {"name": name})["id"]
        self.templates: dict[str, str] = {}
        self.attachments = {one: self.attach(one) for one in integrations or (f"Hook of {name}",)}

    def attach(self, name: str) -> str:
        config = {"url": URL, "consent_categories": ["marketing"]}
        made = self.admin.ok(
            "POST", "/integration-templates", {"name": name, "vendor": "webhook", "config": config}
        )
        self.templates[name] = made["id"]
        path = f"/pipelines/{self.id}/integrations"
        return str(self.admin.ok("POST", path, {"integration_id": made["id"]})["id"])

    def send(self, message_id: str, **fields: Any) -> None:
        self.admin.process(self.id, {"type": "track", "event": "A", "messageId": message_id, **fields})


def attempt(admin: Admin, delivery_id: int, status: str, verdict: str, **fields: Any) -> None:
    """As a worker records it."""
    values = {"attempts": 1, "reason": None, "next_attempt_at_ms": 0, "at_ms": admin.clock(), **fields}
    made = Attempted(
        delivery_id=delivery_id,
        status=status,
        verdict=verdict,
        request=msgspec.json.encode(REQUEST).decode(),
        revision_id="rev_1",
        duration_ms=7,
        **values,
    )
    admin.run(admin.services.store.write, record_attempts, [made])


def ids(admin: Admin, query: str = "") -> list[int]:
    return [one["id"] for one in admin.ok("GET", f"/deliveries?{query}", role="viewer")["data"]]


def test_a_delivery_says_where_it_stands_and_what_its_last_attempt_got(admin: Admin) -> None:
    site = Site(admin)
    site.send("m1", userId="u-1", anonymousId="a-1")
    due_ms, made_ms = admin.clock() + 60_000, admin.clock()
    attempt(admin, 1, "pending", "retry", next_attempt_at_ms=made_ms)
    failed = {"http_status": 503, "error": "no", "at_ms": made_ms, "next_attempt_at_ms": due_ms}
    attempt(admin, 1, "pending", "retry", attempts=2, **failed)
    delivery = admin.ok("GET", "/deliveries", role="viewer")["data"][0]
    created_at = delivery.pop("created_at")
    assert created_at[:4] == iso(made_ms)[:4]
    assert delivery == {
        "id": 1,
        "offset": 1,
        "pipeline_id": site.id,
        "pipeline_name": "Site",
        "pipeline_integration_id": site.attachments["Hook of Site"],
        "integration_id": site.templates["Hook of Site"],
        "integration_name": "Hook of Site",
        "vendor": "webhook",
        "message_id": "m1",
        "type": "track",
        "event": "A",
        "user_id": "u-1",
        "anonymous_id": "a-1",
        "status": "pending",
        "reason": None,
        "detail": None,
        "attempts": 2,
        "next_attempt_at": iso(due_ms),
        "finished_at": None,
        "last_attempt": {
            "attempt": 2,
            "at": iso(made_ms),
            "duration_ms": 7,
            "revision_id": "rev_1",
            "verdict": "retry",
            "status": 503,
            "error": "no",
        },
    }


def test_one_delivery_has_all_its_attempts_as_they_were_stored(admin: Admin) -> None:
    Site(admin).send("m1")
    attempt(admin, 1, "pending", "retry", error="timeout")
    attempt(
        admin, 1, "delivered", "delivered", http_status=200, response=msgspec.json.encode(RESPONSE).decode()
    )
    found = admin.ok("GET", "/deliveries/1", role="viewer")
    assert (found["status"], found["last_attempt"]["verdict"], found["next_attempt_at"]) == (
        "delivered",
        "delivered",
        None,
    )
    history = [(one["attempt"], one["error"], one["request"], one["response"]) for one in found["history"]]
    assert history == [(1, "timeout", REQUEST, None), (2, None, REQUEST, RESPONSE)]


@pytest.mark.parametrize(
    "path", ["2", "0", "-1", "x", "9007199254740993", "9" * 20, "9" * 400, "%D9%A1", "1.0"]
)
def test_a_delivery_that_is_not_there_is_a_404(admin: Admin, path: str) -> None:
    Site(admin).send("m1")
    assert admin.error("GET", f"/deliveries/{path}") == (404, "NOT_FOUND")


def test_every_filter_finds_its_own(admin: Admin) -> None:
    site, other = Site(admin, "Site", "One", "Two"), Site(admin, "Other")
    site.send("m1", userId="u-1")  # deliveries 1 and 2
    admin.clock.ahead_ms = 60_000
    site.send("m2", anonymousId="a-2", event="B")  # 3 and 4
    admin.process(other.id, {"type": "page", "name": "Home", "messageId": "m1"})  # 5
    refused = {"context": {"consent": {"categories": {"marketing": False}}}}
    other.send("m3", **refused)  # 6
    attempt(admin, 1, "delivered", "delivered")
    attempt(admin, 3, "dead", "give_up", reason="refused")
    border = iso_s(admin.clock() - 30_000)
    queries = {
        "": [6, 5, 4, 3, 2, 1],
        f"pipeline_id={site.id}": [4, 3, 2, 1],
        f"integration_id={site.templates['Two']}": [4, 2],
        f"pipeline_integration_id={site.attachments['One']}": [3, 1],
        "integration_id=tmpl_unknown": [],
        "status=pending": [5, 4, 2],
        "status=delivered": [1],
        "status=dead": [3],
        "status=dropped": [6],
        f"status=pending&pipeline_integration_id={site.attachments['Two']}": [4, 2],
        f"status=dead&pipeline_integration_id={site.attachments['Two']}": [],
        "reason=consent": [6],
        "reason=refused&status=dead": [3],
        "type=page": [5],
        "event=B": [4, 3],
        "event=Home": [5],
        "user_id=u-1": [2, 1],
        "anonymous_id=a-2": [4, 3],
        "message_id=m1": [5, 2, 1],
        f"message_id=m1&pipeline_id={site.id}&status=pending": [2],
        "message_id=never": [],
        f"to={border}": [2, 1],
        f"from={border}": [6, 5, 4, 3],
        "limit=2": [6, 5],
    }
    assert {query: ids(admin, query) for query in queries} == queries


@pytest.mark.parametrize(
    "query",
    ["status=lost", "type=x", "from=soon", "limit=0", "limit=101", "cursor=x", "user_id=" + "x" * 1001],
)
def test_a_wrong_query_is_refused(admin: Admin, query: str) -> None:
    assert error_of(admin.call("GET", f"/deliveries?{query}")) == (422, "VALIDATION_ERROR")


def every_page(admin: Admin, query: str) -> tuple[list[int], int]:
    """All ids, and how many pages there were."""
    found, cursor, pages = [], "", 0
    while True:
        page = admin.ok("GET", f"/deliveries?{query}&cursor={cursor}")
        found += [one["id"] for one in page["data"]]
        pages += 1
        if not page["has_more"]:
            return found, pages
        cursor = page["next_cursor"]


def test_a_search_stops_and_goes_on_where_it_stopped(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_list, "SCANNED", 3)
    monkeypatch.setattr(delivery_list, "SORTED", 2)
    site = Site(admin)
    for number in range(10):
        site.send(f"m{number}", event="Rare" if number in (0, 9) else "A")
    assert every_page(admin, "event=Rare") == ([10, 1], 4)
    assert every_page(admin, "status=pending&limit=4")[0] == list(range(10, 0, -1))
    attempt(admin, 2, "dead", "give_up")
    assert every_page(admin, "status=dead") == ([2], 1), "few open ones are found without a search"
    assert every_page(admin, f"status=pending&pipeline_id={site.id}&event=Rare")[0] == [10, 1]


def test_no_list_reads_all_deliveries(admin: Admin) -> None:
    """Each is a walk down the ids, or along an index of open ones, or of an event's own."""
    ways = {name: admin.run(admin.services.store.read, _way, filters) for name, filters in FILTERS.items()}
    assert ways == {
        "all": "INTEGER PRIMARY KEY",
        "pipeline": "INTEGER PRIMARY KEY",
        "event": "INTEGER PRIMARY KEY",
        "message": "INDEX sqlite_autoindex_deliveries_1",
        "waiting": "INDEX deliveries_waiting",
    }


FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "pipeline": {"pipeline_id": "pip_1"},
    "event": {"event": "A", "type": "track"},
    "message": {"message_id": "m1"},
    "waiting": {"pipeline_integration_id": "pi_1", "status": "pending"},
}


def _way(connection: sqlite3.Connection, filters: dict[str, Any]) -> str:
    """By what SQLite finds the deliveries of a page."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    delivery_list.page(connection, filters, 100, 50)
    connection.set_trace_callback(None)
    query = next(one for one in asked if "pipeline_name" in one)
    steps = [str(row["detail"]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    return next(step for step in steps if step.startswith("SEARCH d ")).split(" USING ")[1].split(" (")[0]


# ── How integrations do ──────────────────────────────────────────────────────────────────────


def health(admin: Admin) -> dict[str, dict[str, Any]]:
    found = admin.ok("GET", "/integrations-health", role="viewer")["data"]
    return {one["integration_name"]: one for one in found}


def test_health_tells_what_waits_and_since_when(admin: Admin) -> None:
    site = Site(admin, "Site", "One", "Two")
    for number in range(3):
        admin.clock.ahead_ms = 60_000 * number
        site.send(f"m{number}")
    now_ms = admin.clock()
    attempt(admin, 1, "delivered", "delivered", at_ms=now_ms)
    attempt(admin, 3, "pending", "retry", http_status=503, error="no", at_ms=now_ms + 50)
    attempt(admin, 2, "dead", "give_up", reason="refused", http_status=400, at_ms=now_ms)
    attempt(admin, 4, "dead", "give_up", reason="too_late", at_ms=now_ms)
    one, two = health(admin)["One"], health(admin)["Two"]
    oldest = admin.ok("GET", "/deliveries/3")["created_at"]
    assert (one["pending"], one["dead"], one["delivered"]) == (2, 0, 1)
    assert (one["state"], one["oldest_pending_at"], one["last_success_at"]) == (
        "failing",
        oldest,
        iso(now_ms + 7),
    )
    assert one["last_error"] == {"at": iso(now_ms + 50), "verdict": "retry", "status": 503, "error": "no"}
    assert (two["pending"], two["dead"], two["state"], two["last_success_at"]) == (1, 2, "failing", None)
    assert (two["pipeline_name"], two["vendor"], two["revision_number"]) == ("Site", "webhook", 1)


def test_each_state_is_said(admin: Admin) -> None:
    names = ("healthy", "waiting", "giving_up", "shadow", "paused", "disabled", "stopped")
    site = Site(admin, "Site", *names)
    path = f"/pipelines/{site.id}/integrations"
    site.send("m1")
    for number, name in enumerate(names, 1):
        if name == "giving_up":
            attempt(admin, number, "dead", "give_up", reason="refused")
        elif name != "waiting":
            attempt(admin, number, "delivered", "delivered")
    for name, change in {
        "shadow": {"mode": "shadow"},
        "paused": {"mode": "paused"},
        "disabled": {"enabled": False},
    }.items():
        admin.ok("PUT", f"{path}/{site.attachments[name]}", change)
    stop = "UPDATE pipeline_integrations SET mode = 'paused', trouble = '401' WHERE id = ?"
    admin.run(
        admin.services.store.write,
        lambda connection: connection.execute(stop, (site.attachments["stopped"],)).close(),
    )
    found = health(admin)
    assert {name: found[name]["state"] for name in names} == {name: name for name in names}
    assert found["stopped"]["trouble"] == "401"


def test_a_success_after_a_failure_ends_it(admin: Admin) -> None:
    site = Site(admin)
    site.send("m1")
    attempt(admin, 1, "pending", "retry", at_ms=admin.clock() - 1000)
    attempt(admin, 1, "delivered", "delivered")
    assert (health(admin)["Hook of Site"]["state"], health(admin)["Hook of Site"]["last_error"]) == (
        "healthy",
        None,
    )


def test_what_is_detached_deleted_or_lacks_a_parameter(admin: Admin) -> None:
    site, gone = Site(admin, "Site", "Stays", "Goes"), Site(admin, "Gone")
    path = f"/pipelines/{site.id}/integrations"
    admin.ok("DELETE", f"{path}/{site.attachments['Goes']}")
    admin.ok("DELETE", f"/pipelines/{gone.id}")
    config = {"url": URL, "headers": {"X-Key": "{{pipeline_param.key}}"}}
    made = admin.ok(
        "POST", "/integration-templates", {"name": "Lacks", "vendor": "webhook", "config": config}
    )
    admin.ok("POST", path, {"integration_id": made["id"]})
    found = health(admin)
    assert sorted(found) == ["Lacks", "Stays"]
    assert (found["Lacks"]["missing_parameters"], found["Stays"]["missing_parameters"]) == (["key"], [])


def test_health_scans_no_deliveries(admin: Admin) -> None:
    Site(admin).send("m1")

    def plans(connection: sqlite3.Connection) -> list[str]:
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        attachment_health.standings(connection, "", 10)
        connection.set_trace_callback(None)
        queries = [one for one in asked if one.lstrip().startswith(("SELECT", "WITH"))]
        return [row["detail"] for one in queries for row in connection.execute(f"EXPLAIN QUERY PLAN {one}")]

    steps = admin.run(admin.services.store.read, plans)
    assert any("deliveries_waiting" in step for step in steps)
    assert [step for step in steps if step.startswith(("SCAN deliver", "SCAN due", "MATERIALIZE"))] == []

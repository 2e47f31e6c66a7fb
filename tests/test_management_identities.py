"""Visitors over HTTP: found, looked at, and unlinked from a user while their events go on."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.clock import iso
from datafly_lite.store import identities as rows
from datafly_lite.vendor_ids import DAY_MS, KINDS
from management_kit import Admin, error_of, running_admin

ROW = [
    *("anonymous_id", "user_id", "group_id", "vendor_ids", "consent", "consent_at"),
    *("first_seen_at", "last_seen_at"),
]
DETAIL = [*ROW, "links", "traits", "other_identities", "sessions", "consent_changes"]
NOON_MS = 1_772_020_800_000
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running_admin(tmp_path_factory.mktemp("api") / "data", management_rate_limit_rpm=10_000) as made:
        yield made


@pytest.fixture
def admin(running: Admin) -> Admin:
    """Nobody is known yet."""
    running.run(running.services.store.write, _forget)
    return running


def _forget(connection: sqlite3.Connection) -> None:
    for table in ("identities", "identity_links", "profiles", "sessions", "consent_changes"):
        connection.execute(f"DELETE FROM {table}")


@pytest.fixture
def pipeline_id(admin: Admin) -> str:
    return str(admin.ok("POST", "/pipelines", {"name": f"Shop {next(NUMBERS)}"})["id"])


def event(type_: str, visitor: str, at_ms: int = NOON_MS, **fields: Any) -> dict[str, Any]:
    """A body; its messageId is new."""
    named = {"event": "Seen"} if type_ == "track" else {}
    message_id = f"m-{next(NUMBERS)}"
    known = {"type": type_, "messageId": message_id, "anonymousId": visitor, "timestamp": iso(at_ms)}
    return {**known, **named, **fields}


def identify(visitor: str, user: str, at_ms: int = NOON_MS, **fields: Any) -> dict[str, Any]:
    return event("identify", visitor, at_ms, userId=user, **fields)


def visitors(admin: Admin, query: str = "") -> list[str]:
    found = admin.ok("GET", f"/identities?{query}", role="viewer")["data"]
    return [one["anonymous_id"] for one in found]


def visitor(admin: Admin, anonymous_id: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.ok("GET", f"/identities/{quote(anonymous_id, safe='')}", role="viewer")
    return found


def unlink(admin: Admin, anonymous_id: str, user: str) -> int:
    path = f"/identities/{quote(anonymous_id, safe='')}/links/{quote(user, safe='')}"
    return admin.call("DELETE", path, role="admin").status


def users_of_events(admin: Admin, pipeline_id: str) -> list[str | None]:
    """Of its track events, oldest first."""
    found = admin.ok("GET", f"/events?pipeline_id={pipeline_id}&type=track&limit=100")["data"]
    return [one["user_id"] for one in reversed(found)]


# ── One visitor ──────────────────────────────────────────────────────────────────────────────


def test_a_visitor_says_all_that_is_known(admin: Admin, pipeline_id: str) -> None:
    page = {"url": "https://shop.test/?gclid=Cj0KCQjw_0123456789"}
    first = event("page", "ada-1", context={"page": page, "consent": {"marketing": True}})
    linking = identify("ada-1", "ada", NOON_MS + 1_000, traits={"plan": "pro", "old": None})
    grouped = event("group", "ada-1", NOON_MS + 2_000, groupId="acme", traits={"seats": 5})
    admin.process(pipeline_id, first, linking, grouped, identify("ada-2", "ada", NOON_MS + 3_000))
    one = visitor(admin, "ada-1")
    assert list(one) == DETAIL
    assert {name: one[name] for name in DETAIL if name not in ("sessions", "vendor_ids")} == {
        "anonymous_id": "ada-1",
        "user_id": "ada",
        "group_id": "acme",
        "consent": {"marketing": True},
        "consent_at": iso(NOON_MS),
        "first_seen_at": iso(NOON_MS),
        "last_seen_at": iso(NOON_MS + 2_000),
        "links": [
            {
                "user_id": "ada",
                "is_current": True,
                "linked_at": iso(NOON_MS + 1_000),
                "unlinked_at": None,
                "pipeline_id": pipeline_id,
                "message_id": linking["messageId"],
            }
        ],
        "traits": {"user": {"plan": "pro"}, "group": {"seats": 5}},
        "other_identities": [
            {
                "anonymous_id": "ada-2",
                "first_seen_at": iso(NOON_MS + 3_000),
                "last_seen_at": iso(NOON_MS + 3_000),
            }
        ],
        "consent_changes": [
            {
                "before": {},
                "after": {"marketing": True},
                "cancelled_deliveries": 0,
                "at": iso(NOON_MS),
                "pipeline_id": pipeline_id,
                "message_id": first["messageId"],
            }
        ],
    }
    assert one["vendor_ids"]["gclid"] == {
        "value": "Cj0KCQjw_0123456789",
        "set_at": iso(NOON_MS),
        "expires_at": iso(NOON_MS + KINDS["gclid"].days * DAY_MS),
    }
    [session] = one["sessions"]
    assert (session["pipeline_id"], session["number"]) == (pipeline_id, 1)
    assert (session["started_at"], session["last_at"]) == (iso(NOON_MS), iso(NOON_MS + 2_000))


def test_of_a_visitor_who_only_came_by_little_is_known(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, event("track", "passing"))
    one = visitor(admin, "passing")
    assert (one["user_id"], one["group_id"], one["consent_at"]) == (None, None, None)
    assert (one["consent"], one["vendor_ids"], one["links"], one["consent_changes"]) == ({}, {}, [], [])
    assert (one["traits"], one["other_identities"]) == ({"user": {}, "group": {}}, [])


def test_nobody_is_nobody(admin: Admin) -> None:
    for path in ("/identities/nobody", "/identities/", "/identities/%00"):
        assert admin.error("GET", path, role="viewer") == (404, "NOT_FOUND")


@pytest.mark.parametrize("anonymous_id", ["a/b//c", "ü é", "a?b#c", "%2F", "'; DROP TABLE identities; --"])
def test_an_id_may_hold_whatever_it_likes(admin: Admin, pipeline_id: str, anonymous_id: str) -> None:
    admin.process(pipeline_id, identify(anonymous_id, "a/user #1?"))
    assert visitor(admin, anonymous_id)["user_id"] == "a/user #1?"
    assert visitors(admin, f"anonymous_id={quote(anonymous_id, safe='')}") == [anonymous_id]
    assert unlink(admin, anonymous_id, "a/user #1?") == 204
    assert visitor(admin, anonymous_id)["user_id"] is None


NAMES = st.lists(st.sampled_from(["a", "b", "/", "%", "2F", "/links/"]), min_size=1, max_size=5).map("".join)


@settings(max_examples=30, deadline=None)
@given(NAMES, NAMES)
def test_no_id_is_taken_for_two(running: Admin, one: str, other: str) -> None:
    paths = {f"{one}/links/{other}", f"{other}/links/{one}", one, other}
    pairs = [(visitor_id, user) for visitor_id in paths for user in paths]
    running.run(running.services.store.write, _link, pairs)
    for number, pair in enumerate(pairs, 1):
        assert unlink(running, *pair) == 204
        assert set(running.run(running.services.store.read, _unlinked)) == set(pairs[:number])


def _link(connection: sqlite3.Connection, pairs: list[tuple[str, str]]) -> None:
    _forget(connection)
    connection.executemany("INSERT INTO identity_links VALUES (?, ?, 1, 1, NULL)", pairs)


def _unlinked(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    query = "SELECT anonymous_id, user_id FROM identity_links WHERE unlinked_at_ms IS NOT NULL"
    return [(row[0], row[1]) for row in connection.execute(query)]


def test_a_link_to_nobody_has_no_path(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, identify("v", "ada"))
    assert unlink(admin, "v", "") == 405


def test_the_link_of_another_visitor_stays(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, identify("a", "b2/links/c"), identify("a/links/b2", "c"))
    assert unlink(admin, "a", "b2/links/c") == 204
    assert visitor(admin, "a")["user_id"] is None
    assert visitor(admin, "a/links/b2")["user_id"] == "c"
    assert admin.call("DELETE", "/identities/a/links/b2/links/c", role="admin").status in (404, 405)
    assert visitor(admin, "a/links/b2")["user_id"] == "c"


def test_links_sessions_and_changes_of_consent_come_newest_first(admin: Admin, pipeline_id: str) -> None:
    other = str(admin.ok("POST", "/pipelines", {"name": "Other"})["id"])
    said = [{"consent": {"marketing": choice}} for choice in (True, False)]
    admin.process(pipeline_id, identify("shared", "first", context=said[0]))
    admin.process(other, identify("shared", "second", NOON_MS + 1_000, context=said[1]))
    one = visitor(admin, "shared")
    assert [(link["user_id"], link["is_current"]) for link in one["links"]] == [
        ("second", True),
        ("first", False),
    ]
    assert [session["pipeline_id"] for session in one["sessions"]] == [other, pipeline_id]
    assert [(change["before"], change["after"]) for change in one["consent_changes"]] == [
        ({"marketing": True}, {"marketing": False}),
        ({}, {"marketing": True}),
    ]


def test_a_withdrawal_says_how_many_deliveries_it_cancelled(admin: Admin, pipeline_id: str) -> None:
    config = {"url": "https://example.com/hook", "consent_categories": ["marketing"]}
    fields = {"name": f"Hook {next(NUMBERS)}", "vendor": "webhook", "config": config}
    integration_id = admin.ok("POST", "/integration-templates", fields)["id"]
    admin.ok("POST", f"/pipelines/{pipeline_id}/integrations", {"integration_id": integration_id})
    agreed = [event("track", "v", context={"consent": {"marketing": True}}) for _ in range(3)]
    withdrawal = event("track", "v", NOON_MS + 1, context={"consent": {"marketing": False}})
    admin.process(pipeline_id, *agreed, withdrawal)
    withdrawn, first = visitor(admin, "v")["consent_changes"]
    assert (first["cancelled_deliveries"], withdrawn["cancelled_deliveries"]) == (0, 3)
    assert withdrawn["message_id"] == withdrawal["messageId"]


def test_a_list_inside_a_visitor_is_bounded(admin: Admin, pipeline_id: str) -> None:
    bodies = [identify("busy", f"user-{number:03}", NOON_MS + number) for number in range(120)]
    crowd = [identify(f"one-of-{number:03}", "crowd") for number in range(120)]
    admin.process(pipeline_id, *bodies, *crowd)
    assert [one["user_id"] for one in visitor(admin, "busy")["links"]] == [
        f"user-{number:03}" for number in reversed(range(20, 120))
    ]
    others = visitor(admin, "one-of-000")["other_identities"]
    assert [one["anonymous_id"] for one in others] == [f"one-of-{number:03}" for number in range(1, 101)]


def test_the_documentation_says_how_long_each_vendors_id_lives() -> None:
    text = (Path(__file__).parents[1] / "docs" / "identity.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \| (\w+) \|$", text, re.MULTILINE)
    told = [(name, int(days), category) for name, days, category in lines]
    assert told == [(name, kind.days, kind.category) for name, kind in KINDS.items()]


# ── The list ─────────────────────────────────────────────────────────────────────────────────


def test_filters_find_who_somebody_is_now(admin: Admin, pipeline_id: str) -> None:
    admin.process(
        pipeline_id,
        identify("v1", "ada"),
        identify("v2", "ada"),
        event("group", "v2", groupId="acme"),
        identify("v3", "ada"),
        identify("v3", "grace"),
        event("group", "v4", groupId="acme"),
        event("track", "v5"),
    )
    assert visitors(admin) == ["v1", "v2", "v3", "v4", "v5"]
    for query, expected in (
        ("user_id=ada", ["v1", "v2"]),
        ("user_id=grace", ["v3"]),
        ("user_id=Ada", []),
        ("group_id=acme", ["v2", "v4"]),
        ("user_id=ada&group_id=acme", ["v2"]),
        ("anonymous_id=v5", ["v5"]),
        ("anonymous_id=v5&user_id=ada", []),
        ("anonymous_id=v2&user_id=ada&group_id=acme", ["v2"]),
        ("user_id=&group_id=&cursor=", ["v1", "v2", "v3", "v4", "v5"]),
    ):
        assert visitors(admin, query) == expected, query
    assert list(admin.ok("GET", "/identities?limit=1")["data"][0]) == ROW


@pytest.mark.parametrize("filters", ["", "user_id=u&", "group_id=g&", "user_id=u&group_id=g&"])
def test_a_page_looks_at_so_many_visitors_and_goes_on(
    admin: Admin, pipeline_id: str, filters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "SCANNED_VISITORS", 5)
    bodies = [
        body
        for number in range(30)
        for body in (
            identify(f"v{number:02}", "u" if number % 3 == 0 else "x"),
            event("group", f"v{number:02}", groupId="g" if number % 7 == 0 else "y"),
        )
    ]
    admin.process(pipeline_id, *bodies)
    is_user, is_group = "user_id" in filters, "group_id" in filters
    expected = [f"v{n:02}" for n in range(30) if (not is_user or n % 3 == 0) and (not is_group or n % 7 == 0)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = admin.ok("GET", f"/identities?{filters}limit=2&cursor={cursor}")
        assert len(page["data"]) <= 2
        found += [one["anonymous_id"] for one in page["data"]]
        cursor = page["next_cursor"]
    assert found == expected


@given(ids=st.sets(st.text(st.characters(codec="utf-8"), min_size=1), max_size=12), limit=st.integers(1, 5))
def test_a_walk_meets_everybody_once(ids: set[str], limit: int) -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    schema = Path(__file__).parents[1] / "schema.sql"
    connection.executescript(schema.read_text(encoding="utf-8"))
    made = [(one, None, 0, None, "{}", "{}", 0, 0) for one in ids]
    connection.executemany("INSERT INTO identities VALUES (?, ?, ?, ?, ?, ?, ?, ?)", made)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = rows.page(connection, {}, after, limit)
        found, after = found + [row["anonymous_id"] for row in page.rows], page.after
    assert sorted(found) == sorted(ids)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "cursor=zzz", f"user_id={'x' * 1_001}", f"group_id={'x' * 1_001}"]
)
def test_what_is_no_filter_is_refused(admin: Admin, query: str) -> None:
    answer = admin.call("GET", f"/identities?{query}", role="viewer")
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert answer.json()["error"]["details"][0]["field"] == query.partition("=")[0]


def test_each_search_goes_by_an_index_or_is_bounded(admin: Admin) -> None:
    """What the planner does is the only thing that a small table can show of a large one."""
    statements: list[str] = []

    def plans(connection: sqlite3.Connection) -> list[str]:
        connection.set_trace_callback(statements.append)
        try:
            for filters in ({}, {"user_id": "u"}, {"anonymous_id": "a"}, {"user_id": "u", "group_id": "g"}):
                rows.page(connection, filters, "", 50)
            rows.links(connection, "a")
            rows.others_of(connection, "u", "a")
            rows.sessions(connection, "a")
            rows.consent_changes(connection, "a")
        finally:
            connection.set_trace_callback(None)
        found = [connection.execute(f"EXPLAIN QUERY PLAN {one}").fetchall() for one in statements]
        return [row["detail"] for plan in found for row in plan]

    details = admin.run(admin.services.store.read, plans)
    big = ("identities", "identity_links", " l", " e", " s", " c")
    scans = [one for one in details if one.startswith("SCAN") and one.removeprefix("SCAN").endswith(big)]
    assert scans == []
    assert not any("TEMP B-TREE" in one and "identities" in one for one in details)


# ── Undoing a link ───────────────────────────────────────────────────────────────────────────


def test_after_it_the_visitors_events_carry_no_user_until_identified_again(
    admin: Admin, pipeline_id: str
) -> None:
    admin.process(pipeline_id, identify("v", "ada"), event("group", "v", groupId="acme"), event("track", "v"))
    assert unlink(admin, "v", "ada") == 204
    admin.process(pipeline_id, event("track", "v", NOON_MS + 1_000))
    one = visitor(admin, "v")
    assert (one["user_id"], one["group_id"]) == (None, None)
    assert one["traits"] == {"user": {}, "group": {}}
    [link] = one["links"]
    assert link["unlinked_at"] is not None
    assert link["is_current"] is False
    again = identify("v", "ada", NOON_MS + 2_000)
    admin.process(pipeline_id, again, event("track", "v", NOON_MS + 3_000))
    assert users_of_events(admin, pipeline_id) == ["ada", None, "ada"]
    [link] = visitor(admin, "v")["links"]
    assert (link["unlinked_at"], link["message_id"]) == (None, again["messageId"])


def test_an_earlier_link_is_undone_without_touching_the_present_one(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, identify("v", "ada"), identify("v", "grace", NOON_MS + 1))
    assert unlink(admin, "v", "ada") == 204
    one = visitor(admin, "v")
    assert one["user_id"] == "grace"
    assert [link["unlinked_at"] is None for link in one["links"]] == [True, False]


def test_other_visitors_of_the_user_stay(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, identify("v1", "ada", traits={"plan": "pro"}), identify("v2", "ada"))
    assert unlink(admin, "v1", "ada") == 204
    assert visitors(admin, "user_id=ada") == ["v2"]
    assert visitor(admin, "v2")["traits"]["user"] == {"plan": "pro"}


def test_a_link_that_is_none_cannot_be_undone(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, identify("v", "ada"))
    for anonymous_id, user in (("v", "grace"), ("w", "ada"), ("ada", "v")):
        assert unlink(admin, anonymous_id, user) == 404
    assert visitor(admin, "v")["user_id"] == "ada"
    assert (unlink(admin, "v", "ada"), unlink(admin, "v", "ada")) == (204, 404)


@pytest.mark.parametrize("role", ["viewer", "editor", None])
def test_only_admins_undo_links(admin: Admin, pipeline_id: str, role: str | None) -> None:
    admin.process(pipeline_id, identify("v", "ada"))
    expected = (403, "FORBIDDEN") if role else (401, "INVALID_TOKEN")
    assert admin.error("DELETE", "/identities/v/links/ada", role=role) == expected
    assert visitor(admin, "v")["user_id"] == "ada"


def test_the_audit_log_says_who_undid_it_and_what_was_forgotten(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, identify("told", "ada"), event("group", "told", groupId="acme"))
    unlink(admin, "told", "ada")
    unlink(admin, "told", "ada")
    [entry] = admin.ok("GET", "/audit-logs?resource_id=told")["data"]
    assert (entry["action"], entry["resource_type"]) == ("identity.unlinked", "identity")
    assert entry["user_email"] == "admin@example.com"
    assert entry["changes"] == {
        "user_id": {"old": "ada", "new": None},
        "group_id": {"old": "acme", "new": None},
    }


def test_it_holds_although_events_of_the_visitor_are_being_processed(admin: Admin, pipeline_id: str) -> None:
    """A batch that was read before it and written after it would bring the link back."""
    admin.process(pipeline_id, identify("v", "ada"))
    for number in range(25):
        busy = [event("track", "v", NOON_MS + 10_000 * number + place) for place in range(40)]
        admin.run(admin.append, pipeline_id, busy)
        assert unlink(admin, "v", "ada") == 204
        admin.process(pipeline_id, event("track", "v", NOON_MS + 10_000 * number + 50))
        assert visitor(admin, "v")["user_id"] is None, number
        admin.process(pipeline_id, identify("v", "ada", NOON_MS + 10_000 * number + 60))

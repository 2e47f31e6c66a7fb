"""Events as a list and one by one; dead letters listed, replayed, discarded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from datafly_lite.store import deliveries, event_list
from datafly_lite.store.deliveries import Attempted
from management_kit import Admin, error_of, running_admin

ROW = [
    *("offset", "pipeline_id", "pipeline_name", "message_id", "type", "event", "user_id", "anonymous_id"),
    *("received_at", "drop_reason", "detail", "deliveries"),
]
LETTER = [
    *("id", "offset", "pipeline_id", "pipeline_name", "pipeline_integration_id", "integration_id"),
    *("integration_name", "vendor", "type", "event", "message_id", "reason", "attempts", "last_status"),
    *("last_error", "finished_at"),
]


Dead = tuple[str, list[str], list[int]]


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with running_admin(tmp_path / "data", management_rate_limit_rpm=10_000) as running:
        yield running


def site(admin: Admin, name: str, *hooks: str) -> tuple[str, list[str]]:
    """A pipeline with these integrations on it: its id and the attachments'."""
    pipeline_id = admin.ok("POST", "/pipelines", {"name": name})["id"]
    attachments = []
    for hook in hooks:
        fields = {"name": hook, "vendor": "webhook", "config": {"url": "https://example.com/hook"}}
        integration = admin.ok("POST", "/integration-templates", fields)
        attached = admin.ok(
            "POST", f"/pipelines/{pipeline_id}/integrations", {"integration_id": integration["id"]}
        )
        attachments.append(attached["id"])
    return pipeline_id, attachments


def events(admin: Admin, query: str = "") -> list[str]:
    return [one["message_id"] for one in admin.ok("GET", f"/events?{query}", role="viewer")["data"]]


def kill(admin: Admin, attachment_id: str) -> list[int]:
    """As the worker does: park what waits for this attachment in the dead letters, after one refusal."""
    page = admin.run(admin.services.store.read, deliveries.due, attachment_id, admin.clock() + 1, 100, 10**9)
    attempts = [
        Attempted(
            delivery_id=one.id,
            attempts=1,
            status="dead",
            reason="refused",
            next_attempt_at_ms=0,
            at_ms=admin.clock(),
            duration_ms=5,
            revision_id="rev_x",
            verdict="give_up",
            http_status=400,
            error="bad request",
            request="{}",
        )
        for one in page.due
    ]
    admin.run(admin.services.store.write, deliveries.record_attempts, attempts)
    return [one.id for one in page.due]


def letters(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.ok("GET", f"/dead-letters?{query}", role="viewer")["data"]
    return found


# ── Events ───────────────────────────────────────────────────────────────────────────────────


def test_a_message_id_may_be_any_text(admin: Admin) -> None:
    pipeline_id, _ = site(admin, "Shop")
    admin.process(pipeline_id, {"type": "page", "anonymousId": "a", "messageId": "odd\nid\n"})
    assert admin.ok("GET", f"/events/{pipeline_id}/odd%0Aid%0A")["message_id"] == "odd\nid\n"


def test_events_come_newest_first_with_what_became_of_them(admin: Admin) -> None:
    pipeline_id, _ = site(admin, "Shop", "A", "B")
    admin.process(
        pipeline_id,
        {"type": "identify", "userId": "u 1", "anonymousId": "a-1", "messageId": "m/1"},
        {"type": "track", "event": "Order Completed", "anonymousId": "a-2", "messageId": "m-2"},
    )
    page = admin.ok("GET", "/events")
    assert list(page) == ["data", "next_cursor", "has_more"]
    newest, oldest = page["data"]
    assert list(newest) == ROW
    assert (newest["type"], newest["event"], newest["pipeline_name"]) == ("track", "Order Completed", "Shop")
    assert (oldest["user_id"], oldest["anonymous_id"], oldest["drop_reason"]) == ("u 1", "a-1", None)
    assert newest["deliveries"] == {"delivered": 0, "pending": 2, "dropped": 0, "dead": 0}
    assert newest["received_at"].endswith("Z")
    trace = admin.ok("GET", f"/events/{pipeline_id}/m/1", role="viewer")
    assert (trace["message_id"], trace["offset"], trace["processed"]) == ("m/1", oldest["offset"], True)
    assert len(trace["deliveries"]) == 2
    for path in (f"/events/{pipeline_id}/m-3", "/events/pip_x/m-2", f"/events/{pipeline_id}/{'x' * 3000}"):
        assert admin.error("GET", path) == (404, "NOT_FOUND")


def test_every_filter_finds_its_own(admin: Admin) -> None:
    first, (hook,) = site(admin, "First", "A")
    second, _ = site(admin, "Second")
    strange, start_ms = 'It\'s "x"; --', 1_772_013_600_000  # 2026-02-25T10:00:00Z
    admin.clock.fixed_ms = start_ms
    admin.process(first, {"type": "track", "event": strange, "anonymousId": "a", "messageId": "m-1"})
    kill(admin, hook)
    admin.clock.fixed_ms = start_ms + 60_000
    admin.process(second, {"type": "page", "userId": "u", "messageId": "m-2"})
    admin.process(first, {"type": "track", "event": "Other", "anonymousId": "a", "messageId": "m-3"})
    admin.clock.fixed_ms = None
    for query, expected in (
        ("", ["m-3", "m-2", "m-1"]),
        (f"pipeline_id={first}", ["m-3", "m-1"]),
        ("type=page", ["m-2"]),
        (f"event={quote(strange)}", ["m-1"]),
        ("user_id=u", ["m-2"]),
        ("anonymous_id=a", ["m-3", "m-1"]),
        ("message_id=m-2", ["m-2"]),
        ("status=dead", ["m-1"]),
        ("status=pending", ["m-3"]),
        ("from=2026-02-25T10:00:30Z", ["m-3", "m-2"]),
        ("to=2026-02-25T10:00:30Z", ["m-1"]),
        ("from=2026-02-25T11:00:30%2B01:00&to=2026-02-25", []),
        (f"pipeline_id={first}&type=page", []),
        ("user_id=nobody", []),
    ):
        assert events(admin, query) == expected, query


def test_a_wrong_query_is_refused(admin: Admin) -> None:
    for query in (
        *("limit=0", "limit=101", "limit=-1", "limit=1e9", "limit=abc", "cursor=abc", "type=x", "status=x"),
        *("from=yesterday", "to=2026-13-01", f"from={'9' * 60}", "user_id=" + "x" * 1001),
    ):
        answer = admin.call("GET", f"/events?{query}")
        assert error_of(answer) == (422, "VALIDATION_ERROR"), query
        assert answer.json()["error"]["details"][0]["field"] == query.partition("=")[0]


def test_pages_hold_every_event_once_while_more_come(admin: Admin) -> None:
    pipeline_id, _ = site(admin, "Shop")
    admin.process(pipeline_id, *({"type": "track", "event": "E", "messageId": f"m-{n}"} for n in range(7)))
    seen, cursor = [], ""
    for _ in range(4):
        page = admin.ok("GET", f"/events?limit=3&cursor={cursor}")
        seen += [one["message_id"] for one in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
        admin.process(pipeline_id, {"type": "track", "event": "E", "messageId": f"later-{len(seen)}"})
    assert seen == [f"m-{n}" for n in reversed(range(7))]
    assert cursor is None


def test_a_search_stops_and_goes_on_where_it_stopped(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_list, "SCANNED_OFFSETS", 3)
    pipeline_id, _ = site(admin, "Shop")
    bodies = [{"type": "track", "event": "E", "messageId": f"m-{n}"} for n in range(8)]
    admin.process(pipeline_id, {**bodies[0], "userId": "rare"}, *bodies[1:])
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = admin.ok("GET", f"/events?user_id=rare&cursor={cursor}")
        pages.append([one["message_id"] for one in page["data"]])
        cursor = page["next_cursor"]
    assert pages == [[], [], ["m-0"]]


def test_an_event_with_a_huge_number_can_be_read(admin: Admin) -> None:
    pipeline_id, _ = site(admin, "Shop")
    body = {"type": "track", "event": "E", "messageId": "m-1", "properties": {"n": 2**70}}
    admin.process(pipeline_id, body)
    assert str(2**70) in admin.ok("GET", f"/events/{pipeline_id}/m-1")["raw"]


# ── Dead letters ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def dead(admin: Admin) -> Dead:
    """(pipeline, its two attachments, three dead letters: two of the first, one of the second)."""
    pipeline_id, (first, second) = site(admin, "Shop", "A", "B")
    admin.process(
        pipeline_id, *({"type": "track", "event": f"E{n}", "messageId": f"m-{n}"} for n in range(2))
    )
    ids = kill(admin, first)
    return pipeline_id, [first, second], [*ids, *kill(admin, second)[:1]]


def test_dead_letters_say_what_happened(admin: Admin, dead: Dead) -> None:
    pipeline_id, (first, _), _ = dead
    found = letters(admin)
    assert len(found) == 4
    assert list(found[0]) == LETTER
    assert (found[0]["integration_name"], found[0]["vendor"], found[0]["event"]) == ("B", "webhook", "E1")
    assert (found[0]["reason"], found[0]["attempts"], found[0]["last_status"]) == ("refused", 1, 400)
    assert found[0]["last_error"] == "bad request"
    assert [one["integration_name"] for one in letters(admin, f"pipeline_integration_id={first}")] == [
        "A",
        "A",
    ]
    assert len(letters(admin, f"pipeline_id={pipeline_id}")) == 4
    assert letters(admin, "pipeline_id=pip_x") == []
    page = admin.ok("GET", "/dead-letters?limit=3")
    rest = admin.ok("GET", f"/dead-letters?limit=3&cursor={page['next_cursor']}")
    assert page["data"] + rest["data"] == found
    assert (rest["next_cursor"], rest["has_more"]) == (None, False)


def test_replay_by_id_sends_those_again_and_no_other(admin: Admin, dead: Dead) -> None:
    _, (first, _), ids = dead
    assert admin.ok("POST", "/dead-letters/replay", {"ids": [ids[0], 10**9]}, role="editor") == {
        "replayed": 1
    }
    assert admin.woken == [first]
    assert ids[0] not in [one["id"] for one in letters(admin)]
    assert len(letters(admin)) == 3
    assert [one.id for one in due(admin, first)] == [ids[0]]
    assert admin.ok("POST", "/dead-letters/replay", {"ids": [ids[0]]}) == {"replayed": 0}
    assert admin.woken == [first]


def test_a_replayed_delivery_counts_its_attempts_on(admin: Admin, dead: Dead) -> None:
    pipeline_id, (first, _), ids = dead
    admin.ok("POST", "/dead-letters/replay", {"ids": [ids[0]]})
    assert [one.attempts for one in due(admin, first)] == [0]
    kill(admin, first)
    trace = admin.ok("GET", f"/events/{pipeline_id}/m-0")
    history = next(one["history"] for one in trace["deliveries"] if one["delivery_id"] == ids[0])
    assert [one["attempt"] for one in history] == [1, 2]


def due(admin: Admin, attachment_id: str) -> list[Any]:
    page = admin.run(admin.services.store.read, deliveries.due, attachment_id, admin.clock() + 1, 100, 10**9)
    return list(page.due)


def test_replay_and_discard_by_filter(admin: Admin, dead: Dead) -> None:
    pipeline_id, (first, second), _ = dead
    chosen = {"filter": {"pipeline_integration_id": second, "pipeline_id": pipeline_id}}
    assert admin.ok("DELETE", "/dead-letters", {"filter": {"pipeline_id": "pip_x"}}) == {"discarded": 0}
    assert admin.ok("DELETE", "/dead-letters", chosen, role="editor") == {"discarded": 2}
    assert {one["integration_name"] for one in letters(admin)} == {"A"}
    assert admin.ok("GET", "/events")["data"][0]["deliveries"] == {
        "delivered": 0,
        "pending": 0,
        "dropped": 1,
        "dead": 1,
    }
    assert admin.ok("POST", "/dead-letters/replay", {"filter": {}}) == {"replayed": 2}
    assert letters(admin) == []
    assert len(due(admin, first)) == 2
    assert due(admin, second) == []


def test_what_is_detached_is_not_replayed_but_can_be_discarded(admin: Admin, dead: Dead) -> None:
    pipeline_id, (first, _), _ = dead
    admin.call("DELETE", f"/pipelines/{pipeline_id}/integrations/{first}")
    assert len(letters(admin, f"pipeline_integration_id={first}")) == 2
    chosen = {"filter": {"pipeline_integration_id": first}}
    assert admin.ok("POST", "/dead-letters/replay", chosen) == {"replayed": 0}
    assert admin.ok("DELETE", "/dead-letters", chosen) == {"discarded": 2}


WRONG_SELECTIONS: tuple[tuple[Any, str | None], ...] = (
    ({}, None),
    ({"ids": [1], "filter": {}}, None),
    ({"ids": None}, None),
    ({"ids": "1"}, "ids"),
    ({"ids": [1, "2"]}, "ids[1]"),
    ({"ids": [-1]}, "ids[0]"),
    ({"ids": [2**70]}, "ids[0]"),
    ({"ids": [True]}, "ids[0]"),
    ({"ids": list(range(1, 10_002))}, "ids"),
    ({"filter": []}, "filter"),
    ({"filter": {"vendor": "x"}}, "filter.vendor"),
    ({"filter": {"pipeline_id": 1}}, "filter.pipeline_id"),
    ({"all": True}, "all"),
)


def test_a_wrong_selection_changes_nothing(admin: Admin, dead: Dead) -> None:
    for body, field in WRONG_SELECTIONS:
        for method, path in (("POST", "/dead-letters/replay"), ("DELETE", "/dead-letters")):
            answer = admin.call(method, path, body)
            assert error_of(answer) == (422, "VALIDATION_ERROR"), body
            fields = [one["field"] for one in answer.json()["error"]["details"]]
            assert fields == ([field] if field else [])
    assert len(letters(admin)) == 4
    assert admin.woken == []

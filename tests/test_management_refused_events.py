"""The list of refused events and their counts, over HTTP."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from datafly_lite.clock import iso
from datafly_lite.errors import Refused
from datafly_lite.events import Refusal
from datafly_lite.gateway.refusals import KEPT_BODY_BYTES, WAITING_A_PIPELINE, Refusals
from management_kit import Admin, running_admin

ROW = [
    *("id", "pipeline_id", "pipeline_name", "code", "message", "dialect", "path", "library", "user_agent"),
    *("origin", "ip", "request_id", "refused_at", "body", "body_size_bytes", "body_truncated"),
]
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running_admin(tmp_path_factory.mktemp("api") / "data", management_rate_limit_rpm=10_000) as made:
        yield made


@pytest.fixture
def admin(running: Admin) -> Admin:
    """Nothing was refused yet, and the time stands still."""
    running.run(running.services.store.write, _forget)
    running.clock.fixed_ms = None
    running.clock.fixed_ms = running.clock()
    return running


def _forget(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM refused_events")
    connection.execute("DELETE FROM counters")


def refuse(admin: Admin, *bodies: bytes, code: str = "invalid_json", ago_ms: int = 0, **fields: Any) -> None:
    """As the door does, and written."""
    refusals = Refusals(admin.services.store, admin.clock)
    for body in bodies:
        known = {"path": "/v1/t", "message": "no", "body_size_bytes": len(body)}
        at_ms = admin.clock() - ago_ms
        refusals.note(Refusal(code=code, body=body, refused_at_ms=at_ms, **{**known, **fields}))
    admin.run(refusals.flush)


def listed(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.ok("GET", f"/refused-events?{query}", role="viewer")["data"]
    return found


def bodies(admin: Admin, query: str = "") -> list[str]:
    return [one["body"] for one in listed(admin, query)]


def test_a_row_says_all_that_is_known(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Shop"})["id"]
    sender: dict[str, Any] = {
        "user_agent": "shop/1",
        "origin": "https://a.example",
        "ip": "::1",
        "request_id": "r-1",
    }
    body = b'{"context":{"library":{"name":"lib","version":"1"}}'
    refuse(admin, body, pipeline_id=pipeline_id, dialect="segment", **sender)
    one = listed(admin)[0]
    assert list(one) == ROW
    assert one == {
        **sender,
        "id": one["id"],
        "pipeline_id": pipeline_id,
        "pipeline_name": "Shop",
        "code": "invalid_json",
        "message": "no",
        "dialect": "segment",
        "path": "/v1/t",
        "library": "lib/1",
        "refused_at": iso(admin.clock()),
        "body": body.decode(),
        "body_size_bytes": len(body),
        "body_truncated": False,
    }


def test_what_is_not_known_is_null(admin: Admin) -> None:
    refuse(admin, b"")
    one = listed(admin)[0]
    unknown = {name for name, value in one.items() if value is None}
    assert unknown == {
        *("pipeline_id", "pipeline_name", "dialect", "library", "user_agent", "origin", "ip", "request_id")
    }
    assert (one["body"], one["body_size_bytes"], one["body_truncated"]) == ("", 0, False)


@pytest.mark.parametrize(
    ("body", "text", "is_cut"),
    [
        (b"\xff\xfea\x00b", "\ufffd\ufffda\x00b", False),
        (b"a" * (KEPT_BODY_BYTES - 1) + "é".encode(), "a" * (KEPT_BODY_BYTES - 1), True),
        (b"a" * (KEPT_BODY_BYTES - 2) + "é".encode(), "a" * (KEPT_BODY_BYTES - 2) + "é", False),
        (b"a\xc3", "a\ufffd", False),
        ("\u202e<script>".encode(), "\u202e<script>", False),
    ],
)
def test_a_body_is_text_whatever_it_holds(admin: Admin, body: bytes, text: str, *, is_cut: bool) -> None:
    refuse(admin, body)
    one = listed(admin)[0]
    assert (one["body"], one["body_truncated"], one["body_size_bytes"]) == (text, is_cut, len(body))


def test_the_list_is_newest_first_in_pages(admin: Admin) -> None:
    refuse(admin, *(b"%d" % number for number in range(7)))
    found, cursor = [], ""
    for size in (3, 3, 1):
        answer = admin.ok("GET", f"/refused-events?limit=3&cursor={cursor}", role="viewer")
        found += [one["body"] for one in answer["data"]]
        assert (len(answer["data"]), answer["has_more"]) == (size, size == 3)
        cursor = answer["next_cursor"] or ""
    assert found == list("6543210")


def test_a_new_one_does_not_move_the_next_page(admin: Admin) -> None:
    refuse(admin, b"1", b"2", b"3")
    first = admin.ok("GET", "/refused-events?limit=1")
    refuse(admin, b"4")
    assert bodies(admin, f"cursor={first['next_cursor']}") == ["2", "1"]


def test_filters_narrow_the_list(admin: Admin) -> None:
    one, other = (admin.ok("POST", "/pipelines", {"name": name})["id"] for name in ("One", "Other"))
    refuse(admin, b"old", pipeline_id=one, dialect="datafly", ago_ms=2 * HOUR_MS)
    refuse(admin, b"new", pipeline_id=one, dialect="segment", ago_ms=HOUR_MS)
    refuse(admin, b"other", pipeline_id=other, code="rate_limited", dialect="segment")
    refuse(admin, b"nobody's", code="invalid_key", dialect="segment")
    hour_ago = quote(iso(admin.clock() - HOUR_MS))
    assert bodies(admin) == ["nobody's", "other", "new", "old"]
    assert bodies(admin, f"pipeline_id={one}") == ["new", "old"]
    assert bodies(admin, "pipeline_id=none") == ["nobody's"]
    assert bodies(admin, "pipeline_id=unknown") == []
    assert bodies(admin, "code=rate_limited") == ["other"]
    assert bodies(admin, "dialect=segment") == ["nobody's", "other", "new"]
    assert bodies(admin, f"from={hour_ago}") == ["nobody's", "other", "new"]
    assert bodies(admin, f"to={hour_ago}") == ["new", "old"]
    assert bodies(admin, f"pipeline_id={one}&from={hour_ago}&code=invalid_json&dialect=segment") == ["new"]
    assert bodies(admin, "pipeline_id=&code=&dialect=&from=&to=&cursor=") == bodies(admin)


def test_a_day_later_the_list_is_empty_and_the_counts_are_not(admin: Admin) -> None:
    refuse(admin, b"old", ago_ms=24 * HOUR_MS - 60_000)
    assert bodies(admin) == ["old"]
    admin.clock.fixed_ms = admin.clock() + 60_000
    assert bodies(admin) == []
    assert admin.ok("GET", "/refused-events/counts") == {"total": 1, "counts": {"invalid_json": 1}}


def test_counts_say_each_reason_the_greatest_first(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Shop"})["id"]
    assert admin.ok("GET", "/refused-events/counts") == {"total": 0, "counts": {}}
    many = 3 * WAITING_A_PIPELINE
    refuse(admin, *[b"x"] * 2, pipeline_id=pipeline_id)
    refuse(admin, *[b"x"] * many, code="invalid_key")
    refuse(admin, *[b"x"] * 5, code="rate_limited", pipeline_id=pipeline_id)
    refuse(admin, b"x")
    counts = {
        query: admin.ok("GET", f"/refused-events/counts?{query}", role="viewer")
        for query in ("", f"pipeline_id={pipeline_id}", "pipeline_id=none", "pipeline_id=unknown")
    }
    assert [*counts[""]["counts"].items()] == [
        ("invalid_key", many),
        ("rate_limited", 5),
        ("invalid_json", 3),
    ]
    assert counts[""]["total"] == many + 8
    assert counts[f"pipeline_id={pipeline_id}"] == {
        "total": 7,
        "counts": {"rate_limited": 5, "invalid_json": 2},
    }
    assert counts["pipeline_id=none"]["counts"] == {"invalid_key": many, "invalid_json": 1}
    assert counts["pipeline_id=unknown"] == {"total": 0, "counts": {}}


def test_of_a_deleted_pipeline_they_stay(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Gone"})["id"]
    refuse(admin, b"x", pipeline_id=pipeline_id)
    admin.ok("DELETE", f"/pipelines/{pipeline_id}")
    assert bodies(admin, f"pipeline_id={pipeline_id}") == ["x"]


@pytest.mark.parametrize(
    "query",
    [
        *("code=nonsense", "from=yesterday", "to=2026-13-01", "limit=0", "limit=101", "limit=x"),
        *("cursor=zzz", f"pipeline_id={'x' * 201}", f"dialect={'x' * 201}"),
        f"cursor={base64.urlsafe_b64encode(b'[1]').decode()}",
    ],
)
def test_what_cannot_be_asked_for_is_said(admin: Admin, query: str) -> None:
    assert admin.error("GET", f"/refused-events?{query}") == (422, "VALIDATION_ERROR")


def test_every_code_of_the_door_can_be_asked_for(admin: Admin) -> None:
    for code in Refused.STATUS:
        assert listed(admin, f"code={code}") == []


@pytest.mark.parametrize("path", ["/refused-events", "/refused-events/counts"])
def test_nobody_else_looks_and_nobody_changes(admin: Admin, path: str) -> None:
    assert admin.error("GET", path, role=None) == (401, "INVALID_TOKEN")
    assert admin.error("DELETE", path) == (405, "METHOD_NOT_ALLOWED")
    assert admin.error("POST", path, {}) == (405, "METHOD_NOT_ALLOWED")

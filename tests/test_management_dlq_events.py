"""Events that could not be processed, over HTTP: why, and what came."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from datafly_lite.clock import iso
from datafly_lite.events import Arrival, Envelope, decode_event
from datafly_lite.management.dlq_events import original
from datafly_lite.store import data_layers
from datafly_lite.store import dlq_events as rows
from management_kit import Admin, error_of, running_admin

ROW = [
    *("error", "details", "original_event", "offset", "pipeline_id", "pipeline_name", "message_id", "type"),
    *("event", "anonymous_id", "user_id", "received_at"),
]
HOUR_MS = 3_600_000
NUMBERS = itertools.count(1)
SCRIPT = "function process(event) { if (event.event === 'Bad') throw new Error('no price'); return event; }"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running_admin(tmp_path_factory.mktemp("api") / "data", management_rate_limit_rpm=10_000) as made:
        yield made


@pytest.fixture
def admin(running: Admin) -> Admin:
    """Nothing was processed yet, and the time stands still."""
    running.run(running.services.store.write, _forget)
    running.clock.fixed_ms = None
    running.clock.fixed_ms = running.clock()
    return running


def _forget(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM events")


@pytest.fixture
def pipeline_id(admin: Admin) -> str:
    return str(admin.ok("POST", "/pipelines", {"name": "Shop"})["id"])


def body(type_: str = "group", **fields: Any) -> dict[str, Any]:
    """Of a group event without its groupId, unless `fields` have it."""
    return {"type": type_, "messageId": f"m-{next(NUMBERS)}", "anonymousId": "v", **fields}


def process(admin: Admin, pipeline_id: str, *bodies: dict[str, Any]) -> None:
    """As they stand in the log of a program whose door let more in."""
    for one in bodies:
        at_ms, message_id = admin.clock(), one["messageId"]
        envelope = Envelope(dialect="datafly", message_id=message_id, received_at_ms=at_ms)
        event = decode_event(json.dumps({**one, "timestamp": iso(at_ms), "receivedAt": iso(at_ms)}).encode())
        admin.run(admin.log.append, [Arrival(pipeline_id, envelope, json.dumps(one).encode(), event)])
    admin.process(pipeline_id)


def listed(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.ok("GET", f"/dlq-events?{query}", role="viewer")["data"]
    return found


def ids(admin: Admin, query: str = "") -> list[str]:
    return [one["message_id"] for one in listed(admin, query)]


def set_script(admin: Admin, code: str) -> None:
    """As the data layer is saved, and taken up."""
    config = json.dumps({"custom_js": {"enabled": bool(code), "code": code}})
    admin.run(admin.services.store.write, data_layers.add, "data_layers", config, None, admin.clock())
    admin.run(admin.services.configuration.reload)


def test_an_event_that_lacks_what_its_type_needs_is_shown_as_it_came(admin: Admin, pipeline_id: str) -> None:
    sent = body(unknown={"deep": [1, 2.5, None, "ü"]})
    process(admin, pipeline_id, sent, body(groupId="acme"))
    [one] = listed(admin)
    assert list(one) == ROW
    assert one == {
        "error": "schema_validation_failed",
        "details": "Field 'groupId' is required",
        "original_event": sent,
        "offset": one["offset"],
        "pipeline_id": pipeline_id,
        "pipeline_name": "Shop",
        "message_id": sent["messageId"],
        "type": "group",
        "event": None,
        "anonymous_id": "v",
        "user_id": None,
        "received_at": iso(admin.clock()),
    }


def test_an_event_that_the_script_failed_on_is_shown_with_what_it_said(
    admin: Admin, pipeline_id: str
) -> None:
    set_script(admin, SCRIPT)
    try:
        process(admin, pipeline_id, body("track", event="Good"), body("track", event="Bad"), body())
    finally:
        set_script(admin, "")
    [schema, script] = listed(admin)
    assert (script["error"], script["event"]) == ("custom_js_failed", "Bad")
    assert "no price" in script["details"]
    assert ids(admin, "reason=custom_js") == [script["message_id"]]
    assert ids(admin, "reason=schema") == [schema["message_id"]]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": 18446744073709551616}', {"a": 18446744073709551616}),
        (b"not json", "not json"),
        (b'{"a": "\xff"}', '{"a": "\ufffd"}'),
        (b'{"a": "\\ud83d"}', '{"a": "\\ud83d"}'),
        (b"[" * 100_000, "[" * 100_000),
        (b'"text"', "text"),
        (b"", ""),
    ],
    ids=lambda one: str(one)[:20],
)
def test_what_came_is_json_or_else_its_text(
    admin: Admin, pipeline_id: str, raw: bytes, expected: Any
) -> None:
    process(admin, pipeline_id, body())
    admin.run(admin.services.store.write, _replace_raw, raw)
    assert original(raw) == expected
    assert [one["original_event"] for one in listed(admin)] == [expected]


def _replace_raw(connection: sqlite3.Connection, raw: bytes) -> None:
    connection.execute(
        "UPDATE raw_events SET raw = ? WHERE offset = (SELECT max(offset) FROM raw_events)", (raw,)
    )


def test_what_is_no_longer_kept_is_null(admin: Admin, pipeline_id: str) -> None:
    process(admin, pipeline_id, body())
    admin.run(admin.services.store.write, _lose_raw)
    assert [one["original_event"] for one in listed(admin)] == [None]


def _lose_raw(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM raw_events")


def test_filters_narrow_the_list(admin: Admin, pipeline_id: str) -> None:
    other = str(admin.ok("POST", "/pipelines", {"name": "Other"})["id"])
    now_ms = admin.clock()
    old, new, third = body(), body(), body()
    admin.clock.fixed_ms = now_ms - 2 * HOUR_MS
    process(admin, pipeline_id, old)
    admin.clock.fixed_ms = now_ms
    process(admin, pipeline_id, new)
    process(admin, other, third)
    of = [one["messageId"] for one in (old, new, third)]
    for query, expected in (
        ("", [2, 1, 0]),
        (f"pipeline_id={pipeline_id}", [1, 0]),
        (f"pipeline_id={other}&reason=schema", [2]),
        ("reason=custom_js", []),
        (f"from={iso(now_ms - HOUR_MS)}", [2, 1]),
        (f"to={iso(now_ms - HOUR_MS)}", [0]),
        ("pipeline_id=pip_nothing", []),
        ("pipeline_id=&reason=&from=&to=&cursor=", [2, 1, 0]),
    ):
        assert ids(admin, query) == [of[number] for number in expected], query


def test_a_page_looks_at_so_many_and_goes_on(
    admin: Admin, pipeline_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "SCANNED_EVENTS", 3)
    other = str(admin.ok("POST", "/pipelines", {"name": "Other"})["id"])
    wanted = [body() for _ in range(5)]
    for number, one in enumerate(wanted):
        process(admin, pipeline_id, one)
        process(admin, other, *(body() for _ in range(2 * number)))
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = admin.ok("GET", f"/dlq-events?pipeline_id={pipeline_id}&limit=2&cursor={cursor}")
        found += [one["message_id"] for one in page["data"]]
        cursor = page["next_cursor"]
    assert found == [one["messageId"] for one in reversed(wanted)]


@pytest.mark.parametrize(
    "query", ["reason=bot", "from=yesterday", "to=1e99", "cursor=zzz", "limit=0", f"pipeline_id={'x' * 201}"]
)
def test_what_is_no_filter_is_refused(admin: Admin, query: str) -> None:
    answer = admin.call("GET", f"/dlq-events?{query}", role="viewer")
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert answer.json()["error"]["details"][0]["field"] == query.partition("=")[0]


def test_they_are_counted_no_further_than_asked(admin: Admin, pipeline_id: str) -> None:
    admin.clock.fixed_ms = (admin.clock.fixed_ms or 0) - HOUR_MS
    process(admin, pipeline_id, body(), body())
    admin.clock.fixed_ms += HOUR_MS
    process(admin, pipeline_id, body("track", event="Fine"), body(), body(), body())

    def count(since_ms: int, most: int) -> Any:
        return admin.run(admin.services.store.read, rows.count, since_ms, most)

    assert (count(0, 100), count(0, 4), count(admin.clock() - 1, 100)) == (5, 4, 3)

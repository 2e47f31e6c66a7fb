"""How often things happened, by the bucket: the right one, without gaps, in bounded time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datafly_lite.clock import iso_s, system_clock
from datafly_lite.management.stats import SPANS
from datafly_lite.store import refused_events, tallies
from datafly_lite.store.deliveries import Attempted, record_attempts
from datafly_lite.store.refused_events import Refusals
from datafly_lite.store.tallies import DAY_MS, HOUR_MS, MINUTE_MS, Tally
from management_kit import Admin, error_of, running_admin

HOUR_START_MS = system_clock() // HOUR_MS * HOUR_MS
NOW_MS = HOUR_START_MS + 30 * MINUTE_MS


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with running_admin(tmp_path / "data", access_token_ttl_s=DAY_MS, refresh_token_ttl_s=DAY_MS) as running:
        running.clock.fixed_ms = NOW_MS
        yield running


def pipeline(admin: Admin, name: str, *integrations: str) -> str:
    pipeline_id: str = admin.ok("POST", "/pipelines", {"name": name})["id"]
    for integration in integrations:
        config = {"url": "https://example.com/", "consent_categories": ["marketing"]}
        fields = {"name": integration, "vendor": "webhook", "config": config}
        made = admin.ok("POST", "/integration-templates", fields)
        admin.ok("POST", f"/pipelines/{pipeline_id}/integrations", {"integration_id": made["id"]})
    return pipeline_id


def event(message_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "A", "messageId": message_id, **fields}


def at_minute(admin: Admin, minute: int) -> None:
    admin.clock.fixed_ms = HOUR_START_MS + minute * MINUTE_MS + 1


def refuse(admin: Admin, pipeline_id: str, code: str, number: int) -> None:
    given = Refusals([], {(pipeline_id, code): number}, admin.clock())
    admin.run(admin.services.store.write, lambda connection: refused_events.add(connection, [given]) and None)


def settle(admin: Admin, delivery_id: int, status: str, reason: str | None) -> None:
    one = Attempted(delivery_id, 1, status, reason, 0, admin.clock(), verdict="x", request="{}")
    admin.run(admin.services.store.write, record_attempts, [one])


def fill(admin: Admin) -> tuple[str, str]:
    """Two pipelines: minute 1 brings three events and a duplicate, minute 3 their ends, minute 4 refusals."""
    site, other = pipeline(admin, "Site", "Hook"), pipeline(admin, "Other")
    at_minute(admin, 1)
    refused = {"context": {"consent": {"categories": {"marketing": False}}}}
    admin.process(site, event("m1"), event("m2"), event("m3", **refused), event("m1"))
    admin.process(other, event("m1"))
    at_minute(admin, 3)
    settle(admin, 1, "delivered", None)
    settle(admin, 2, "dead", "http_400")
    at_minute(admin, 4)
    refuse(admin, site, "rate_limited", 3)
    refuse(admin, "", "invalid_key", 2)
    admin.clock.fixed_ms = NOW_MS
    return site, other


def told(bucket: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in bucket.items() if name != "start" and value}


def test_each_thing_is_in_the_bucket_of_its_time(admin: Admin) -> None:
    fill(admin)
    path = f"/stats?bucket=minute&from={iso_s(HOUR_START_MS)}&to={iso_s(HOUR_START_MS + 5 * MINUTE_MS)}"
    stats = admin.ok("GET", path, role="viewer")
    assert [one["start"] for one in stats["buckets"]] == [
        iso_s(HOUR_START_MS + minute * MINUTE_MS) for minute in range(5)
    ]
    assert [told(one) for one in stats["buckets"]] == [
        {},
        {"received": 5, "stored": 4, "duplicates": 1, "processed": 4, "dropped": {"consent": 1}},
        {},
        {"delivered": 1, "dead": {"http_400": 1}},
        {"received": 5, "rejected": {"invalid_key": 2, "rate_limited": 3}},
    ]
    assert told(stats["totals"]) == {
        "received": 10,
        "stored": 4,
        "duplicates": 1,
        "rejected": {"invalid_key": 2, "rate_limited": 3},
        "processed": 4,
        "delivered": 1,
        "dropped": {"consent": 1},
        "dead": {"http_400": 1},
    }


@pytest.mark.parametrize(("bucket", "count"), [("minute", 60), ("hour", 24), ("day", 30)])
def test_every_length_has_the_same_totals(admin: Admin, bucket: str, count: int) -> None:
    site, other = fill(admin)
    stats = admin.ok("GET", f"/stats?bucket={bucket}")
    assert (len(stats["buckets"]), stats["bucket"], stats["to"]) == (
        count,
        bucket,
        iso_s((NOW_MS // SPANS[bucket] + 1) * SPANS[bucket]),
    )
    assert stats["totals"]["received"] == 10
    assert admin.ok("GET", f"/stats?bucket={bucket}&pipeline_id={site}")["totals"]["received"] == 7
    of_other = admin.ok("GET", f"/stats?bucket={bucket}&pipeline_id={other}")
    assert told(of_other["totals"]) == {"received": 1, "stored": 1, "processed": 1}
    assert admin.ok("GET", f"/stats?bucket={bucket}&pipeline_id=pip_unknown")["totals"]["received"] == 0


def test_hours_are_the_default_and_the_bucket_of_now_is_the_last(admin: Admin) -> None:
    fill(admin)
    stats = admin.ok("GET", "/stats")
    assert stats["bucket"] == "hour"
    assert stats["buckets"][-1]["start"] == iso_s(HOUR_START_MS)
    assert stats["buckets"][-1]["stored"] == 4


def test_what_was_dead_and_then_delivered_is_told_for_both_times(admin: Admin) -> None:
    fill(admin)
    at_minute(admin, 10)
    admin.ok("POST", "/dead-letters/replay", {"filter": {}})
    at_minute(admin, 11)
    settle(admin, 2, "delivered", None)
    admin.clock.fixed_ms = NOW_MS
    stats = admin.ok("GET", "/stats?bucket=minute")
    told_at = {one["start"]: told(one) for one in stats["buckets"] if one["delivered"] or one["dead"]}
    assert told_at == {
        iso_s(HOUR_START_MS + 3 * MINUTE_MS): {"delivered": 1, "dead": {"http_400": 1}},
        iso_s(HOUR_START_MS + 11 * MINUTE_MS): {"delivered": 1},
    }


@pytest.mark.parametrize(
    "query",
    [
        "bucket=second",
        "from=yesterday",
        "from=2026-01-01&to=2025-01-01",
        f"from={iso_s(NOW_MS)}&to={iso_s(NOW_MS // DAY_MS * DAY_MS)}",
        "bucket=minute&from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z",
        "bucket=hour&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z",
        f"bucket=minute&from={iso_s(NOW_MS - DAY_MS - 2 * HOUR_MS)}&to={iso_s(NOW_MS)}",
        "bucket=day&from=2020-01-01T00:00:00Z",
        "bucket=day&from=0001-01-01T00:00:00Z",
        "bucket=day&to=9999-12-31T23:59:59Z&from=9999-12-31T23:59:59%2B14:00",
        "pipeline_id=" + "x" * 201,
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(admin: Admin, query: str) -> None:
    answer = admin.call("GET", f"/stats?{query}")
    assert error_of(answer) == (422, "VALIDATION_ERROR")


def test_a_year_of_days_can_be_asked_for(admin: Admin) -> None:
    fill(admin)
    stats = admin.ok("GET", f"/stats?bucket=day&from={iso_s(NOW_MS - 365 * DAY_MS)}")
    assert (len(stats["buckets"]), stats["totals"]["received"]) == (366, 10)


def test_old_minutes_and_hours_go_bit_by_bit_and_days_stay(admin: Admin) -> None:
    ages = [0, HOUR_MS, 3 * DAY_MS, 3 * DAY_MS + 5 * HOUR_MS, 3 * DAY_MS + 7 * HOUR_MS, 100 * DAY_MS]
    days = {(NOW_MS - age_ms) // DAY_MS for age_ms in ages}

    def work(connection: sqlite3.Connection) -> dict[int, int]:
        tallies.add(connection, [Tally(NOW_MS - age_ms, "pip_1", "stored") for age_ms in ages])
        tallies.trim(connection, NOW_MS)
        first = _starts(connection)[MINUTE_MS]
        for _ in range(400):
            tallies.trim(connection, NOW_MS)
        assert first > _starts(connection)[MINUTE_MS]
        return _starts(connection)

    assert admin.run(admin.services.store.write, work) == {MINUTE_MS: 2, HOUR_MS: 5, DAY_MS: len(days)}


def _starts(connection: sqlite3.Connection) -> dict[int, int]:
    """How many spans of each length are there."""
    query = "SELECT span_ms, count(DISTINCT start_ms) FROM tallies GROUP BY span_ms"
    return dict(connection.execute(query).fetchall())


def test_refusals_trim_also_where_nothing_is_refused(admin: Admin) -> None:
    def work(connection: sqlite3.Connection) -> dict[int, int]:
        tallies.add(connection, [Tally(NOW_MS - 3 * DAY_MS, "pip_1", "stored"), Tally(NOW_MS, "pip_1", "x")])
        refused_events.add(connection, [Refusals([], {}, NOW_MS)])
        return _starts(connection)

    assert admin.run(admin.services.store.write, work)[MINUTE_MS] == 1


def test_stats_read_tallies_and_nothing_else(admin: Admin) -> None:
    """So they cost the same with ten million events."""
    read: set[str] = set()

    def look(connection: sqlite3.Connection) -> None:
        def note(action: int, table: str | None, *_: Any) -> int:
            if action == sqlite3.SQLITE_READ and table:
                read.add(table)
            return sqlite3.SQLITE_OK

        connection.set_authorizer(note)
        tallies.buckets(connection, HOUR_MS, 0, NOW_MS, "pip_1")
        tallies.buckets(connection, HOUR_MS, 0, NOW_MS, None)
        connection.set_authorizer(None)

    admin.run(admin.services.store.read, look)
    assert read == {"tallies"}

"""One integration never hurts another, and nothing is lost between two starts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datafly_lite.delivery import attachment as attachment_worker
from datafly_lite.delivery.attachment import PAGE_BYTES, PAGE_ROWS
from datafly_lite.delivery.breaker import FAILURES_TO_OPEN
from datafly_lite.errors import StorageUnavailable
from datafly_lite.events import DeliveryStatus
from datafly_lite.store import Store
from datafly_lite.store.deliveries import Attempted, due, record_attempts
from kit import RecordingVendor, VendorAnswer, free_port
from outbox_kit import Outbox, delivering, outbox, until

pytestmark = pytest.mark.anyio


async def test_a_dead_vendor_does_not_delay_another(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        dead = await box.attach(url=f"http://127.0.0.1:{free_port()}/")
        alive = await box.attach(url=vendor.url)
        await box.queue([dead, alive], 300)
        async with delivering(box, chance=1.0):
            await box.until(alive, delivered=300)
            await box.until(dead, pending=300)
        attempts = await box.rows("SELECT count(*) AS n FROM delivery_attempts WHERE verdict = 'retry'")
    assert sorted(vendor.message_ids) == sorted(f"m-{number}" for number in range(1, 301))
    # The breaker: an outage costs a few of the waiting events one attempt, not all of them.
    assert attempts[0]["n"] <= FAILURES_TO_OPEN + 8 + 3


async def test_a_hanging_vendor_holds_only_its_own_places(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = [VendorAnswer(delay_s=60.0)] * 8
    async with outbox(tmp_path) as box:
        slow = await box.attach(url=f"{vendor.url}slow")
        await box.queue([slow], 20)
        async with delivering(box, shutdown_timeout_s=0.2) as delivery:
            await until(lambda: has_received(vendor, 8), "all places of the slow one are taken")
            alive = await box.attach(url=f"{vendor.url}alive")
            await box.queue([alive], 50)
            delivery.wake([alive])
            await box.until(alive, delivered=50)
        await box.until(slow, pending=20)
    assert [one.path for one in vendor.received].count("/slow") == 8


async def has_received(vendor: RecordingVendor, number: int) -> bool:
    return len(vendor.received) >= number


async def test_stopping_is_bounded_and_loses_nothing(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = [VendorAnswer(delay_s=60.0)]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box, shutdown_timeout_s=0.2):
            await until(lambda: has_received(vendor, 1), "it is under way")
        await box.until(attachment, pending=1)
        assert await box.attempts() == []


async def test_stopping_lets_what_is_under_way_finish(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = [VendorAnswer(delay_s=0.2)]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 3)
        async with delivering(box, delivery_concurrency=1):
            await until(lambda: has_received(vendor, 1), "it is under way")
        await box.until(attachment, delivered=1, pending=2)
    assert vendor.message_ids == ["m-1"]


async def test_a_crash_between_sending_and_recording_sends_again_with_the_same_id(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    vendor.answers = [VendorAnswer(delay_s=60.0)]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box, crash=True):
            await until(lambda: has_received(vendor, 1), "it is sent")
    async with outbox(tmp_path) as box:
        async with delivering(box):
            await box.until(attachment, delivered=1)
        (attempt,) = await box.attempts()
    assert [one.headers["webhook-id"] for one in vendor.received] == ["m-1", "m-1"]
    assert attempt["attempt"] == 1


async def test_a_restart_goes_on_where_it_stopped(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 500)
        async with delivering(box, delivery_concurrency=2):
            await until(lambda: has_received(vendor, 20), "some are sent")
    first = len(vendor.received)
    async with outbox(tmp_path) as box, delivering(box):
        await box.until(attachment, delivered=500)
    assert first < 500
    assert len(vendor.received) == 500
    assert len(set(vendor.message_ids)) == 500


async def test_the_oldest_goes_first(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 5, now_ms=2_000)
        await box.queue([attachment], 5, now_ms=1_000)
        async with delivering(box, delivery_concurrency=1):
            await box.until(attachment, delivered=10)
    assert vendor.message_ids == [f"m-{number}" for number in (6, 7, 8, 9, 10, 1, 2, 3, 4, 5)]


async def test_an_attachment_made_or_removed_while_running(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box, delivering(box) as delivery:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        delivery.wake([attachment, "pi_unknown"])
        await box.until(attachment, delivered=1)
        await box.execute("DELETE FROM pipeline_integrations")
        await box.configuration.reload()
        other = await box.attach(url=vendor.url)
        await box.queue([attachment, other])
        delivery.wake([attachment, other])
        await box.until(other, delivered=1)
        await box.until(attachment, delivered=1, pending=1)


class FullStore:
    """The real store, which for a while takes no outcomes."""

    def __init__(self, inner: Store, refusals: int) -> None:
        self._inner = inner
        self.refusals = refusals

    async def read(self, work: Callable[..., Any], *args: Any) -> Any:
        return await self._inner.read(work, *args)

    async def write(self, work: Callable[..., Any], *args: Any) -> Any:
        if work is record_attempts and self.refusals > 0:
            self.refusals -= 1
            raise StorageUnavailable("the disk is full")
        return await self._inner.write(work, *args)


async def test_outcomes_wait_for_a_full_store_and_nothing_is_sent_twice(
    vendor: RecordingVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment_worker, "STORE_PAUSE_S", 0.01)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 30)
        async with delivering(box, store=FullStore(box.store, refusals=5)):
            await box.until(attachment, delivered=30)
    assert sorted(vendor.message_ids) == sorted(f"m-{number}" for number in range(1, 31))


async def test_a_store_that_stays_full_does_not_stop_the_stop(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box, store=FullStore(box.store, refusals=10**9), shutdown_timeout_s=0.2):
            await until(lambda: has_received(vendor, 1), "it is sent")
        await box.until(attachment, pending=1)


async def test_a_delivery_removed_meanwhile_leaves_no_trace(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = [VendorAnswer(delay_s=0.3)]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box):
            await until(lambda: has_received(vendor, 1), "it is sent")
            await box.execute("DELETE FROM deliveries")
        assert await box.attempts() == []
        assert await box.deliveries(attachment) == []


# ── Pages ────────────────────────────────────────────────────────────────────────────────────


async def page(box: Outbox, attachment: str, **changes: Any) -> Any:
    arguments = {"now_ms": 10_000, "limit": PAGE_ROWS, "limit_bytes": PAGE_BYTES, **changes}
    return await box.store.read(due, attachment, *arguments.values())


async def test_a_page_is_bounded_in_rows_and_bytes_and_says_when_to_look_again(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url="https://vendor.example/")
        await box.queue([attachment], 5, now_ms=1_000)
        await box.queue([attachment], 2, now_ms=20_000)
        everything = await page(box, attachment)
        two = await page(box, attachment, limit=2)
        small = await page(box, attachment, limit_bytes=1)
        others = await page(box, attachment, limit=2, under_way=frozenset({1, 2, 3}))
        nothing = await page(box, attachment, now_ms=500)
        nobody = await page(box, "pi_other")
    assert ([one.id for one in everything.due], everything.next_due_at_ms) == ([1, 2, 3, 4, 5], 20_000)
    assert ([one.id for one in two.due], two.next_due_at_ms) == ([1, 2], 10_000)
    assert [one.id for one in small.due] == [1]
    assert [one.id for one in others.due] == [4, 5]
    assert (nothing.due, nothing.next_due_at_ms) == ([], 1_000)
    assert (nobody.due, nobody.next_due_at_ms) == ([], None)


async def test_a_page_is_read_by_its_index_without_sorting(tmp_path: Path) -> None:
    statements: list[str] = []

    def traced(connection: sqlite3.Connection) -> list[str]:
        connection.set_trace_callback(statements.append)
        due(connection, "pi_1", 0, 1, 1)
        connection.set_trace_callback(None)
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {one}").fetchall() for one in statements]
        return [row["detail"] for plan in plans for row in plan]

    async with outbox(tmp_path) as box:
        details = await box.store.read(traced)
    assert len(statements) == 2
    assert [one for one in details if "deliveries_due" in one]
    assert not [one for one in details if "TEMP B-TREE" in one or one.startswith("SCAN")]


async def test_a_clock_that_was_ahead_does_not_put_off_for_years(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 3)
        await box.execute("UPDATE deliveries SET next_attempt_at_ms = next_attempt_at_ms + 315360000000")
        async with delivering(box):
            await box.until(attachment, delivered=3)


async def test_what_was_delivered_while_it_was_detached_is_delivered(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url="https://example.com/")
        await box.queue([attachment], 1)
        (row,) = await box.deliveries(attachment)
        await box.execute("UPDATE deliveries SET status = 'dropped', reason = 'detached'")
        done = Attempted(row["id"], 1, DeliveryStatus.DELIVERED, None, 0, 1)
        await box.store.write(record_attempts, [done])
        assert [one["status"] for one in await box.deliveries(attachment)] == ["delivered"]

"""The log: commit before the answer, deduplication, the tail and its holes, catch-up after a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from datafly_lite.errors import StorageBusy, StorageUnavailable
from datafly_lite.events import Record
from datafly_lite.store import message_ids, raw_events
from datafly_lite.store.raw_events import Appender
from path_kit import NOON_MS, PIPELINE, EventPath, arrival, open_path

pytestmark = pytest.mark.anyio

DAY_MS = raw_events.DAY_MS


async def read_all(path: EventPath, after: int = 0, limit: int = 50) -> list[Record]:
    records: list[Record] = []
    while after < path.log.end:
        records += await path.log.read(after, limit)
        after = records[-1].offset
    return records


def ids(records: list[Record]) -> list[str]:
    return [record.envelope.message_id for record in records]


async def test_what_is_appended_is_read_in_order(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        for number in range(120):
            await path.send(arrival(f"m-{number}"))
        records = await read_all(path)
        assert ids(records) == [f"m-{number}" for number in range(120)]
        assert [record.offset for record in records] == list(range(1, 121))


async def test_the_table_gives_what_the_tail_gave(data_dir: Path) -> None:
    """Any event that is accepted comes back equal from the store."""
    async with open_path(data_dir) as path:
        await path.send(
            arrival("m-1", properties={"price": 79.99, "n": 2**63, "text": "é\0\ud7ff😀", "deep": [{}]})
        )
        from_tail = await path.log.read(0, 10)
        from_table = await path.log.read(0, 10)  # the tail is empty now
        assert from_tail == from_table
        assert from_tail[0] is not from_table[0]


async def test_a_full_tail_leaves_holes_that_the_table_fills(data_dir: Path) -> None:
    async with open_path(data_dir, tail_events=7) as path:
        for number in range(100):
            await path.send(arrival(f"m-{number}"))
        first = await path.log.read(0, 5)
        for number in range(100, 110):
            await path.send(arrival(f"m-{number}"))
        rest = await read_all(path, first[-1].offset, 5)
        assert ids(first + rest) == [f"m-{number}" for number in range(110)]


async def test_a_restart_reads_on_from_the_table(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(*[arrival(f"m-{number}") for number in range(10)])
    async with open_path(data_dir) as path:
        assert path.log.end == 10
        await path.send(arrival("m-10"))
        assert ids(await read_all(path, 4)) == [f"m-{number}" for number in range(4, 11)]


@pytest.mark.parametrize(
    ("later_ms", "is_duplicate"),
    [(1_000, True), (6 * DAY_MS, True), (8 * DAY_MS, False)],
    ids=["1 s", "6 days", "8 days"],
)
async def test_a_message_id_counts_once_in_its_window(
    data_dir: Path, later_ms: int, is_duplicate: bool
) -> None:
    async with open_path(data_dir) as path:
        assert await path.send(arrival("same")) == [False]
        # Half a day apart, so that the segments rotate as they do under steady traffic.
        for step_ms in range(message_ids.SEGMENT_MS // 2, later_ms, message_ids.SEGMENT_MS // 2):
            await path.send(arrival(f"other-{step_ms}", at_ms=NOON_MS + step_ms))
        assert await path.send(arrival("same", at_ms=NOON_MS + later_ms)) == [is_duplicate]


async def test_duplicates_in_one_request_and_across_pipelines(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        assert await path.send(arrival("a"), arrival("b"), arrival("a")) == [False, False, True]
        assert await path.send(arrival("a", pipeline="pip_2")) == [False]
        assert await path.rows("SELECT count(*) AS n FROM raw_events") == [{"n": 3}]
        counters = await path.rows("SELECT pipeline_id, name, value FROM counters ORDER BY 1, 2")
        assert [tuple(one.values()) for one in counters] == [
            (PIPELINE, "duplicates", 1),
            (PIPELINE, "stored", 2),
            ("pip_2", "stored", 1),
        ]


async def test_a_duplicate_points_at_its_first_copy(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        first = await path.log.append([arrival("a"), arrival("b")])
        again = await path.log.append([arrival("b")])
        assert again[0].offset == first[1].offset
        assert await path.store.read(message_ids.find, PIPELINE, "b") == first[1].offset
        assert await path.store.read(message_ids.find, PIPELINE, "none") is None


async def test_an_event_that_todays_program_cannot_read_stays_in_the_log(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("old"))
        await path.store.write(lambda connection: connection.execute("UPDATE raw_events SET raw = x'7b'"))
        assert (await path.log.read(0, 1))[0].event is not None  # the tail still has it
        record = (await path.log.read(0, 1))[0]
        assert record.event is None
        assert record.raw == b"{"


async def test_a_transaction_that_failed_leaves_no_id_behind(data_dir: Path) -> None:
    """The writer's memory of ids runs ahead of the commit; what was not stored must not be a duplicate."""
    async with open_path(data_dir) as path:
        await path.send(arrival("kept"))
        await path.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        too_large = arrival("lost", properties={"text": "x" * 2_000_000})
        with pytest.raises(StorageUnavailable):
            await path.send(too_large)
        await path.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
        assert await path.send(too_large, arrival("kept")) == [False, True]
        assert ids(await read_all(path)) == ["kept", "lost"]


async def test_segments_close_when_full_and_still_know_their_ids(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_ids, "SEGMENT_ROWS", 10)
    async with open_path(data_dir) as path:
        for number in range(35):
            await path.send(arrival(f"m-{number}"))
        segments = await path.rows("SELECT segment, count(*) AS n FROM message_ids GROUP BY segment")
        assert [one["n"] for one in segments] == [10, 10, 10]
        assert await path.rows("SELECT count(*) AS n FROM recent_message_ids") == [{"n": 5}]
        assert await path.send(arrival("m-3"), arrival("m-34")) == [True, True]
    async with open_path(data_dir) as path:
        assert await path.send(arrival("m-3"), arrival("m-34"), arrival("m-35")) == [True, True, False]
        assert await path.store.read(message_ids.find, PIPELINE, "m-17") == 18


async def test_an_event_whose_sender_went_away_is_processed_all_the_same(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        future = path.log.append([arrival("m-1")])
        future.cancel()
        await path.send(arrival("m-2"))
        assert path.log.end == 2
        assert ids(await read_all(path)) == ["m-1", "m-2"]


async def test_batches_share_a_commit_by_their_events(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        before = path.store.writer.commits
        requests = [[arrival(f"m-{request}-{number}") for number in range(400)] for request in range(5)]
        futures = [path.log.append(arrivals) for arrivals in requests]
        for future in futures:
            await future
        assert path.store.writer.commits - before == 3, "at most 1,000 events a commit"
        assert path.log.end == 2_000


async def test_a_full_queue_is_busy_and_nothing_of_the_request_is_stored(data_dir: Path) -> None:
    async with open_path(data_dir, queue_limit=10) as path:
        waiting = [path.log.append([arrival(f"m-{number}")]) for number in range(10)]
        with pytest.raises(StorageBusy):
            path.log.append([arrival("m-10")])
        for future in waiting:
            await future
        assert await path.send(arrival("m-10")) == [False]
        assert path.log.end == 11


async def test_a_failed_transaction_is_seen_though_its_last_batch_was_all_duplicates(data_dir: Path) -> None:
    """Two batches of one transaction, the second without anything new: neither may be remembered."""
    appender = Appender(7)

    def append_twice_and_fail(connection: sqlite3.Connection) -> None:
        assert appender.append(connection, [[arrival("m-1")]])[0][0].duplicate is False
        assert appender.append(connection, [[arrival("m-1")]])[0][0].duplicate is True
        raise LookupError("the transaction fails")

    async with open_path(data_dir) as path:
        with pytest.raises(LookupError):
            await path.store.write(append_twice_and_fail)
        placed = await path.store.write(appender.append, [[arrival("m-1")]])
        assert [tuple(one) for one in placed[0]] == [(1, False)]
        assert await path.rows("SELECT count(*) AS n FROM raw_events") == [{"n": 1}]

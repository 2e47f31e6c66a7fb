"""The one writer: what shares a commit, what fails alone, what is refused."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable
from pathlib import Path

import anyio
import pytest

from datafly_lite.errors import StorageBroken, StorageUnavailable
from datafly_lite.store import Store
from kit import open_store

pytestmark = pytest.mark.anyio


def create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)")


def create_one(connection: sqlite3.Connection, items: list[None]) -> list[bool]:
    create(connection)
    return [True for _ in items]


def add(connection: sqlite3.Connection, text: str) -> int | None:
    return connection.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid


def add_all(connection: sqlite3.Connection, texts: list[str]) -> list[int | None]:
    return [add(connection, text) for text in texts]


def add_then_fail(connection: sqlite3.Connection, text: str) -> None:
    add(connection, text)
    raise LookupError(text)


def texts(connection: sqlite3.Connection) -> list[str]:
    return [row["text"] for row in connection.execute("SELECT text FROM notes ORDER BY id")]


async def outcomes(*writes: Awaitable[object]) -> list[object]:
    """Start all writes before the writer's next commit; a result or an exception each, in order."""
    found: list[object] = [None] * len(writes)

    async def one(place: int, write: Awaitable[object]) -> None:
        try:
            found[place] = await write
        except Exception as error:
            found[place] = error

    async with anyio.create_task_group() as tasks:
        for place, write in enumerate(writes):
            tasks.start_soon(one, place, write)
    return found


async def test_writes_that_wait_together_share_one_commit(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        before = store.writer.commits
        found = await outcomes(*(store.write(add, f"note {number}") for number in range(50)))
        assert found == list(range(1, 51))
        assert store.writer.commits == before + 1
        assert store.writer.commit_seconds > 0


async def test_a_failing_write_is_undone_and_leaves_the_others(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        before = store.writer.commits
        found = await outcomes(
            store.write(add, "first"),
            store.write(add_then_fail, "undone"),
            store.write(add, "first"),  # breaks UNIQUE: the work's own sqlite3 error
            store.write(add, "last"),
        )
        assert [type(one) for one in found] == [int, LookupError, sqlite3.IntegrityError, int]
        assert store.writer.commits == before + 1
        assert await store.read(texts) == ["first", "last"]


async def test_a_batched_function_is_called_once_and_answers_each_item(data_dir: Path) -> None:
    calls: list[int] = []

    def counted(connection: sqlite3.Connection, items: list[str]) -> list[int | None]:
        calls.append(len(items))
        return add_all(connection, items)

    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        futures = [store.writer.write_batched(counted, f"note {number}") for number in range(20)]
        assert await outcomes(*futures) == list(range(1, 21))
        assert calls == [20]


async def test_a_batched_function_that_fails_fails_its_items_alone(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        batched = [store.writer.write_batched(add_all, text) for text in ("same", "same")]
        found = await outcomes(*batched, store.write(add, "other"))
        assert [type(one) for one in found] == [sqlite3.IntegrityError, sqlite3.IntegrityError, int]
        assert await store.read(texts) == ["other"]


async def test_work_runs_in_the_order_it_came(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        first = [store.writer.write_batched(add_all, f"a{number}") for number in range(2)]
        between = store.writer.write_batched(lambda connection, items: add_all(connection, items), "b")
        last = store.writer.write_batched(add_all, "a2")
        await outcomes(*first, between, last)
        assert await store.read(texts) == ["a0", "a1", "b", "a2"]


async def test_a_full_queue_is_refused_at_once_and_empties_again(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db", queue_limit=3) as store:
        await store.write(create)
        waiting = [store.writer.write_batched(add_all, f"note {number}") for number in range(3)]
        assert store.writer.waiting == 3
        with pytest.raises(StorageUnavailable, match="busy") as refused:
            store.writer.write_batched(add_all, "too many")
        assert refused.value.retry_after_s > 0
        with pytest.raises(StorageUnavailable):
            await store.write(add, "too many")
        await outcomes(*waiting)
        await store.write(add, "room again")
        assert await store.read(texts) == ["note 0", "note 1", "note 2", "room again"]


async def test_a_caller_that_gives_up_does_not_undo_the_write(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        with anyio.move_on_after(0) as gave_up:
            await store.write(add, "kept")
        await store.write(add, "next")
        assert gave_up.cancelled_caught
        assert await store.read(texts) == ["kept", "next"]


async def test_stop_commits_what_waits_and_refuses_the_rest(data_dir: Path) -> None:
    store = await Store.open(data_dir / "datafly.db")
    created = store.writer.write_batched(create_one, None)
    kept = store.writer.write_batched(add_all, "kept")
    store.writer.stop()
    with pytest.raises(StorageUnavailable, match="stopping"):
        store.writer.write_batched(add_all, "late")
    await store.writer.run()
    assert [await created, await kept] == [True, 1]
    assert await store.read(texts) == ["kept"]
    await store.close()


async def test_a_reader_cannot_write(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store.read(add, "by a reader")


async def test_a_read_sees_one_snapshot(data_dir: Path) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(connection: sqlite3.Connection) -> list[list[str]]:
        first = texts(connection)
        looked.set()
        assert written.wait(10)
        return [first, texts(connection)]

    async with open_store(data_dir / "datafly.db") as store:
        await store.write(create)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_between, store, looked, written)
            assert await store.read(look_twice) == [[], []]
        assert await store.read(texts) == ["between"]


async def write_between(store: Store, looked: threading.Event, written: threading.Event) -> None:
    await anyio.to_thread.run_sync(looked.wait, 10)
    await store.write(add, "between")
    written.set()


async def test_an_error_that_could_hide_a_loss_stops_the_writer(data_dir: Path) -> None:
    """SQLITE_BUSY in spite of the lock file means a second writer: nothing it commits may be believed."""
    store = await Store.open(data_dir / "datafly.db")

    async def run() -> None:
        with pytest.raises(StorageBroken):
            await store.writer.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await store.write(lambda connection: connection.execute("PRAGMA busy_timeout = 1").fetchone())
        other = sqlite3.connect(data_dir / "datafly.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageBroken):
            await store.write(add, "lost")
        other.close()
        with pytest.raises(StorageBroken):
            await store.write(add, "refused")
    await store.close()

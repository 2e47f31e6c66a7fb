"""What a full or failing disk does to readiness, to the processor and to the stop."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from datafly_lite import health as health_module
from datafly_lite.errors import StorageBroken, StorageUnavailable
from datafly_lite.health import Health
from kit import open_store
from path_kit import arrival, open_path

pytestmark = pytest.mark.anyio


async def writer_check(health: Health) -> dict[str, Any]:
    return next(one for one in await health.checks() if one["name"] == "writer")


async def test_ready_says_that_commits_fail_and_that_they_work_again(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        health = Health(path.store, data_dir, 0, lambda: 0)
        assert await writer_check(health) == {"name": "writer", "ok": True, "detail": "commits"}
        await path.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(StorageUnavailable):
            await path.send(arrival("m-1", properties={"t": "x" * 2_000_000}))
        assert await writer_check(health) == {
            "name": "writer",
            "ok": False,
            "detail": "database or disk is full",
        }
        await path.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
        assert (await writer_check(health))["ok"]


async def test_ready_says_that_a_commit_hangs(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "SLOW_COMMIT_S", 0.05)
    async with open_path(data_dir) as path, anyio.create_task_group() as tasks:
        health = Health(path.store, data_dir, 0, lambda: 0)
        release = threading.Event()
        tasks.start_soon(path.store.write, lambda connection: release.wait(20))
        with anyio.fail_after(20):
            while (await writer_check(health))["ok"]:  # noqa: ASYNC110 - time passing is what it waits for
                await anyio.sleep(0.01)
        assert (await writer_check(health))["detail"].startswith("a commit has been under way for")
        release.set()


async def test_a_full_disk_keeps_events_waiting_and_does_not_keep_the_stop(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(*[arrival(f"m-{number}", properties={"t": "x" * 20_000}) for number in range(50)])
        await path.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(path.processor.run)
                while path.store.writer.trouble is None:  # noqa: ASYNC110 - it has no event to wait for
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
        assert path.processor.position == 0
        await path.store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
        await path.process()
        assert await path.rows("SELECT count(*) AS n FROM events") == [{"n": 50}]


def unreadable(_: sqlite3.Connection) -> None:
    """What SQLite raises when a page cannot be read: the disk is the seam."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


async def read_from_a_failing_disk(database: Path) -> None:
    async with open_store(database) as store:
        with pytest.raises(StorageBroken):
            await store.read(unreadable)
        with pytest.raises(StorageBroken):
            await store.write(lambda connection: None)


async def test_an_io_error_that_a_reader_meets_breaks_the_store_for_all(tmp_path: Path) -> None:
    """The writer's own run ends with it too, and so does the process."""
    with pytest.raises(ExceptionGroup) as group:
        await read_from_a_failing_disk(tmp_path / "datafly.db")
    assert group.group_contains(StorageBroken)

"""Full disks and I/O errors: what was acknowledged stays, what was not is said to be not."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from acknowledge import BROKEN_EXIT_CODE, create
from datafly_lite.errors import StorageUnavailable
from datafly_lite.store import Store
from kit import open_store

ACKNOWLEDGE = Path(__file__).parent / "acknowledge.py"
MIB = 1024 * 1024


class SmallDisk(NamedTuple):
    """A folder with little room, and how to make more."""

    folder: Path
    limit: Callable[[Store], Awaitable[None]]
    free: Callable[[Store], Awaitable[None]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A tmpfs of 6 MiB as root; a bound on the database's own pages, with the same error, for others."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(mount_of(folder), capture_output=True).returncode != 0:
        yield SmallDisk(folder, page_limit(1_000), page_limit(100_000))
        return
    ballast = folder / "ballast"
    try:
        yield SmallDisk(folder, write_ballast(ballast), remove_ballast(ballast))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount_of(folder: Path) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]


def page_limit(pages: int) -> Callable[[Store], Awaitable[None]]:
    def pragma(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    async def limit(store: Store) -> None:
        await store.write(pragma)

    return limit


def write_ballast(ballast: Path) -> Callable[[Store], Awaitable[None]]:
    async def limit(store: Store) -> None:
        await anyio.Path(ballast).write_bytes(bytes(2 * MIB))

    return limit


def remove_ballast(ballast: Path) -> Callable[[Store], Awaitable[None]]:
    async def free(store: Store) -> None:
        await anyio.Path(ballast).unlink()

    return free


def add(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("INSERT INTO notes VALUES (?, ?)", (number, "x" * 20_000))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT id FROM notes ORDER BY id")]


async def fill(store: Store) -> tuple[list[int], StorageUnavailable]:
    """Write until the disk is full: the numbers that were acknowledged, and the refusal."""
    acknowledged: list[int] = []
    for number in range(1_000):
        try:
            await store.write(add, number)
        except StorageUnavailable as refused:
            return acknowledged, refused
        acknowledged.append(number)
    raise AssertionError("the disk did not fill up")


def test_a_full_disk_refuses_and_recovers_when_there_is_room(small_disk: SmallDisk) -> None:
    path = small_disk.folder / "datafly.db"

    async def run() -> None:
        async with open_store(path, readers=1) as store:
            await store.write(create)
            await small_disk.limit(store)
            acknowledged, refused = await fill(store)
            assert str(refused) == "the disk is full"
            assert refused.retry_after_s > 0
            assert len(acknowledged) > 10
            assert await store.read(numbers) == acknowledged
            assert store.writer.broken is None
            await small_disk.free(store)
            await store.write(add, 1_000)
            assert await store.read(numbers) == [*acknowledged, 1_000]

    anyio.run(run)
    assert integrity(path) == "ok"


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return found


@pytest.mark.parametrize("failing_sync", [4, 9, 23])
def test_a_failed_sync_stops_the_writer_and_loses_nothing_acknowledged(
    data_dir: Path, failing_sync: int
) -> None:
    """The sync after a failed one succeeds although pages are gone (design.md, 4.4)."""
    path = data_dir / "datafly.db"
    subprocess.run([sys.executable, ACKNOWLEDGE, path, "0"], check=True)
    trace = data_dir / "trace"
    strace = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=fsync,fdatasync"]
    inject = ["-e", f"inject=fsync,fdatasync:error=EIO:when={failing_sync}"]
    command = [*strace, *inject, sys.executable, str(ACKNOWLEDGE), str(path), "200"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert ended.returncode == BROKEN_EXIT_CODE
    acknowledged = [int(number) for number in re.findall(r"^acknowledged (\d+)$", ended.stdout, re.MULTILINE)]
    assert 0 < len(acknowledged) < 200
    with closing(sqlite3.connect(path)) as connection:
        stored = numbers(connection)
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) - len(acknowledged) in {0, 1}, "at most the one whose sync failed is there too"
    assert integrity(path) == "ok"

"""One SQLite file: one writing connection, a few read-only ones, a lock against a second process.

WAL with synchronous=FULL: 200 simulated power losses lost no acknowledged row (design.md, 4.2).
SQLite 3.7.0 to 3.51.2 can corrupt a WAL file when two connections write or checkpoint at once
(sqlite.org/wal.html#walresetbug), and Python's own sqlite3 is often that old. So only the writer
writes and checkpoints, readers are `query_only` with `wal_autocheckpoint=0`, and there is no mmap.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio

from datafly_lite.errors import StorageRefused
from datafly_lite.store.migrations import migrate
from datafly_lite.store.writer import Writer, is_lost

T = TypeVar("T")

CHECKPOINT_PAGES = 8_000
"""Of 4 KB: 8,000 instead of SQLite's 1,000 brought the p99 at 500 events/s from 4.5 to 2.6 ms (stack.md)."""

READER_CACHE_KIB = 4_096
WRITER_CACHE_KIB = 32_768


class Connection(aiosqlite.Connection):
    """A connection whose thread takes whole functions: one hop for a whole transaction."""

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Call `work(connection, *args)` on the connection's thread."""
        execute: Callable[..., Awaitable[T]] = self._execute
        return await execute(work, self._conn, *args)

    async def ended(self) -> None:
        """Wait for the thread of a connection that did not open: it answers to this event loop once more."""
        await anyio.to_thread.run_sync(self._thread.join)


class Store:
    """The open store. `write` and `read` take functions from this package."""

    def __init__(self, path: Path, writer: Writer, readers: list[Connection], lock: int) -> None:
        self.path = path
        self.writer = writer
        self._readers = readers
        self._idle, self._taken = anyio.create_memory_object_stream[Connection](len(readers))
        for reader in readers:
            self._idle.send_nowait(reader)
        self._lock = lock

    @classmethod
    async def open(
        cls, path: Path, *, synchronous: str = "FULL", readers: int = 4, queue_limit: int = 10_000
    ) -> Store:
        """Lock, migrate and open. Raises StorageRefused with what to do about it."""
        lock = _lock(path)
        opened: list[Connection] = []
        try:
            opened.append(await _connect(path, lambda: _open_writer(path, synchronous)))
            for _ in range(readers):
                # One by one, so that what is open is known if the next one fails.
                opened.append(await _connect(path, lambda: _open_reader(path)))  # noqa: PERF401
        except BaseException:
            for connection in reversed(opened):
                await connection.close()
            os.close(lock)
            raise
        writing, *reading = opened
        return cls(path, Writer(writing.run, queue_limit=queue_limit, close=writing.close), reading, lock)

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work(connection, *args)` in a transaction; return its result after commit and fsync.

        Raises what `work` raises, with its changes undone, and StorageUnavailable or StorageBroken.
        """
        return await self.writer.write(work, *args)

    async def read(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work(connection, *args)` on a read-only connection, in one snapshot."""
        reader = await self._taken.receive()
        try:
            return await reader.run(_in_snapshot, work, *args)
        except sqlite3.Error as error:
            if is_lost(error):  # after an I/O error nothing can be trusted, whoever met it (design.md, 4.4)
                raise self.writer.give_up(error) from None
            raise
        finally:
            self._idle.send_nowait(reader)

    async def close(self) -> None:
        """Close the readers, then the writer, whose close checkpoints the WAL; release the lock."""
        for reader in self._readers:
            await reader.close()
        await self.writer.close()
        self._idle.close()
        self._taken.close()
        os.close(self._lock)


def _in_snapshot(connection: sqlite3.Connection, work: Callable[..., T], *args: Any) -> T:
    connection.execute("BEGIN")
    try:
        return work(connection, *args)
    finally:
        connection.rollback()


def _lock(path: Path) -> int:
    """An exclusive lock on a file beside the database; the kernel drops it with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageRefused(f"the data folder {path.parent} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StorageRefused(f"another datafly-lite is running on {path.parent}: stop it first") from None
    return descriptor


async def _connect(path: Path, connector: Callable[[], sqlite3.Connection]) -> Connection:
    connection = Connection(connector, iter_chunk_size=64)
    try:
        await connection
        return connection
    except BaseException as error:
        await connection.ended()
        if isinstance(error, sqlite3.Error):
            raise StorageRefused(
                f"{path} cannot be opened: {error}; is it a database of this program?"
            ) from None
        raise


def _open_writer(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare_writer(connection, path, synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_writer(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    # busy_timeout first: the other way round a start can fail with 'database is locked' (stack.md).
    connection.execute("PRAGMA busy_timeout = 5000")
    # Before the journal mode, which would change a file that is then refused.
    migrate(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute("PRAGMA secure_delete = ON")
    connection.row_factory = sqlite3.Row


def _open_reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    connection.row_factory = sqlite3.Row
    return connection

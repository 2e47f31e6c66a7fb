"""The one writer: all that waits goes into one transaction, and is answered after its fsync.

Two tasks that share a connection share a transaction: one's commit saved what the other later
rolled back (design.md, 4.1). So changes arrive as whole functions, in order, and this is the only
task that runs them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import structlog

from datafly_lite.errors import StorageBroken, StorageBusy, StorageError, StorageUnavailable

T = TypeVar("T")
ItemT = TypeVar("ItemT")
Batch = Callable[[sqlite3.Connection, list[ItemT]], list[T]]

MAX_ROWS_A_COMMIT = 1_000
"""More rows a commit raise the latency, not the rate: 3,100 of them took 200 ms at the median (stack.md)."""

DISK_CODES = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)

LOST_CODES = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}
)

log = structlog.get_logger(__name__)


class _Job:
    """Work with the items and futures that wait for it: one each, or many for a batched function."""

    __slots__ = ("batched", "failure", "futures", "items", "results", "rows", "work")

    def __init__(self, work: Callable[..., Any], *, batched: bool) -> None:
        self.work = work
        self.batched = batched
        self.items: list[Any] = []
        self.rows = 0
        self.futures: list[asyncio.Future[Any]] = []
        self.results: list[Any] = []
        self.failure: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Undo this job alone when it fails: the others of the transaction are not its business."""
        connection.execute("SAVEPOINT job")
        try:
            self.results = (
                self.work(connection, self.items) if self.batched else [self.work(connection, *self.items[0])]
            )
        except Exception as error:
            if _is_disk(error):
                raise  # not the work's fault: the whole transaction fails
            connection.execute("ROLLBACK TO job")
            self.failure = error
        connection.execute("RELEASE job")

    def settle(self) -> None:
        if self.failure is not None:
            self.fail(self.failure)
            return
        for future, result in zip(self.futures, self.results, strict=True):
            if not future.done():
                future.set_result(result)

    def fail(self, error: BaseException) -> None:
        for future in self.futures:
            if not future.done():
                future.set_exception(error)


class Writer:
    """Owns the writing connection. `run_in_thread` calls a function on its thread."""

    def __init__(
        self,
        run_in_thread: Callable[..., Awaitable[Any]],
        *,
        queue_limit: int,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._run_in_thread = run_in_thread
        self._close = close
        self._queue_limit = queue_limit
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self.broken: StorageBroken | None = None
        self.trouble: str | None = None
        """What the last commit failed with; None after one that did not."""
        self._began_s: float | None = None
        self.commits = 0
        self.commit_seconds = 0.0

    @property
    def waiting(self) -> int:
        """How many rows wait for their commit; a change that is not batched counts as one."""
        return self._waiting

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work(connection, *args)` in the next transaction; its result after the commit."""
        job = _Job(work, batched=False)
        self._jobs.append(job)
        result: T = await self._enqueue(job, args)
        return result

    def write_batched(self, work: Batch[ItemT, T], item: ItemT, rows: int = 1) -> asyncio.Future[T]:
        """Add `item`, which is `rows` rows, to the next call of `work(connection, items)`.

        `work` gives one result an item. Raises StorageUnavailable at once when the queue is full.
        """
        job = self._jobs[-1] if self._jobs else None
        if job is None or job.work is not work or job.rows + rows > MAX_ROWS_A_COMMIT:
            job = _Job(work, batched=True)
            self._jobs.append(job)
        return self._enqueue(job, item, rows)

    def _enqueue(self, job: _Job, item: Any, rows: int = 1) -> asyncio.Future[Any]:
        refusal = self._refusal()
        if refusal is not None:
            if not job.items:
                self._jobs.remove(job)
            raise refusal
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job.items.append(item)
        job.futures.append(future)
        job.rows += rows
        self._waiting += rows
        self._wake.set()
        return future

    def _refusal(self) -> StorageError | None:
        if self._stopping:
            return self.broken or StorageUnavailable("the store is stopping")
        return self.broken or (
            StorageBusy("the store is busy") if self._waiting >= self._queue_limit else None
        )

    async def run(self) -> None:
        """Commit what waits until `stop` was called and nothing waits. Raises StorageBroken."""
        while True:
            if self.broken is not None:
                raise self.broken
            if not self._jobs:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._commit(self._take())

    def stop(self) -> None:
        """Take nothing more; `run` returns when all that waits is committed."""
        self._stopping = True
        self._wake.set()

    async def close(self) -> None:
        """Close the connection, which checkpoints the WAL."""
        await self._close()

    def _take(self) -> list[_Job]:
        taken: list[_Job] = []
        rows = 0
        while self._jobs and (not taken or rows + self._jobs[0].rows <= MAX_ROWS_A_COMMIT):
            taken.append(self._jobs.popleft())
            rows += taken[-1].rows
        self._waiting -= rows
        return taken

    async def _commit(self, jobs: list[_Job]) -> None:
        self._began_s = time.monotonic()
        try:
            with anyio.CancelScope(shield=True):
                await self._run_in_thread(_transaction, jobs)
        except sqlite3.Error as error:
            self._fail(jobs, error)
            return
        finally:
            self.commit_seconds += self.under_way_s
            self._began_s = None
        self.commits += 1
        self.trouble = None
        for job in jobs:
            job.settle()

    @property
    def under_way_s(self) -> float:
        """How long the present commit takes so far; 0 between two."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def _fail(self, jobs: list[_Job], error: sqlite3.Error) -> None:
        """A full disk may empty itself; after any other I/O error a later success could hide the loss."""
        self.trouble = str(error)
        log.error("commit failed", error=self.trouble, changes=sum(len(job.items) for job in jobs))
        failure = (
            StorageUnavailable("the disk is full", retry_after_s=30)
            if _is_full(error)
            else self.give_up(error)
        )
        for job in jobs:
            job.fail(failure)

    def give_up(self, error: sqlite3.Error) -> StorageBroken:
        """Whoever met the error: nothing is taken any more, what waits is refused, and `run` ends."""
        self.broken = self.broken or StorageBroken(f"the store failed: {error}")
        for job in self._jobs:
            job.fail(self.broken)
        self._jobs.clear()
        self._wake.set()
        return self.broken


def _transaction(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in jobs:
            job.run(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _code(error: BaseException) -> int:
    """The primary result code: its low byte (sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_lost(error: BaseException) -> bool:
    """Whether a read met a file that cannot be trusted any more."""
    return _code(error) in LOST_CODES


def _is_disk(error: BaseException) -> bool:
    return _code(error) in DISK_CODES


def _is_full(error: BaseException) -> bool:
    return _code(error) == sqlite3.SQLITE_FULL

"""Builds in the background: one at a time, in a worker thread, never on the event path."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anyio
import msgspec
import structlog

from datafly_lite.clock import Clock, iso, new_id
from datafly_lite.collector.build import Built, ModuleSize, Script, build, integrity
from datafly_lite.collector.options import build_options, check_builder_config
from datafly_lite.errors import AdminError, BuildError, StorageError
from datafly_lite.live import Frame, LiveStream
from datafly_lite.store import Store
from datafly_lite.store import builds as rows

__all__ = ["Build", "CollectorBuilder", "check_builder_config"]

INTERRUPTED = "the server stopped during this build; start another one"
UNEXPECTED = "the build failed unexpectedly; the server's log says why"

Write = Callable[..., Awaitable[None]]
"""`write(work, *args)` calls `work(connection, *args)` in a transaction, as Store.write does."""

log = structlog.get_logger(__name__)


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A build's state: sizes, hash and integrity once `status` is `ready`, `error` once it is `failed`."""

    id: str
    pipeline_id: str
    status: str
    started_at_ms: int
    built_at_ms: int | None = None
    version_hash: str | None = None
    integrity: str | None = None
    file_size_bytes: int | None = None
    gzip_size_bytes: int | None = None
    brotli_size_bytes: int | None = None
    modules: tuple[ModuleSize, ...] = ()
    report: tuple[str, ...] = ()
    error: str | None = None


class _Job(NamedTuple):
    build_id: str
    pipeline_id: str
    pipeline_key: str
    config: dict[str, Any]


class CollectorBuilder:
    """Builds collectors and knows the newest ready one of each pipeline."""

    def __init__(self, store: Store, live: LiveStream, clock: Clock) -> None:
        self._store = store
        self._live = live
        self._clock = clock
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._first = asyncio.Lock()
        self._own: set[str] = set()
        self._ready: dict[str, Script] = {}
        self._default: Script | None = None

    async def run(self) -> None:
        """Do what `start` records, until `stop`; then return when it is done."""
        await self._fail_interrupted()
        async with anyio.create_task_group() as tasks:
            while (job := await self._jobs.get()) is not None:
                tasks.start_soon(self._perform_or_log, job)

    def stop(self) -> None:
        """Let `run` finish what was started."""
        self._jobs.put_nowait(None)

    async def start(
        self, pipeline_id: str, pipeline_key: str, config: dict[str, Any], write: Write | None = None
    ) -> str:
        """Record a build for `run` to do; its id. Raises AdminError for a wrong `config`.

        `write` records it where more than the build goes into the transaction.
        """
        check_builder_config(config)
        job = await self._record(pipeline_id, pipeline_key, config, write or self._store.write)
        self._jobs.put_nowait(job)
        return job.build_id

    async def build_now(self, pipeline_id: str, pipeline_key: str, config: dict[str, Any]) -> Build | None:
        """Build and wait; the newest build then, ready or failed."""
        with anyio.CancelScope(shield=True):  # a client that leaves must not leave a build half done
            await self._perform(await self._record(pipeline_id, pipeline_key, config, self._store.write))
        return await self.latest(pipeline_id)

    async def latest(self, pipeline_id: str) -> Build | None:
        """The newest build, whatever its status; None when there was none."""
        row = await self._store.read(rows.latest, pipeline_id)
        return None if row is None else _build_of(row)

    async def ready(self, pipeline_id: str) -> Script | None:
        """The newest finished script, from memory after the first time."""
        if pipeline_id not in self._ready:
            script = await self._newest(pipeline_id)
            if script is None:
                return None
            self._ready.setdefault(pipeline_id, script)  # a build may have ended meanwhile: it is newer
        return self._ready[pipeline_id]

    async def ready_or_first(
        self, pipeline_id: str, pipeline_key: str, config: dict[str, Any]
    ) -> Script | None:
        """As `ready`, but what was never built is built now; None where the build failed."""
        if (script := await self.ready(pipeline_id)) is not None:
            return script
        async with self._first:
            if await self.ready(pipeline_id) is None and _is_untried(await self.latest(pipeline_id)):
                await self.build_now(pipeline_id, pipeline_key, config)
        return await self.ready(pipeline_id)

    async def default(self) -> Script:
        """The collector with everything in it and no key: the script tag names one. Raises BuildError."""
        async with self._first:
            if self._default is None:
                built = await anyio.to_thread.run_sync(build, build_options({}), "")
                self._default = built.script
            return self._default

    async def _newest(self, pipeline_id: str) -> Script | None:
        row = await self._store.read(rows.latest_ready, pipeline_id)
        return None if row is None else script_of(row)

    async def _record(
        self, pipeline_id: str, pipeline_key: str, config: dict[str, Any], write: Write
    ) -> _Job:
        job = _Job(new_id("bld"), pipeline_id, pipeline_key, config)
        self._own.add(job.build_id)
        await write(rows.start, job.build_id, pipeline_id, self._clock())
        return job

    async def _perform_or_log(self, job: _Job) -> None:
        try:
            await self._perform(job)
        except StorageError as error:  # the next start marks it as interrupted
            log.warning("collector build not recorded", build_id=job.build_id, error=str(error))

    async def _perform(self, job: _Job) -> None:
        async with self._turn:
            outcome = await self._outcome(job)
            if isinstance(outcome, Built):
                await self._store.write(rows.finish, job.build_id, _columns(outcome), self._clock())
                self._ready[job.pipeline_id] = await self._newest(job.pipeline_id) or outcome.script
            else:
                await self._store.write(rows.fail, job.build_id, outcome, self._clock())
            self._own.discard(job.build_id)
        self._publish(job, outcome)

    async def _outcome(self, job: _Job) -> Built | str:
        """A script, or why there is none: without an outcome a build would look busy for ever."""
        try:
            return await anyio.to_thread.run_sync(build, build_options(job.config), job.pipeline_key)
        except (BuildError, AdminError) as error:
            return str(error)
        except Exception:
            log.exception("collector build failed", build_id=job.build_id, pipeline_id=job.pipeline_id)
            return UNEXPECTED

    def _publish(self, job: _Job, outcome: Built | str) -> None:
        if not self._live.watchers:
            return
        data: dict[str, Any] = {"build_id": job.build_id}
        if isinstance(outcome, Built):
            data |= {"status": "ready", "version_hash": outcome.script.version_hash}
            data |= {
                "file_size_bytes": len(outcome.script.plain),
                "gzip_size_bytes": len(outcome.script.gzip),
            }
        else:
            data |= {"status": "failed", "error": outcome}
        self._live.publish(
            Frame(
                stage="collector_build",
                timestamp=iso(self._clock()),
                pipeline_id=job.pipeline_id,
                data=data,
            )
        )

    async def _fail_interrupted(self) -> None:
        own = json_text(sorted(self._own))
        count = await self._store.write(rows.fail_interrupted, own, INTERRUPTED, self._clock())
        if count:
            log.warning("collector builds were interrupted", builds=count)


def json_text(value: Any) -> str:
    """For a JSON column."""
    return msgspec.json.encode(value).decode()


def _is_untried(latest: Build | None) -> bool:
    """Nothing says yet that building fails."""
    return latest is None or latest.status == "building" or latest.error == INTERRUPTED


def _columns(built: Built) -> dict[str, Any]:
    return {
        "version_hash": built.script.version_hash,
        "script": built.script.plain,
        "script_gzip": built.script.gzip,
        "script_brotli": built.script.brotli,
        "modules": json_text(built.modules),
        "report": json_text(built.report),
    }


def script_of(row: sqlite3.Row) -> Script:
    """The bytes of a ready build."""
    return Script(row["version_hash"], row["script"], row["script_gzip"], row["script_brotli"])


def _build_of(row: sqlite3.Row) -> Build:
    known = Build(
        id=row["id"],
        pipeline_id=row["pipeline_id"],
        status=row["status"],
        started_at_ms=row["started_at_ms"],
        built_at_ms=row["built_at_ms"],
        version_hash=row["version_hash"],
        modules=msgspec.json.decode(row["modules"], type=tuple[ModuleSize, ...]),
        report=msgspec.json.decode(row["report"], type=tuple[str, ...]),
        error=row["error"],
    )
    if row["status"] != "ready":
        return known
    return msgspec.structs.replace(
        known,
        integrity=integrity(row["script"]),
        file_size_bytes=len(row["script"]),
        gzip_size_bytes=len(row["script_gzip"]),
        brotli_size_bytes=len(row["script_brotli"]),
    )

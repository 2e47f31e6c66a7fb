"""Alive, ready, and when to stop taking events."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from datafly_lite.errors import StorageUnavailable
from datafly_lite.store import Store

DISK_INTERVAL_S = 2.0
SLOW_COMMIT_S = 5.0
MAX_BACKLOG_EVENTS = 5_000_000
"""Events that may wait for the processor before /readyz says that something is wrong."""


class Health:
    """Knows the disk and the writer. `backlog` is how many events wait for the processor."""

    def __init__(self, store: Store, folder: Path, min_free_bytes: int, backlog: Callable[[], int]) -> None:
        self._store = store
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._backlog = backlog
        self.free_bytes = shutil.disk_usage(folder).free

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look at the disk every two seconds, for ever."""
        while True:
            self.free_bytes = shutil.disk_usage(self._folder).free
            await sleep(DISK_INTERVAL_S)

    def admit(self) -> None:
        """Raise StorageUnavailable while the disk is below its mark: stop before it is full, not after."""
        if self.free_bytes < self._min_free_bytes:
            raise StorageUnavailable("the disk is nearly full", retry_after_s=30)

    async def checks(self) -> list[dict[str, Any]]:
        """Each check of /readyz: {"name", "ok", "detail"}."""
        backlog = self._backlog()
        return [
            self._writer(),
            {
                "name": "disk",
                "ok": self.free_bytes >= self._min_free_bytes,
                "detail": f"{self.free_bytes:,} bytes free, at least {self._min_free_bytes:,} wanted",
            },
            {
                "name": "backlog",
                "ok": backlog <= MAX_BACKLOG_EVENTS,
                "detail": f"{backlog:,} events wait for the processor, at most {MAX_BACKLOG_EVENTS:,} should",
            },
        ]

    def _writer(self) -> dict[str, Any]:
        writer = self._store.writer
        detail = "commits"
        if writer.under_way_s > SLOW_COMMIT_S:
            detail = f"a commit has been under way for {writer.under_way_s:.0f} s"
        trouble = writer.broken or writer.trouble
        detail = str(trouble) if trouble else detail
        return {"name": "writer", "ok": detail == "commits", "detail": detail}


def routes(health: Health) -> list[Route]:
    """/healthz says that the process answers, /readyz whether it can take events."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        checks = await health.checks()
        is_ready = all(check["ok"] for check in checks)
        return JSONResponse(
            {"status": "ok" if is_ready else "unavailable", "checks": checks}, 200 if is_ready else 503
        )

    return [Route("/healthz", healthz), Route("/readyz", readyz)]

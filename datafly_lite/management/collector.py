"""A pipeline's collector: start a build, see how it goes, take the script (seed 001, Collector Build)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from datafly_lite.clock import iso_s
from datafly_lite.collector.builder import Build
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.pipelines import get_pipeline
from datafly_lite.services import Services


async def start_build(services: Services, pipeline_id: str) -> dict[str, Any]:
    """`{"status": "building", "pipeline_id"}`; the build goes on in the background. Raises NOT_FOUND."""
    pipeline = await get_pipeline(services, pipeline_id)

    async def write(start: Callable[..., None], *args: Any) -> None:
        audited = Audited("pipeline.collector_built", "pipeline")
        await auditing.write(services, audited, _start, pipeline_id, start, args)

    await services.builder.start(pipeline_id, pipeline["pipeline_key"], pipeline["js_builder_config"], write)
    return {"status": "building", "pipeline_id": pipeline_id}


async def build_status(services: Services, pipeline_id: str) -> dict[str, Any]:
    """The newest build; `status` is `no_builds`, `building`, `ready` or `failed`. Raises NOT_FOUND.

    `report` holds remarks, such as a minifier that is missing here; `error` says why a build failed.
    """
    await get_pipeline(services, pipeline_id)
    build = await services.builder.latest(pipeline_id)
    return _status(build or Build(id="", pipeline_id=pipeline_id, status="no_builds", started_at_ms=0))


async def download(services: Services, pipeline_id: str) -> tuple[str, bytes]:
    """(filename, script) of the newest build that is ready. Raises NOT_FOUND."""
    pipeline = await get_pipeline(services, pipeline_id)
    script = await services.builder.ready(pipeline_id)
    if script is None:
        raise AdminError("NOT_FOUND", "no collector is ready for this pipeline: build one first")
    return pipeline["js_builder_config"]["script_filename"], script.plain


def _start(
    connection: sqlite3.Connection, pipeline_id: str, start: Callable[..., None], args: tuple[Any, ...]
) -> Changed[None]:
    start(connection, *args)
    return Changed(None, pipeline_id, {})


def _status(build: Build) -> dict[str, Any]:
    return {
        "status": build.status,
        "pipeline_id": build.pipeline_id,
        "build_id": build.id or None,
        "version_hash": build.version_hash,
        "file_size_bytes": build.file_size_bytes,
        "built_at": None if build.built_at_ms is None else iso_s(build.built_at_ms),
        "gzip_size_bytes": build.gzip_size_bytes,
        "brotli_size_bytes": build.brotli_size_bytes,
        "integrity": build.integrity,
        "modules": msgspec.to_builtins(build.modules),
        "report": list(build.report),
        "error": build.error,
    }

"""Sources (seed 002): the older way to see pipelines, for clients that were written for it.

Every pipeline is a source and every source a pipeline; source_view.py says what is what. Other than at
/pipelines the lists go by cursor, PUT replaces the whole source, and DELETE cannot be taken back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from datafly_lite.clock import iso_s, new_token
from datafly_lite.collector.builder import Build
from datafly_lite.errors import AdminError, BuildError
from datafly_lite.management import auditing, pipelines
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.source_view import (
    CHECKS,
    kept_of,
    pipeline_fields,
    pipeline_id_of,
    source_id_of,
    source_of,
)
from datafly_lite.services import Services
from datafly_lite.store import pipelines as rows

READ_ONLY = ("id", "pipeline_key", "created_at", "updated_at")
SUMMARY = ("id", "name", "pipeline_key", "domain", "created_at", "updated_at")
NOTHING: dict[str, Any] = {"domain": ""}
"""The source before the first."""


async def list_sources(services: Services) -> list[dict[str, Any]]:
    """Summaries of all of them, oldest first."""
    found = [_source(row) for row in await services.store.read(rows.everyone)]
    return [{name: source[name] for name in SUMMARY} for source in found]


async def get_source(services: Services, source_id: str) -> dict[str, Any]:
    """The whole source, with `collector_build`, for those who poll it. Raises NOT_FOUND."""
    source = await services.store.read(_get, source_id)
    return {**source, "collector_build": _build_of(await services.builder.latest(pipeline_id_of(source_id)))}


async def create_source(services: Services, fields: dict[str, Any]) -> dict[str, Any]:
    """The new source; a pipeline of type `web` comes with it. Raises VALIDATION_ERROR."""
    given = f.checked(fields, CHECKS, required=("name", "domain"))
    values = pipeline_fields(given, NOTHING, pipelines.DEFAULTS, _host(services))
    columns = pipelines.new_columns(services, values, new_token("sk"))
    columns["pipeline_key"] = new_token("dk_live", 32)
    audited = Audited("source.created", "source")
    made = await auditing.write(services, audited, _create, columns, kept_of(given))
    await services.configuration.reload()
    return made


async def update_source(services: Services, source_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Replace the source by this one: what is left out of `config` goes back to its default.

    Read-only fields may be sent back as they were read. Raises NOT_FOUND, VALIDATION_ERROR.
    """
    audited = Audited("source.updated", "source")
    updated = await auditing.write(services, audited, _update, source_id, fields, services)
    await services.configuration.reload()
    return updated


async def delete_source(services: Services, source_id: str) -> None:
    """For ever: its key, settings, secrets, builds and webhook sources, and its place at integrations.

    Events that were accepted before are still processed. Raises NOT_FOUND.
    """
    audited = Audited("source.deleted", "source")
    await auditing.write(services, audited, _delete, source_id, services.clock())
    await services.configuration.reload()


async def start_build(services: Services, source_id: str) -> dict[str, Any]:
    """`{"status": "building", "build_id", "started_at"}`; it goes on in the background. Raises NOT_FOUND."""
    pipeline = await services.store.read(_pipeline, source_id)
    started: list[int] = []

    async def write(start: Callable[..., None], build_id: str, pipeline_id: str, at_ms: int) -> None:
        started.append(at_ms)
        audited, args = Audited("source.collector_built", "source"), (build_id, pipeline_id, at_ms)
        await auditing.write(services, audited, _start, source_id, start, args)

    config = pipeline["js_builder_config"]
    build_id = await services.builder.start(pipeline["id"], pipeline["pipeline_key"], config, write)
    return {"status": "building", "build_id": build_id, "started_at": iso_s(started[0])}


async def download(services: Services, source_id: str) -> tuple[str, bytes]:
    """(filename, script) of the newest build, or of the default collector before the first (seed 002)."""
    pipeline = await services.store.read(_pipeline, source_id)
    try:
        script = await services.builder.ready(pipeline["id"]) or await services.builder.default()
    except BuildError:
        raise AdminError("NOT_FOUND", "the default collector cannot be built; see the server's log") from None
    return pipeline["js_builder_config"]["script_filename"], script.plain


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def _found(connection: sqlite3.Connection, source_id: str) -> sqlite3.Row:
    row = rows.one(connection, pipeline_id_of(source_id))
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such source")
    return row


def _get(connection: sqlite3.Connection, source_id: str) -> dict[str, Any]:
    return _source(_found(connection, source_id))


def _pipeline(connection: sqlite3.Connection, source_id: str) -> dict[str, Any]:
    return pipelines.pipeline_of(_found(connection, source_id), None)


def _create(
    connection: sqlite3.Connection, columns: dict[str, Any], kept: dict[str, Any]
) -> Changed[dict[str, Any]]:
    pipelines.insert(connection, columns)
    rows.keep_source_view(connection, columns["id"], _json(kept))
    return auditing.created(_get(connection, source_id_of(columns["id"])))


def _update(
    connection: sqlite3.Connection, source_id: str, fields: dict[str, Any], services: Services
) -> Changed[dict[str, Any]]:
    before, pipeline = _get(connection, source_id), _pipeline(connection, source_id)
    given = f.checked(_without_unchanged(fields, before), CHECKS, required=("name", "domain"))
    values = pipeline_fields(given, before, pipeline, _host(services))
    pipelines.change(connection, pipeline["id"], values, services.clock())
    rows.keep_source_view(connection, pipeline["id"], _json(kept_of(given)))
    return auditing.updated(before, _get(connection, source_id))


def _delete(connection: sqlite3.Connection, source_id: str, now_ms: int) -> Changed[None]:
    before, pipeline_id = _get(connection, source_id), pipeline_id_of(source_id)
    pipelines.end(connection, pipeline_id, now_ms)
    rows.erase(connection, pipeline_id, now_ms)
    return auditing.deleted(before)


def _start(
    connection: sqlite3.Connection, source_id: str, start: Callable[..., None], args: tuple[Any, ...]
) -> Changed[None]:
    start(connection, *args)
    return Changed(None, source_id, {})


# ── What is shown ────────────────────────────────────────────────────────────────────────────


def _source(row: sqlite3.Row) -> dict[str, Any]:
    return source_of(pipelines.pipeline_of(row, None), msgspec.json.decode(row["source_view"]))


def _build_of(build: Build | None) -> dict[str, Any]:
    """`status` is `no_builds`, `building`, `ready` or `failed`."""
    if build is None:
        return {"status": "no_builds", "build_id": None, "built_at": None, "error": None}
    built_at = None if build.built_at_ms is None else iso_s(build.built_at_ms)
    return {"status": build.status, "build_id": build.id, "built_at": built_at, "error": build.error}


def _without_unchanged(fields: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """So that a client may PUT back the whole object that it got; a build may have gone on meanwhile."""
    refused = [
        {"field": name, "message": "is read-only"}
        for name in READ_ONLY
        if name in fields and fields[name] != before[name]
    ]
    if refused:
        raise f.invalid(refused)
    return {name: value for name, value in fields.items() if name not in (*READ_ONLY, "collector_build")}


def _host(services: Services) -> str:
    return urlsplit(services.settings.base_url).hostname or ""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

"""Integrations on a pipeline (spec/datafly-signal.md, 9.9): each pins a revision until it is told to move."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.pipelines import found_pipeline
from datafly_lite.services import Services
from datafly_lite.store import integrations as rows

MODES = ("live", "paused", "shadow")
UPDATE_CHECKS: dict[str, f.Check] = {
    "revision_id": f.text(100, shortest=1),
    "enabled": f.boolean,
    "mode": f.one_of(*MODES),
}
ATTACH_CHECKS: dict[str, f.Check] = {"integration_id": f.text(100, shortest=1), **UPDATE_CHECKS}


async def list_attachments(services: Services, pipeline_id: str) -> list[dict[str, Any]]:
    """The pipeline's, oldest first. Raises NOT_FOUND."""
    return await services.store.read(_list, pipeline_id)


async def attach(services: Services, pipeline_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """From `{integration_id, revision_id?, enabled?, mode?}`, by default the newest revision, live.

    Raises NOT_FOUND for the pipeline, VALIDATION_ERROR, and CONFLICT where it is attached already.
    """
    given = f.checked(fields, ATTACH_CHECKS, required=("integration_id",))
    columns = {
        "enabled": True,
        "mode": "live",
        **given,
        "id": new_id("pi"),
        "pipeline_id": pipeline_id,
        "now_ms": services.clock(),
    }
    attached = await auditing.write(services, Audited("attachment.created", "attachment"), _attach, columns)
    await services.configuration.reload()
    return attached


async def update_attachment(
    services: Services, pipeline_id: str, attachment_id: str, fields: dict[str, Any]
) -> dict[str, Any]:
    """Change `{revision_id?, enabled?, mode?}`. Sending again ends the trouble that had stopped it."""
    given, audited = f.checked(fields, UPDATE_CHECKS), Audited("attachment.updated", "attachment")
    updated = await auditing.write(
        services, audited, _update, pipeline_id, attachment_id, given, services.clock()
    )
    await services.configuration.reload()
    services.wake_delivery([attachment_id])
    return updated


async def detach(services: Services, pipeline_id: str, attachment_id: str) -> None:
    """What waits for it is dropped with the reason `detached`. Raises NOT_FOUND."""
    audited = Audited("attachment.deleted", "attachment")
    await auditing.write(services, audited, _detach, pipeline_id, attachment_id, services.clock())
    await services.configuration.reload()


def _list(connection: sqlite3.Connection, pipeline_id: str) -> list[dict[str, Any]]:
    found_pipeline(connection, pipeline_id)
    return [_attachment(row) for row in rows.attachments(connection, pipeline_id)]


def _get(connection: sqlite3.Connection, pipeline_id: str, attachment_id: str) -> sqlite3.Row:
    found_pipeline(connection, pipeline_id)
    row = rows.attachment(connection, pipeline_id, attachment_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such integration on this pipeline")
    return row


def _attach(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> Changed[dict[str, Any]]:
    pipeline_id, integration_id = columns["pipeline_id"], columns["integration_id"]
    found_pipeline(connection, pipeline_id)
    integration = rows.one(connection, integration_id)
    if integration is None:
        raise AdminError.invalid("integration_id", "there is no such integration")
    newest = rows.revision(connection, integration_id, integration["latest_revision"])
    revision_id = columns.get("revision_id") or (newest["id"] if newest else "")
    _check_revision(connection, integration_id, revision_id)
    attachment_id = rows.attach(connection, {**columns, "revision_id": revision_id})
    if attachment_id is None:
        raise AdminError("CONFLICT", "this integration is on this pipeline already")
    return auditing.created(_attachment(_get(connection, pipeline_id, attachment_id)))


def _update(
    connection: sqlite3.Connection,
    pipeline_id: str,
    attachment_id: str,
    given: Mapping[str, Any],
    now_ms: int,
) -> Changed[dict[str, Any]]:
    row = _get(connection, pipeline_id, attachment_id)
    _check_revision(connection, row["integration_id"], given.get("revision_id", row["revision_id"]))
    after = {**dict(row), **given, "updated_at_ms": now_ms}
    sends = after["enabled"] and after["mode"] != "paused"
    rows.update_attachment(connection, {**after, "trouble": None if sends else row["trouble"]})
    return auditing.updated(_attachment(row), _attachment(_get(connection, pipeline_id, attachment_id)))


def _detach(
    connection: sqlite3.Connection, pipeline_id: str, attachment_id: str, now_ms: int
) -> Changed[None]:
    before = _attachment(_get(connection, pipeline_id, attachment_id))
    rows.detach(connection, attachment_id, now_ms)
    return auditing.deleted(before)


def _check_revision(connection: sqlite3.Connection, integration_id: str, revision_id: str) -> None:
    if rows.revision_of(connection, integration_id, revision_id) is None:
        raise AdminError.invalid("revision_id", "is not a revision of this integration")


def _attachment(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "pipeline_id": row["pipeline_id"],
        "integration_id": row["integration_id"],
        "integration_name": row["integration_name"],
        "vendor": row["vendor"],
        "revision_id": row["revision_id"],
        "revision_number": row["revision_number"],
        "latest_revision": row["latest_revision"],
        "enabled": bool(row["enabled"]),
        "mode": row["mode"],
        "trouble": row["trouble"],
        "created_at": iso_s(row["created_at_ms"]),
        "updated_at": iso_s(row["updated_at_ms"]),
    }

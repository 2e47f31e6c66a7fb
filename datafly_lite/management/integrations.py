"""Integrations and their revisions: which vendor, with which settings (spec/datafly-signal.md, 9.7 and 9.8).

A revision never changes; a new configuration is a new one. Secrets go out as "***" only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec

from datafly_lite.addresses import check_url
from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.keyring import Keyring
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.attachments import attach, detach, list_attachments, update_attachment
from datafly_lite.management.auditing import SECRET_CHANGED, Audited, Changed
from datafly_lite.services import Services
from datafly_lite.settings import Settings, networks
from datafly_lite.store import accounts
from datafly_lite.store import integrations as rows
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.checking import UrlCheck, check_config, check_kept_secrets, split_secrets

__all__ = [
    "attach",
    "create_integration",
    "create_revision",
    "delete_integration",
    "detach",
    "get_integration",
    "get_revision",
    "list_attachments",
    "list_integrations",
    "list_revisions",
    "update_attachment",
    "update_integration",
]

LARGEST_REVISION = 2**31

INTEGRATION_CHECKS: dict[str, f.Check] = {
    "name": f.line(200, shortest=1),
    "vendor": f.one_of(*VENDORS),
    "description": f.text(2000),
    "config": f.free_object,
}
RENAME_CHECKS: dict[str, f.Check] = {name: INTEGRATION_CHECKS[name] for name in ("name", "description")}
REVISION_CHECKS: dict[str, f.Check] = {
    "config": f.free_object,
    "change_summary": f.text(2000),
    "base_revision": f.whole(1, LARGEST_REVISION),
}


async def list_integrations(services: Services) -> list[dict[str, Any]]:
    """All integration templates, oldest first."""
    return await services.store.read(_list)


async def get_integration(services: Services, integration_id: str) -> dict[str, Any]:
    """One, with its newest `revision`. Raises NOT_FOUND."""
    return await services.store.read(_get, integration_id)


async def create_integration(
    services: Services, fields: dict[str, Any], created_by: str | None, variant: str | None = None
) -> dict[str, Any]:
    """From `{name, vendor, description?, config}`: the template with its `revision` 1.

    `variant` is the one that it was installed from. Raises VALIDATION_ERROR, and CONFLICT for a name that
    is taken.
    """
    given = f.checked(fields, INTEGRATION_CHECKS, required=("name", "vendor", "config"))
    await check(services, given["vendor"], given["config"])
    columns = {
        "description": "",
        **given,
        "id": new_id("tmpl"),
        "variant": variant,
        "created_by": created_by,
        "now_ms": services.clock(),
    }
    audited = Audited("integration.created", "integration")
    return await auditing.write(services, audited, _create, columns, services.keyring)


async def update_integration(
    services: Services, integration_id: str, fields: dict[str, Any]
) -> dict[str, Any]:
    """Change `{name?, description?}`; the vendor stays, and a new configuration is a new revision.

    Other fields may be sent back as they were read. Raises NOT_FOUND, VALIDATION_ERROR, and CONFLICT for
    a name that is taken.
    """
    present = await get_integration(services, integration_id)
    changed = {
        name: value
        for name, value in fields.items()
        if name in RENAME_CHECKS or name not in present or value != present[name]
    }
    given = f.checked(changed, RENAME_CHECKS)
    audited = Audited("integration.updated", "integration")
    updated = await auditing.write(services, audited, _update, integration_id, given, services.clock())
    await services.configuration.reload()
    return updated


async def delete_integration(services: Services, integration_id: str) -> None:
    """Raises NOT_FOUND, and CONFLICT while a pipeline has it."""
    audited = Audited("integration.deleted", "integration")
    await auditing.write(services, audited, _delete, integration_id, services.clock())


async def list_revisions(services: Services, integration_id: str) -> list[dict[str, Any]]:
    """All revisions, newest first. Raises NOT_FOUND."""
    return await services.store.read(_list_revisions, integration_id)


async def check(services: Services, vendor: str, config: dict[str, Any]) -> None:
    """As `check_config`, off the event loop: a revision's JavaScript is tried, and may take its time."""
    rules = partial(check_config, VENDORS[vendor], config, check_url=url_check(services.settings))
    await anyio.to_thread.run_sync(rules)


async def create_revision(
    services: Services, integration_id: str, fields: dict[str, Any], created_by: str | None
) -> dict[str, Any]:
    """From `{config, change_summary?, base_revision?}`. "***" keeps the secret of the revision with the
    number `base_revision`, by default the newest. Raises VALIDATION_ERROR, and NOT_FOUND.
    """
    given = f.checked(fields, REVISION_CHECKS, required=("config",))
    integration = await get_integration(services, integration_id)
    await check(services, integration["vendor"], given["config"])
    columns = {"change_summary": "", **given, "created_by": created_by, "now_ms": services.clock()}
    audited = Audited("revision.created", "revision")
    return await auditing.write(
        services, audited, _create_revision, integration_id, columns, services.keyring
    )


async def get_revision(services: Services, integration_id: str, number: int) -> dict[str, Any]:
    """One revision. Raises NOT_FOUND."""
    return await services.store.read(_get_revision, integration_id, number)


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def found_integration(connection: sqlite3.Connection, integration_id: str) -> sqlite3.Row:
    """The integration's row. Raises NOT_FOUND."""
    row = rows.one(connection, integration_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such integration")
    return row


def _list(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    org_id = accounts.organisation_id(connection)
    return [_integration(row, org_id) for row in rows.everyone(connection)]


def _get(connection: sqlite3.Connection, integration_id: str) -> dict[str, Any]:
    row = found_integration(connection, integration_id)
    shown = _integration(row, accounts.organisation_id(connection))
    return {**shown, "revision": _get_revision(connection, integration_id, row["latest_revision"])}


def _create(
    connection: sqlite3.Connection, columns: Mapping[str, Any], keyring: Keyring
) -> Changed[dict[str, Any]]:
    _check_name(connection, columns["name"])
    accounts.ensure_organisation(connection, new_id("org"), columns["now_ms"])
    rows.insert(connection, columns)
    _create_revision(connection, columns["id"], {"change_summary": "Created", **columns}, keyring)
    return auditing.created(_get(connection, columns["id"]))


def _check_name(connection: sqlite3.Connection, name: str) -> None:
    if rows.name_is_taken(connection, name):
        message = "another integration has it"
        raise AdminError("CONFLICT", f"name: {message}", details=[{"field": "name", "message": message}])


def _update(
    connection: sqlite3.Connection, integration_id: str, given: Mapping[str, Any], now_ms: int
) -> Changed[dict[str, Any]]:
    before = _get(connection, integration_id)
    after = {**before, **given}
    if after["name"] != before["name"]:
        _check_name(connection, after["name"])
    if after != before:
        rows.rename(connection, integration_id, after["name"], after["description"], now_ms)
    return auditing.updated(before, _get(connection, integration_id))


def _create_revision(
    connection: sqlite3.Connection, integration_id: str, columns: Mapping[str, Any], keyring: Keyring
) -> Changed[dict[str, Any]]:
    integration = found_integration(connection, integration_id)
    number = (integration["latest_revision"] or 0) + 1
    vendor, base = VENDORS[integration["vendor"]], columns.get("base_revision", number - 1)
    previous, kept = base_revision(connection, integration_id, base, keyring)
    config, secrets = split_secrets(vendor, columns["config"], kept)
    check_kept_secrets(vendor, columns["config"], previous)
    row = {
        **columns,
        "id": new_id("rev"),
        "integration_id": integration_id,
        "revision_number": number,
        "config": msgspec.json.encode(config).decode(),
        "secrets_ciphertext": keyring.encrypt(msgspec.json.encode(secrets)),
    }
    rows.insert_revision(connection, row)
    made = _get_revision(connection, integration_id, number)
    return Changed(made, made["id"], _changes_of_revision(connection, made, secrets, keyring))


def _changes_of_revision(
    connection: sqlite3.Connection, made: Mapping[str, Any], secrets: Mapping[str, str], keyring: Keyring
) -> dict[str, auditing.Change]:
    """Against the newest one before it, whichever it was made from: that is what it takes the place of."""
    number = made["revision_number"] - 1
    config, kept = base_revision(connection, made["integration_id"], number, keyring)
    before = {"revision_number": number or None, "config": config, "change_summary": ""}
    shown = {name: made[name] for name in before}
    others = [name for name, secret in secrets.items() if kept.get(name, secret) != secret]
    return {
        "integration_id": {"old": made["integration_id"], "new": made["integration_id"]},
        **auditing.differences(before, shown),
        **{f"config.{name}": SECRET_CHANGED for name in others},
    }


def base_revision(
    connection: sqlite3.Connection, integration_id: str, number: int, keyring: Keyring
) -> tuple[dict[str, Any], dict[str, str]]:
    """(config, secrets); both empty before the first revision, number 0."""
    revision = rows.revision(connection, integration_id, number)
    if revision is None and number:
        raise AdminError.invalid("base_revision", "there is no such revision")
    if revision is None:
        return {}, {}
    secrets = msgspec.json.decode(keyring.decrypt(revision["secrets_ciphertext"]))
    return msgspec.json.decode(revision["config"]), secrets


def _delete(connection: sqlite3.Connection, integration_id: str, now_ms: int) -> Changed[None]:
    before = _get(connection, integration_id)
    if rows.is_attached(connection, integration_id):
        raise AdminError("CONFLICT", "a pipeline still has this integration: detach it first")
    rows.soft_delete(connection, integration_id, now_ms)
    return auditing.deleted(before)


def _list_revisions(connection: sqlite3.Connection, integration_id: str) -> list[dict[str, Any]]:
    found_integration(connection, integration_id)
    org_id = accounts.organisation_id(connection)
    return [_revision(row, org_id) for row in rows.revisions(connection, integration_id)]


def found_revision(connection: sqlite3.Connection, integration_id: str, number: int) -> sqlite3.Row:
    """The row of an integration's revision. Raises NOT_FOUND."""
    found_integration(connection, integration_id)
    row = rows.revision(connection, integration_id, number) if 0 < number < LARGEST_REVISION else None
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such revision")
    return row


def _get_revision(connection: sqlite3.Connection, integration_id: str, number: int) -> dict[str, Any]:
    row = found_revision(connection, integration_id, number)
    return _revision(row, accounts.organisation_id(connection))


# ── What is shown ────────────────────────────────────────────────────────────────────────────


def url_check(settings: Settings) -> UrlCheck:
    """What `check_config` asks of each URL: that deliveries may call it."""
    allowed = networks(settings.delivery_allow_networks, setting="delivery_allow_networks")
    return partial(check_url, allowed=allowed, dev=settings.dev)


def _integration(row: sqlite3.Row, org_id: str | None) -> dict[str, Any]:
    return {
        "id": row["id"],
        "org_id": org_id,
        "name": row["name"],
        "vendor": row["vendor"],
        "description": row["description"],
        "catalog_vendor_key": row["vendor"] if row["variant"] else None,
        "catalog_variant_key": row["variant"],
        "latest_revision": row["latest_revision"],
        "created_at": iso_s(row["created_at_ms"]),
        "updated_at": iso_s(row["updated_at_ms"]),
    }


def _revision(row: sqlite3.Row, org_id: str | None) -> dict[str, Any]:
    return {
        "id": row["id"],
        "integration_id": row["integration_id"],
        "org_id": org_id,
        "revision_number": row["revision_number"],
        "config": msgspec.json.decode(row["config"]),
        "delivery_mode": "server_side",
        "change_summary": row["change_summary"],
        "created_by": row["created_by"],
        "created_at": iso_s(row["created_at_ms"]),
    }

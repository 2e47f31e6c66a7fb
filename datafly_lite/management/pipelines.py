"""Pipelines (seed 001): made, read, changed, deleted; their secrets and challenge tokens."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso_s, new_id, new_token
from datafly_lite.collector.builder import check_builder_config
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import SECRET_CHANGED, Audited, Changed
from datafly_lite.management.paging import check_limit, check_offset
from datafly_lite.services import Services
from datafly_lite.store import accounts
from datafly_lite.store import pipelines as rows
from datafly_lite.vendors.declaration import MASK

TYPES = ("web", "app", "server")
CHALLENGE_TTL_MS = 15 * 60_000
SECRET_PREFIX_LENGTH = len("sk_a1b2")
LONGEST_SLUG = 100

DEFAULTS: dict[str, Any] = {
    "type": "web",
    "domain_allowlist": [],
    "labels": [],
    "rate_limit_rps": 1000,
    "challenge_token_required": False,
    "parameters": {},
    "config": {},
    "js_builder_config": {"script_filename": "d.js", "global_variable": "_df", "delivery_method": "cdn"},
    "identity_config": {"cross_domain_enabled": False, "cross_domain_domains": []},
    "enabled": True,
}
MERGED = ("js_builder_config", "identity_config")
"""Objects with a fixed set of fields: a PUT changes those that it names. The other objects it replaces."""

CHECKS: dict[str, f.Check] = {
    "name": f.line(200, shortest=1),
    "slug": f.matching(
        r"([a-z0-9]+(-[a-z0-9]+)*)?", LONGEST_SLUG, "must be lower-case letters and digits, joined by hyphens"
    ),
    "type": f.one_of(*TYPES),
    "domain_allowlist": f.list_of(f.host_or_wildcard, most=500),
    "labels": f.list_of(f.line(100, shortest=1), most=100),
    "rate_limit_rps": f.whole(1, 1_000_000),
    "challenge_token_required": f.boolean,
    "parameters": f.map_of(
        f.matching(r"[A-Za-z0-9_.-]+", 100, "may hold letters, digits, dot, hyphen and underscore"),
        f.line(4096),
        most=200,
    ),
    "config": f.free_object_with({"cookie_domain": f.cookie_domain}),
    "js_builder_config": f.free_object,
    "identity_config": f.object_of(
        {
            "cross_domain_enabled": f.boolean,
            "cross_domain_domains": f.list_of(f.host_or_wildcard, most=100),
            "vendor_sync": f.free_object,
            "device_recognition": f.boolean,
        }
    ),
    "enabled": f.boolean,
}
READ_ONLY = (
    "id",
    "org_id",
    "pipeline_key",
    "pipeline_key_secret",
    "pipeline_key_secret_prefix",
    "created_at",
    "updated_at",
)
SUMMARY = ("id", "name", "slug", "type", "pipeline_key", "labels", "enabled", "created_at", "updated_at")
AS_CREATED = (
    *(
        "id",
        "org_id",
        "name",
        "slug",
        "type",
        "pipeline_key",
        "pipeline_key_secret",
        "pipeline_key_secret_prefix",
    ),
    *("domain_allowlist", "labels", "rate_limit_rps", "enabled", "created_at", "updated_at"),
)
"""What the answer to a creation prints (seed 001, Create Pipeline), in its order."""


async def list_pipelines(
    services: Services,
    *,
    search: str = "",
    type: str | None = None,
    label: str | None = None,
    enabled: bool | None = None,
    limit: int = 50,
    offset: int = 0,
) -> dict[str, Any]:
    """`{"pipelines": [summary], "total", "limit", "offset", "available_labels"}`, oldest first.

    `search` finds part of a name or slug whatever its case, `label` a whole label.
    """
    start, end = check_offset(offset), check_offset(offset) + check_limit(limit)
    if type is not None and type not in TYPES:
        raise AdminError.invalid("type", f"must be one of {', '.join(TYPES)}")
    everyone = [_summary(row) for row in await services.store.read(rows.everyone)]
    words = search.casefold()
    found = [
        one
        for one in everyone
        if (words in one["name"].casefold() or words in one["slug"])
        and type in (None, one["type"])
        and (label is None or label in one["labels"])
        and enabled in (None, one["enabled"])
    ]
    labels = sorted({label for one in everyone for label in one["labels"]})
    return {
        "pipelines": found[start:end],
        "total": len(found),
        "limit": limit,
        "offset": offset,
        "available_labels": labels,
    }


async def create_pipeline(services: Services, fields: dict[str, Any]) -> dict[str, Any]:
    """The new pipeline as the seed prints it, with `pipeline_key_secret`, which is shown only here.

    Raises VALIDATION_ERROR, and CONFLICT for a slug that is taken.
    """
    given, secret = f.checked(fields, CHECKS, required=("name",)), new_token("sk")
    columns = new_columns(services, given, secret)
    made = await auditing.write(services, Audited("pipeline.created", "pipeline"), _create, columns)
    await services.configuration.reload()
    shown = {**made, "pipeline_key_secret": secret}
    return {name: shown[name] for name in AS_CREATED}


async def get_pipeline(services: Services, pipeline_id: str) -> dict[str, Any]:
    """The whole pipeline object, without its secret. Raises NOT_FOUND."""
    return await services.store.read(_get, pipeline_id)


async def update_pipeline(services: Services, pipeline_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Change the given fields; the whole object after it. Raises NOT_FOUND, VALIDATION_ERROR, CONFLICT.

    Read-only fields may be sent back as they were read.
    """
    audited = Audited("pipeline.updated", "pipeline")
    updated = await auditing.write(services, audited, _update, pipeline_id, fields, services.clock())
    await services.configuration.reload()
    return updated


async def delete_pipeline(services: Services, pipeline_id: str) -> dict[str, Any]:
    """`{"status": "deleted"}`: its key is refused at once, and what waits for its integrations is dropped."""
    audited = Audited("pipeline.deleted", "pipeline")
    await auditing.write(services, audited, _delete, pipeline_id, services.clock())
    await services.configuration.reload()
    return {"status": "deleted"}


async def rotate_secret(services: Services, pipeline_id: str) -> dict[str, Any]:
    """`{"pipeline_key", "pipeline_key_secret", "pipeline_key_secret_prefix"}`; the old one ends at once."""
    secret, audited = new_token("sk"), Audited("pipeline.secret_rotated", "pipeline")
    columns = {**_secret_columns(services, secret), "updated_at_ms": services.clock()}
    key = await auditing.write(services, audited, _rotate, pipeline_id, columns)
    await services.configuration.reload()
    return {
        "pipeline_key": key,
        "pipeline_key_secret": secret,
        "pipeline_key_secret_prefix": secret[:SECRET_PREFIX_LENGTH],
    }


async def create_token(services: Services, pipeline_id: str) -> dict[str, Any]:
    """A challenge token, `{"token": "ct_...", "expires_at"}`: for 15 minutes and as many events as come."""
    text, now_ms = new_token("ct"), services.clock()
    expires_at_ms = now_ms + CHALLENGE_TTL_MS
    token = accounts.Token(accounts.digest_of(text), "challenge", pipeline_id, None, now_ms, expires_at_ms)
    await auditing.write(services, Audited("pipeline.token_created", "pipeline"), _insert_challenge, token)
    return {"token": text, "expires_at": iso_s(expires_at_ms)}


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def found_pipeline(connection: sqlite3.Connection, pipeline_id: str) -> sqlite3.Row:
    """The pipeline's row. Raises NOT_FOUND."""
    row = rows.one(connection, pipeline_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such pipeline")
    return row


def _get(connection: sqlite3.Connection, pipeline_id: str) -> dict[str, Any]:
    row = found_pipeline(connection, pipeline_id)
    return pipeline_of(row, accounts.organisation_id(connection))


def new_columns(services: Services, given: Mapping[str, Any], secret: str) -> dict[str, Any]:
    """A new pipeline's columns from its checked fields; without a slug, `insert` makes one from the name."""
    now_ms, pipeline_id = services.clock(), new_id("pip")
    return {
        **_columns(_merged(DEFAULTS, given)),
        "slug": given.get("slug", ""),
        "id": pipeline_id,
        "pipeline_key": f"dk_{pipeline_id}",
        **_secret_columns(services, secret),
        "created_at_ms": now_ms,
        "updated_at_ms": now_ms,
    }


def insert(connection: sqlite3.Connection, columns: Mapping[str, Any]) -> None:
    """Raises CONFLICT for a slug that is taken."""
    accounts.ensure_organisation(connection, new_id("org"), columns["created_at_ms"])
    slug = columns["slug"] or _free_slug(connection, columns["name"])
    _check_slug(connection, slug, columns["id"])
    rows.insert(connection, {**columns, "slug": slug})


def _create(connection: sqlite3.Connection, columns: dict[str, Any]) -> Changed[dict[str, Any]]:
    insert(connection, columns)
    made = _get(connection, columns["id"])
    return auditing.created(_told(made))._replace(result=made)


def _told(pipeline: dict[str, Any]) -> dict[str, Any]:
    """As the audit log says it: a parameter may be a vendor's secret (seed 001 has `ga4_api_secret`)."""
    return {**pipeline, "parameters": dict.fromkeys(pipeline["parameters"], MASK)}


def _update(
    connection: sqlite3.Connection, pipeline_id: str, fields: dict[str, Any], now_ms: int
) -> Changed[dict[str, Any]]:
    before = _get(connection, pipeline_id)
    given = f.checked(_without_unchanged(fields, before), CHECKS)
    if given.get("slug") == "":
        raise AdminError.invalid("slug", "must not be empty")
    change(connection, pipeline_id, given, now_ms)
    after = _get(connection, pipeline_id)
    masked = ["parameters"] if before["parameters"] != after["parameters"] else []
    return auditing.updated(_told(before), _told(after), masked)._replace(result=after)


def change(connection: sqlite3.Connection, pipeline_id: str, given: Mapping[str, Any], now_ms: int) -> None:
    """Write these checked fields over what there is. Raises NOT_FOUND, CONFLICT, VALIDATION_ERROR."""
    row = found_pipeline(connection, pipeline_id)
    after = _merged(pipeline_of(row, None), given)
    _check_slug(connection, after["slug"], pipeline_id)
    columns = {**dict(row), **_columns(after), "slug": after["slug"], "updated_at_ms": now_ms}
    rows.update(connection, columns)


def _delete(connection: sqlite3.Connection, pipeline_id: str, now_ms: int) -> Changed[None]:
    before = _get(connection, pipeline_id)
    end(connection, pipeline_id, now_ms)
    return auditing.deleted(_told(before))


def end(connection: sqlite3.Connection, pipeline_id: str, now_ms: int) -> None:
    """Its key and challenge tokens are refused from now on, and nothing more is sent for it."""
    rows.soft_delete(connection, pipeline_id, now_ms)
    rows.drop_pending(connection, pipeline_id, now_ms)
    accounts.delete_tokens_of(connection, pipeline_id)


def _rotate(connection: sqlite3.Connection, pipeline_id: str, columns: Mapping[str, Any]) -> Changed[str]:
    row = found_pipeline(connection, pipeline_id)
    rows.update(connection, {**dict(row), **columns})
    prefixes = {"old": row["secret_prefix"], "new": columns["secret_prefix"]}
    changes = {"pipeline_key_secret": SECRET_CHANGED, "pipeline_key_secret_prefix": prefixes}
    return Changed(str(row["pipeline_key"]), pipeline_id, changes)


def _insert_challenge(connection: sqlite3.Connection, token: accounts.Token) -> Changed[None]:
    row = found_pipeline(connection, token.subject or "")
    accounts.insert_tokens(connection, [token])
    return Changed(None, row["id"], {"expires_at": {"old": None, "new": iso_s(token.expires_at_ms)}})


def _check_slug(connection: sqlite3.Connection, slug: str, pipeline_id: str) -> None:
    if rows.slug_is_taken(connection, slug, pipeline_id):
        message = "another pipeline has it"
        raise AdminError("CONFLICT", f"slug: {message}", details=[{"field": "slug", "message": message}])


def _free_slug(connection: sqlite3.Connection, name: str) -> str:
    """`Marketing Website` -> `marketing-website`, or with `-2`, `-3`, ... where that is taken."""
    base = slug_of(name)
    slug, number = base, 1
    while rows.slug_is_taken(connection, slug, ""):
        number += 1
        slug = f"{base}-{number}"
    return slug


# ── Between rows and objects ─────────────────────────────────────────────────────────────────


def slug_of(name: str) -> str:
    """The name in lower-case ASCII, words joined by hyphens; `pipeline` where nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[: LONGEST_SLUG - 10].strip("-") or "pipeline"


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    after = {**before, **given}
    for name in MERGED:
        after[name] = {**DEFAULTS[name], **before[name], **given.get(name, {})}
    check_builder_config(after["js_builder_config"])
    return after


def _without_unchanged(fields: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """So that a client may PUT back the whole object that it got."""
    changed = {
        name: value for name, value in fields.items() if name not in READ_ONLY or value != before.get(name)
    }
    refused = [{"field": name, "message": "is read-only"} for name in READ_ONLY if name in changed]
    if refused:
        raise f.invalid(refused)
    return changed


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a user sets, without the slug."""
    return {name: _column(values[name]) for name in CHECKS if name != "slug"}


def _column(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _secret_columns(services: Services, secret: str) -> dict[str, Any]:
    return {
        "secret_ciphertext": services.keyring.encrypt(secret.encode()),
        "secret_prefix": secret[:SECRET_PREFIX_LENGTH],
    }


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    whole = pipeline_of(row, None)
    return {name: whole[name] for name in SUMMARY}


def pipeline_of(row: sqlite3.Row, org_id: str | None) -> dict[str, Any]:
    """The pipeline object in the order that seed 001 prints."""
    return {
        "id": row["id"],
        "org_id": org_id,
        "name": row["name"],
        "slug": row["slug"],
        "type": row["type"],
        "pipeline_key": row["pipeline_key"],
        "pipeline_key_secret_prefix": row["secret_prefix"],
        "domain_allowlist": msgspec.json.decode(row["domain_allowlist"]),
        "labels": msgspec.json.decode(row["labels"]),
        "rate_limit_rps": row["rate_limit_rps"],
        "challenge_token_required": bool(row["challenge_token_required"]),
        "parameters": msgspec.json.decode(row["parameters"]),
        "config": msgspec.json.decode(row["config"]),
        "js_builder_config": msgspec.json.decode(row["js_builder_config"]),
        "identity_config": msgspec.json.decode(row["identity_config"]),
        "enabled": bool(row["enabled"]),
        "created_at": iso_s(row["created_at_ms"]),
        "updated_at": iso_s(row["updated_at_ms"]),
    }

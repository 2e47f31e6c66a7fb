"""API keys: what programs call the management API with (api.md, section 2).

A key acts for the person who made it, with the role it was given or the person's present one, whichever is
less. It works on every route and on the debug stream, but it does not come in for people: nothing below
`auth`, and no change of users or API keys. The key itself is shown once; its SHA-256 is kept.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from datafly_lite.auth_keys import new_key, prefix_of
from datafly_lite.auth_people import ROLES, has_role
from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.events import instant
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.management.users import actor
from datafly_lite.services import Services
from datafly_lite.store import accounts
from datafly_lite.store import api_keys as rows

MOST_OF_A_PERSON = 1_000
LAST_INSTANT_MS = 253_402_300_799_000
"""The end of the year 9999."""


def _end(value: Any) -> int | None:
    """A time, or null for none."""
    if value is None:
        return None
    at_ms = instant(value)
    if not 0 <= at_ms <= LAST_INSTANT_MS:
        raise f.FieldError("must be a time such as 2026-02-25T10:00:00Z")
    return at_ms


CHECKS: dict[str, f.Check] = {
    "name": f.line(200, shortest=1),
    "role": f.one_of(*ROLES),
    "expires_at": _end,
}


async def list_api_keys(services: Services, *, cursor: str | None = None, limit: int = 50) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`: everybody's, oldest first, expired ones too."""
    after = decode_cursor(cursor) or 0
    found = await services.store.read(rows.after, after, check_limit(limit) + 1)
    shown = found[:limit]
    return page([_object(row) for row in shown], shown[-1]["number"] if len(found) > limit else None)


async def get_api_key(services: Services, key_id: str) -> dict[str, Any]:
    """One. Raises NOT_FOUND."""
    return _object(await services.store.read(_found, key_id))


async def create_api_key(services: Services, by_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """`{...key, "key": "ak_..."}` from `{name, role, expires_at?}`: the key stands here only.

    Raises VALIDATION_ERROR, FORBIDDEN, CONFLICT.
    """
    given = f.checked(fields, CHECKS, required=("name", "role"))
    key, now_ms = new_key(), services.clock()
    ends_at_ms = given.pop("expires_at", None)
    if ends_at_ms is not None and ends_at_ms <= now_ms:
        raise AdminError.invalid("expires_at", "must be in the future")
    columns = {
        **given,
        "id": new_id("key"),
        "user_id": by_id,
        "digest": accounts.digest_of(key),
        "prefix": prefix_of(key),
        "created_at_ms": now_ms,
        "expires_at_ms": ends_at_ms,
    }
    made = await auditing.write(services, Audited("api_key.created", "api_key"), _create, columns)
    return {**made, "key": key}


async def delete_api_key(services: Services, by_id: str, key_id: str) -> None:
    """The key is refused from now on. Raises NOT_FOUND."""
    await auditing.write(services, Audited("api_key.deleted", "api_key"), _delete, by_id, key_id)
    services.authority.announce_end()


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def _found(connection: sqlite3.Connection, key_id: str) -> sqlite3.Row:
    row = rows.one(connection, key_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such API key")
    return row


def _create(connection: sqlite3.Connection, columns: dict[str, Any]) -> Changed[dict[str, Any]]:
    maker = actor(connection, columns["user_id"])
    if not has_role(maker["role"], columns["role"]):
        raise AdminError("FORBIDDEN", f"a key can have your own role at most, which is {maker['role']}")
    if rows.count_of(connection, maker["id"]) >= MOST_OF_A_PERSON:
        raise AdminError("CONFLICT", f"you have {MOST_OF_A_PERSON:,} API keys: delete one first")
    rows.insert(connection, columns)
    return auditing.created(_object(_found(connection, columns["id"])))


def _delete(connection: sqlite3.Connection, by_id: str, key_id: str) -> Changed[None]:
    actor(connection, by_id)
    before = _object(_found(connection, key_id))
    rows.delete(connection, key_id)
    return auditing.deleted(before)


def _object(row: sqlite3.Row) -> dict[str, Any]:
    times = {name: row[f"{name}_ms"] for name in ("expires_at", "last_used_at", "created_at")}
    return {
        **{name: row[name] for name in ("id", "name", "prefix", "role", "user_id", "user_email")},
        **{name: None if at_ms is None else iso_s(at_ms) for name, at_ms in times.items()},
    }

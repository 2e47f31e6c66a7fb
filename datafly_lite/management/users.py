"""People: invited, changed, removed (api.md, section 2; spec/datafly-signal.md, 9.4).

Beside the role that the routes ask for:
- only the owner gives a role at or above their own, or changes or removes somebody who has one. Everybody
  may change their own name, and lower or remove themselves;
- there is always exactly one owner, who is active. The owner hands over by giving the role owner to
  somebody active, and becomes an admin in the same transaction;
- a change of role ends the person's sessions and tokens; API keys stay, and may do no more than the person.
  Disabling and removing end the API keys too, and they do not come back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.auth_people import (
    LONGEST_EMAIL,
    LONGEST_NAME,
    ROLES,
    checked_email,
    has_role,
    user_of,
)
from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.services import Services
from datafly_lite.store import accounts, api_keys

STATUSES = ("active", "invited", "disabled")
GIVEN = ("viewer", "editor", "admin")
"""Roles that an invitation may carry."""


def _email(value: Any) -> str:
    try:
        return checked_email(f.line(LONGEST_EMAIL)(value))
    except AdminError as error:
        raise f.FieldError(error.details[0]["message"]) from None


INVITE_CHECKS: dict[str, f.Check] = {
    "email": _email,
    "name": f.line(LONGEST_NAME),
    "role": f.one_of(*GIVEN),
}
CHECKS: dict[str, f.Check] = {
    "name": f.line(LONGEST_NAME),
    "role": f.one_of(*ROLES),
    "status": f.one_of(*STATUSES),
}
READ_ONLY = ("id", "email", "created_at", "updated_at")
UNREAD = ("last_login_at",)
"""May be sent back as well, as it was: it changes by itself."""


async def list_users(services: Services, *, cursor: str | None = None, limit: int = 50) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, in the order they were invited."""
    after = decode_cursor(cursor) or 0
    rows = await services.store.read(accounts.users_after, after, check_limit(limit) + 1)
    shown = rows[:limit]
    return page([_object(row) for row in shown], shown[-1]["number"] if len(rows) > limit else None)


async def get_user(services: Services, user_id: str) -> dict[str, Any]:
    """One. Raises NOT_FOUND."""
    return _object(await services.store.read(_found, user_id))


async def invite(services: Services, by_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """`{...user, "invite_url", "expires_at"}` from `{email, name?, role}`: the link stands here only.

    Raises VALIDATION_ERROR, FORBIDDEN, CONFLICT.
    """
    given = f.checked(fields, INVITE_CHECKS, required=("email", "role"))
    user = {"name": "", **given, "id": new_id("usr"), "now_ms": services.clock()}
    text, token = services.authority.new_invitation(user["id"])
    audited = Audited("user.invited", "user")
    made = await auditing.write(services, audited, _invite, by_id, user, token)
    return _with_link(services, made, text, token)


async def invite_again(services: Services, by_id: str, user_id: str) -> dict[str, Any]:
    """As `invite`, for somebody who has not come yet: a new link, which ends the one before.

    Raises NOT_FOUND, FORBIDDEN, CONFLICT.
    """
    text, token = services.authority.new_invitation(user_id)
    audited = Audited("user.invited", "user")
    made = await auditing.write(services, audited, _invite_again, by_id, user_id, token)
    return _with_link(services, made, text, token)


async def update_user(services: Services, by_id: str, user_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Change name, role, status. Read-only fields may be sent back as they were read.

    Raises NOT_FOUND, VALIDATION_ERROR, FORBIDDEN, CONFLICT.
    """
    before = await get_user(services, user_id)
    given = f.checked(_without_unchanged(fields, before), CHECKS)
    audited = Audited("user.updated", "user")
    after = await auditing.write(services, audited, _update, by_id, user_id, given, services.clock())
    services.authority.announce_end()
    return after


async def delete_user(services: Services, by_id: str, user_id: str) -> None:
    """Remove somebody, with all that lets them in. Raises NOT_FOUND, FORBIDDEN, CONFLICT."""
    await auditing.write(services, Audited("user.deleted", "user"), _delete, by_id, user_id)
    services.authority.announce_end()


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def _found(connection: sqlite3.Connection, user_id: str) -> sqlite3.Row:
    row = accounts.user(connection, user_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such user")
    return row


def actor(connection: sqlite3.Connection, user_id: str) -> sqlite3.Row:
    """Who acts, as they are now: their role may have sunk since they were let in. Raises FORBIDDEN."""
    row = accounts.user(connection, user_id)
    if row is None or row["status"] != "active" or not has_role(row["role"], "admin"):
        raise AdminError("FORBIDDEN", "this needs the role admin")
    return row


def _invite(
    connection: sqlite3.Connection, by_id: str, user: Mapping[str, Any], token: accounts.Token
) -> Changed[dict[str, Any]]:
    _check_gift(actor(connection, by_id), user["role"])
    if accounts.user_by_email(connection, user["email"]) is not None:
        raise AdminError("CONFLICT", "somebody has this e-mail address already")
    row = accounts.insert_invited(connection, user)
    accounts.insert_tokens(connection, [token])
    return auditing.created(_object(row))


def _invite_again(
    connection: sqlite3.Connection, by_id: str, user_id: str, token: accounts.Token
) -> Changed[dict[str, Any]]:
    by, row = actor(connection, by_id), _found(connection, user_id)
    _check_reach(by, row)
    if row["status"] != "invited":
        raise AdminError("CONFLICT", "this person has come already, and needs no link")
    accounts.delete_tokens_of(connection, user_id)
    accounts.insert_tokens(connection, [token])
    return Changed(_object(row), user_id, {"link": {"old": None, "new": "sent again"}})


def _update(
    connection: sqlite3.Connection, by_id: str, user_id: str, given: Mapping[str, Any], now_ms: int
) -> Changed[dict[str, Any]]:
    by, before = actor(connection, by_id), _found(connection, user_id)
    wanted = {**{name: before[name] for name in CHECKS}, **given}
    _check_reach(by, before)
    if wanted["role"] != before["role"]:
        _check_gift(by, wanted["role"])
    _check_status(before, wanted)
    _check_owner(before, wanted)
    handed_over = _hand_over(connection, by, now_ms) if wanted["role"] == "owner" != before["role"] else {}
    accounts.update_user(connection, {**wanted, "id": user_id, "now_ms": now_ms})
    _end_what_no_longer_holds(connection, before, wanted)
    changed = auditing.updated(_object(before), _object(_found(connection, user_id)))
    return changed._replace(changes={**(changed.changes or {}), **handed_over} or None)


def _hand_over(connection: sqlite3.Connection, owner: sqlite3.Row, now_ms: int) -> dict[str, Any]:
    """The owner becomes an admin; what the entry says of it."""
    values = {"id": owner["id"], "name": owner["name"], "status": owner["status"], "now_ms": now_ms}
    accounts.update_user(connection, {**values, "role": "admin"})
    accounts.delete_tokens_of(connection, owner["id"])
    return {"previous_owner": {"old": None, "new": owner["email"]}}


def _end_what_no_longer_holds(
    connection: sqlite3.Connection, before: sqlite3.Row, wanted: Mapping[str, Any]
) -> None:
    is_shut_out = wanted["status"] == "disabled"
    if is_shut_out or (wanted["role"] != before["role"] and before["status"] != "invited"):
        accounts.delete_tokens_of(connection, before["id"])
    if is_shut_out:
        api_keys.delete_of(connection, before["id"])


def _delete(connection: sqlite3.Connection, by_id: str, user_id: str) -> Changed[None]:
    by, before = actor(connection, by_id), _found(connection, user_id)
    _check_reach(by, before)
    if before["role"] == "owner":
        raise _no_owner()
    accounts.delete_tokens_of(connection, user_id)
    api_keys.delete_of(connection, user_id)
    accounts.delete_user(connection, user_id)
    return auditing.deleted(_object(before))


# ── Rules ────────────────────────────────────────────────────────────────────────────────────


def is_within_reach(role: str, by_id: str, target_role: str, target_id: str) -> bool:
    """Whether somebody with this role may change the target."""
    return role == "owner" or by_id == target_id or not has_role(target_role, role)


def can_give(role: str, given: str) -> bool:
    """Whether somebody with this role may give that one to others."""
    return role == "owner" or not has_role(given, role)


def _check_reach(by: sqlite3.Row, target: sqlite3.Row) -> None:
    if not is_within_reach(by["role"], by["id"], target["role"], target["id"]):
        raise AdminError("FORBIDDEN", f"somebody with the role {target['role']} is changed by the owner only")


def _check_gift(by: sqlite3.Row, role: str) -> None:
    if not can_give(by["role"], role):
        raise AdminError("FORBIDDEN", f"the role {role} is given by the owner only")


def _check_status(before: sqlite3.Row, wanted: Mapping[str, Any]) -> None:
    """Raise CONFLICT where somebody would leave or enter the state of being invited."""
    if wanted["status"] == before["status"]:
        return
    if before["status"] == "invited":
        message = "somebody who is invited becomes active by choosing a password; remove them instead"
        raise AdminError("CONFLICT", message)
    if wanted["status"] == "invited":
        raise AdminError("CONFLICT", "somebody who has come cannot be invited once more")


def _check_owner(before: sqlite3.Row, wanted: Mapping[str, Any]) -> None:
    """Raise CONFLICT where there would be no active owner."""
    if before["role"] == "owner" and (wanted["role"] != "owner" or wanted["status"] != "active"):
        raise _no_owner()
    if wanted["role"] == "owner" and wanted["status"] != "active":
        raise AdminError("CONFLICT", "only somebody active can become the owner")


def _no_owner() -> AdminError:
    return AdminError("CONFLICT", "there is always one owner: make somebody else the owner first")


# ── Objects ──────────────────────────────────────────────────────────────────────────────────


def _object(row: sqlite3.Row) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(user_of(row))
    return made


def _with_link(services: Services, user: dict[str, Any], text: str, token: accounts.Token) -> dict[str, Any]:
    url = f"{services.settings.base_url}/accept-invite?token={text}"
    return {**user, "invite_url": url, "expires_at": iso_s(token.expires_at_ms)}


def _without_unchanged(fields: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """So that a client may PUT back the whole object that it got."""
    refused = [
        {"field": name, "message": "cannot be changed"}
        for name in READ_ONLY
        if name in fields and fields[name] != before[name]
    ]
    if refused:
        raise f.invalid(refused)
    return {name: value for name, value in fields.items() if name not in (*READ_ONLY, *UNREAD)}

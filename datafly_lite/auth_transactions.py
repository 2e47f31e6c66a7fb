"""What must be decided and changed at once about people and tokens; an AdminError undoes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from datafly_lite.auth_people import User, user_of
from datafly_lite.errors import AdminError
from datafly_lite.store import accounts, api_keys


def wrong_credentials() -> AdminError:
    """For an unknown person, a wrong password, and one that has just been changed."""
    return AdminError("INVALID_CREDENTIALS", "the e-mail address or the password is wrong")


def insert_tokens_of(connection: sqlite3.Connection, user: User, tokens: list[accounts.Token]) -> None:
    """Tokens for somebody as they were seen. Raises INVALID_CREDENTIALS where they were disabled or changed
    since: what ends all of a person's tokens must not be outlived by those that are just being made.
    """
    row = accounts.user(connection, user.id)
    if row is None or row["status"] != "active" or user_of(row).updated_at != user.updated_at:
        raise wrong_credentials()
    accounts.insert_tokens(connection, tokens)


def replace_setup_token(connection: sqlite3.Connection, token: accounts.Token) -> bool:
    """A new token in the place of the old one; False where there is an owner."""
    if accounts.owner(connection) is not None:
        return False
    accounts.delete_tokens_of_kind(connection, "setup")
    accounts.insert_tokens(connection, [token])
    return True


def check_setup(connection: sqlite3.Connection, digest: bytes, now_ms: int) -> None:
    """Raises GONE, INVALID_TOKEN or EXPIRED_TOKEN."""
    if accounts.owner(connection) is not None:
        raise AdminError("GONE", "this store has been set up already: log in instead")
    _check_link(accounts.token(connection, digest, "setup"), now_ms)


def set_up(
    connection: sqlite3.Connection, digest: bytes, fields: Mapping[str, Any], now_ms: int
) -> sqlite3.Row:
    """The owner, for a token that is still good. Raises as `check_setup`."""
    check_setup(connection, digest, now_ms)
    accounts.delete_tokens_of_kind(connection, "setup")
    return accounts.insert_user(connection, fields)


def insert_first_owner(connection: sqlite3.Connection, fields: Mapping[str, Any]) -> sqlite3.Row | None:
    """The owner, without a token; None where there is one."""
    if accounts.owner(connection) is not None:
        return None
    accounts.delete_tokens_of_kind(connection, "setup")
    return accounts.insert_user(connection, fields)


def follow_sign_in_link(connection: sqlite3.Connection, digest: bytes, now_ms: int) -> sqlite3.Row:
    """The user of the link, which is used up. Raises GONE, INVALID_TOKEN or EXPIRED_TOKEN."""
    found = accounts.token(connection, digest, "signin")
    _check_link(found, now_ms)
    accounts.mark_used(connection, digest)
    person = accounts.token_with_user(connection, digest, "signin")
    if person is None:
        raise AdminError("INVALID_TOKEN", "the user of this link can no longer log in")
    return person[1]


def check_invitation(connection: sqlite3.Connection, digest: bytes, now_ms: int) -> sqlite3.Row:
    """Who was invited by this link. Raises GONE, INVALID_TOKEN or EXPIRED_TOKEN."""
    found = _check_link(accounts.token(connection, digest, "invite"), now_ms, INVITATION)
    person = accounts.user(connection, found["subject"])
    if person is None:
        raise AdminError("INVALID_TOKEN", "this link is not valid: whoever it invited is no longer here")
    return person


def accept_invitation(
    connection: sqlite3.Connection, digest: bytes, fields: Mapping[str, Any], now_ms: int
) -> sqlite3.Row:
    """Who was invited, now active, from `password_hash` and `name`. Raises as `check_invitation`."""
    person = check_invitation(connection, digest, now_ms)
    accounts.mark_used(connection, digest)
    accounts.activate_user(connection, {**fields, "id": person["id"], "now_ms": now_ms})
    return accounts.user(connection, person["id"]) or person


def key_with_user(connection: sqlite3.Connection, digest: bytes) -> tuple[sqlite3.Row, sqlite3.Row] | None:
    """An API key and the active user it acts for."""
    found = api_keys.by_digest(connection, digest)
    person = accounts.user(connection, found["user_id"]) if found else None
    return (found, person) if found and person and person["status"] == "active" else None


class _Advice(NamedTuple):
    """What to do about a link that is unknown, and about one that has expired."""

    unknown: str
    expired: str


PRINTED = _Advice("the newest one is in the program's output", "restart the program for a new one")
INVITATION = _Advice(*["ask whoever invited you for a new one"] * 2)


def _check_link(found: sqlite3.Row | None, now_ms: int, advice: _Advice = PRINTED) -> sqlite3.Row:
    """The link's row. Raises GONE, INVALID_TOKEN or EXPIRED_TOKEN."""
    if found is None:
        raise AdminError("INVALID_TOKEN", f"this link is not valid; {advice.unknown}")
    if found["used"]:
        raise AdminError("GONE", "this link was used already")
    if found["expires_at_ms"] <= now_ms:
        raise AdminError("EXPIRED_TOKEN", f"this link has expired; {advice.expired}")
    return found


def rotate(connection: sqlite3.Connection, digest: bytes, tokens: list[accounts.Token], now_ms: int) -> bool:
    """False, and everything of the user's revoked, where the token was rotated before."""
    found = accounts.token_with_user(connection, digest, "refresh")
    if found is None or found[0]["expires_at_ms"] <= now_ms:
        return False
    if found[0]["used"]:
        accounts.delete_tokens_of(connection, found[0]["subject"])
        return False
    accounts.mark_used(connection, digest)
    accounts.insert_tokens(connection, tokens)
    return True

"""What must be decided and changed at once about people and tokens; an AdminError undoes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from datafly_lite.errors import AdminError
from datafly_lite.store import accounts


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


def _check_link(found: sqlite3.Row | None, now_ms: int) -> None:
    if found is None:
        raise AdminError("INVALID_TOKEN", "this link is not valid; the newest one is in the program's output")
    if found["used"]:
        raise AdminError("GONE", "this link was used already")
    if found["expires_at_ms"] <= now_ms:
        raise AdminError("EXPIRED_TOKEN", "this link has expired; restart the program for a new one")


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

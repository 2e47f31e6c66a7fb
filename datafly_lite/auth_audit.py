"""What people do at the door of the appliance, for the audit log: each with the change that it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from datafly_lite import audit
from datafly_lite import auth_transactions as transactions
from datafly_lite.audit import SECRET_CHANGED, Audited, Changed
from datafly_lite.auth_limits import Ceiling, Sender
from datafly_lite.auth_people import EMAIL
from datafly_lite.clock import Clock
from datafly_lite.errors import AdminError, StorageError
from datafly_lite.store import Store, accounts

SET_UP = Audited("auth.set_up", "user")
LOGIN = Audited("auth.login", "user")
LOGIN_FAILED = Audited("auth.login_failed", "user")
LOGOUT = Audited("auth.logout", "user")
PASSWORD_CHANGED = Audited("auth.password_changed", "user")
JOINED = Audited("user.updated", "user")
REFRESH_REUSED = Audited("auth.refresh_reused", "user")

FAILED_LOGINS_A_MINUTE = 10
"""Entries at most, so that guesses by the million are 1.3 million rows in 90 days and not more."""

FAILED_LOGINS_OF_A_NETWORK_A_MINUTE = 5
"""Of these, so that one guesser does not hide another."""

NO_EMAIL = "(no e-mail address)"
"""In the place of what is none: people in a hurry type the password there."""


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def come_in(
    connection: sqlite3.Connection, user_id: str, password_hash: str, now_ms: int
) -> Changed[sqlite3.Row]:
    """A log-in with the password of this hash; the user's row. Raises INVALID_CREDENTIALS where it is
    another by now: to look at one takes a while, and somebody may be changing it because it is known.
    """
    accounts.set_last_login(connection, user_id, now_ms)
    row = accounts.user(connection, user_id)
    if row is None or row["status"] != "active" or row["password_hash"] != password_hash:
        raise transactions.wrong_credentials()
    return Changed(row, row["id"], {}, _by(row))


def follow_sign_in_link(connection: sqlite3.Connection, digest: bytes, now_ms: int) -> Changed[sqlite3.Row]:
    """A log-in with a one-time link; the user's row."""
    row = transactions.follow_sign_in_link(connection, digest, now_ms)
    return Changed(row, row["id"], {"link": {"old": "unused", "new": "used"}}, _by(row))


def accept_invitation(
    connection: sqlite3.Connection, digest: bytes, fields: Mapping[str, Any], now_ms: int
) -> Changed[sqlite3.Row]:
    """Somebody who was invited chooses a password; the user's row."""
    before = transactions.check_invitation(connection, digest, now_ms)
    row = transactions.accept_invitation(connection, digest, fields, now_ms)
    old, new = ({"name": one["name"], "status": one["status"]} for one in (before, row))
    return Changed(row, row["id"], {**audit.differences(old, new), "password": SECRET_CHANGED}, _by(row))


def set_up(
    connection: sqlite3.Connection, digest: bytes, fields: Mapping[str, Any], now_ms: int
) -> Changed[sqlite3.Row]:
    """The owner makes their own account; its row."""
    row = transactions.set_up(connection, digest, fields, now_ms)
    return Changed(row, row["id"], _first_owner(row), _by(row))


def insert_first_owner(
    connection: sqlite3.Connection, fields: Mapping[str, Any]
) -> Changed[sqlite3.Row | None]:
    """The program makes the owner, as its settings say; the row, None where there is an owner."""
    row = transactions.insert_first_owner(connection, fields)
    return Changed(row, row["id"], _first_owner(row)) if row else Changed(None)


def set_password_hash(
    connection: sqlite3.Connection, user_id: str, password_hash: str, now_ms: int
) -> Changed[sqlite3.Row]:
    """A new password; the user's row after it. Raises NOT_FOUND."""
    accounts.set_password_hash(connection, user_id, password_hash, now_ms)
    row = accounts.user(connection, user_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such user")
    return Changed(row, user_id, {"password": SECRET_CHANGED})


def log_out(connection: sqlite3.Connection, digest: bytes, kind: str) -> Changed[None]:
    """The end of the log-in that this token came from; of an unknown one nothing."""
    found = accounts.token(connection, digest, kind)
    if found is None:
        return Changed(None)
    person = accounts.user(connection, found["subject"])
    if found["family"]:
        accounts.delete_family(connection, found["subject"], found["family"])
    else:
        accounts.delete_token(connection, digest)
    return Changed(None, found["subject"], {}, _by(person) if person else None)


def rotate(
    connection: sqlite3.Connection, digest: bytes, tokens: list[accounts.Token], now_ms: int
) -> Changed[bool]:
    """New tokens for a refresh token: the everyday that no log needs, unless it was used before."""
    found = accounts.token_with_user(connection, digest, "refresh")
    if transactions.rotate(connection, digest, tokens, now_ms):
        return Changed(True)
    if found is None or accounts.token(connection, digest, "refresh") is not None:
        return Changed(False)
    return Changed(False, found[1]["id"], {"tokens": {"old": "valid", "new": "revoked"}}, _by(found[1]))


def fail(connection: sqlite3.Connection, user_id: str | None, email: str, left_out: int) -> Changed[None]:
    """A log-in with a password that is wrong, or with an address that nobody has."""
    del connection
    counted = {"left_out_before": {"old": None, "new": left_out}} if left_out else {}
    return Changed(None, user_id, counted, (None, email))


def _first_owner(row: sqlite3.Row) -> dict[str, audit.Change]:
    return audit.differences({}, {name: row[name] for name in ("email", "name", "role", "status")})


def _by(row: sqlite3.Row) -> tuple[str, str]:
    return row["id"], row["email"]


# ── Failed log-ins ───────────────────────────────────────────────────────────────────────────


class FailedLogins:
    """Writes them down, no more than FAILED_LOGINS_A_MINUTE; the next entry says how many were left out."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._of_all = Ceiling(FAILED_LOGINS_A_MINUTE, clock)
        self._of_network = Ceiling(FAILED_LOGINS_OF_A_NETWORK_A_MINUTE, clock)
        self._left_out = 0

    async def note(self, sender: Sender, user_id: str | None, email: str) -> None:
        """`user_id` is whose account it was tried on. The answer does not depend on whether this works."""
        left_out, self._left_out = self._left_out, 0
        told = email if EMAIL.fullmatch(email) else NO_EMAIL
        try:
            self._of_network.take(sender.network)
            self._of_all.take(None)
            await audit.write(self._store, self._clock, LOGIN_FAILED, fail, user_id, told, left_out)
        except (AdminError, StorageError):
            self._left_out += left_out + 1

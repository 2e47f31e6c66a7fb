"""The organisation, its people, and the tokens that stand for them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

EXPIRED_KEPT_MS = 24 * 3_600_000
"""How long an expired token is still known, so that its bearer hears `expired` and not `unknown`."""


class Token(NamedTuple):
    """A token's row. The token itself is given away and never kept."""

    digest: bytes
    kind: str
    subject: str | None
    family: str | None
    created_at_ms: int
    expires_at_ms: int


def digest_of(token: str) -> bytes:
    """What is kept of a token: 222 bits of chance need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


# ── The organisation ─────────────────────────────────────────────────────────────────────────


def organisation_id(connection: sqlite3.Connection) -> str | None:
    """The one organisation, where it is there already."""
    row = connection.execute("SELECT id FROM organisation").fetchone()
    return row["id"] if row else None


def ensure_organisation(connection: sqlite3.Connection, id_: str, now_ms: int) -> str:
    """The one organisation; made under `id_` where there is none."""
    found = organisation_id(connection)
    if found is None:
        connection.execute(
            "INSERT INTO organisation (id, name, created_at_ms) VALUES (?, '', ?)", (id_, now_ms)
        )
    return found or id_


# ── People ───────────────────────────────────────────────────────────────────────────────────


def owner(connection: sqlite3.Connection) -> sqlite3.Row | None:
    """The one owner."""
    row: sqlite3.Row | None = connection.execute("SELECT * FROM users WHERE role = 'owner'").fetchone()
    return row


def user(connection: sqlite3.Connection, user_id: str) -> sqlite3.Row | None:
    """One user."""
    row: sqlite3.Row | None = connection.execute("SELECT * FROM users WHERE id = ?", (user_id,)).fetchone()
    return row


def insert_user(connection: sqlite3.Connection, fields: Mapping[str, Any]) -> sqlite3.Row:
    """A new active user from `id, email, name, password_hash, role, now_ms`."""
    row: sqlite3.Row = connection.execute(
        """
        INSERT INTO users (id, email, name, password_hash, role, status, created_at_ms, updated_at_ms)
        VALUES (:id, :email, :name, :password_hash, :role, 'active', :now_ms, :now_ms)
        RETURNING *
        """,
        fields,
    ).fetchone()
    return row


def insert_invited(connection: sqlite3.Connection, fields: Mapping[str, Any]) -> sqlite3.Row:
    """Somebody who has no password yet, from `id, email, name, role, now_ms`."""
    row: sqlite3.Row = connection.execute(
        """
        INSERT INTO users (id, email, name, role, status, created_at_ms, updated_at_ms)
        VALUES (:id, :email, :name, :role, 'invited', :now_ms, :now_ms)
        RETURNING *
        """,
        fields,
    ).fetchone()
    return row


def users_after(connection: sqlite3.Connection, after: int, limit: int) -> list[sqlite3.Row]:
    """Up to `limit` users beyond this `number`, in the order they were added."""
    return connection.execute(
        "SELECT rowid AS number, * FROM users WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, limit)
    ).fetchall()


def update_user(connection: sqlite3.Connection, fields: Mapping[str, Any]) -> None:
    """Set `name, role, status, now_ms` of the user `id`."""
    connection.execute(
        """
        UPDATE users
           SET name = :name, role = :role, status = :status, updated_at_ms = :now_ms
         WHERE id = :id
        """,
        fields,
    )


def activate_user(connection: sqlite3.Connection, fields: Mapping[str, Any]) -> None:
    """The invited user `id` has chosen a password: `password_hash, now_ms`, and a `name` unless None."""
    connection.execute(
        """
        UPDATE users SET status = 'active', password_hash = :password_hash, name = coalesce(:name, name),
               updated_at_ms = :now_ms
         WHERE id = :id
        """,
        fields,
    )


def delete_user(connection: sqlite3.Connection, user_id: str) -> None:
    """Forget a user; what refers to them must be deleted first."""
    connection.execute("DELETE FROM users WHERE id = ?", (user_id,))


def user_by_email(connection: sqlite3.Connection, email: str) -> sqlite3.Row | None:
    """One user, by the address in lower case."""
    row: sqlite3.Row | None = connection.execute("SELECT * FROM users WHERE email = ?", (email,)).fetchone()
    return row


def set_last_login(connection: sqlite3.Connection, user_id: str, now_ms: int) -> None:
    """The user came in."""
    connection.execute("UPDATE users SET last_login_at_ms = ? WHERE id = ?", (now_ms, user_id))


def set_password_hash(connection: sqlite3.Connection, user_id: str, password_hash: str, now_ms: int) -> None:
    """A new password ends every session and token of its user."""
    connection.execute(
        "UPDATE users SET password_hash = ?, updated_at_ms = ? WHERE id = ?", (password_hash, now_ms, user_id)
    )
    delete_tokens_of(connection, user_id)


# ── Tokens ───────────────────────────────────────────────────────────────────────────────────


def insert_tokens(connection: sqlite3.Connection, tokens: list[Token]) -> None:
    """Keep new tokens, and forget those that expired long ago."""
    for token in tokens:
        connection.execute(
            """
            INSERT INTO tokens (digest, kind, subject, family, created_at_ms, last_used_at_ms, expires_at_ms)
            VALUES (:digest, :kind, :subject, :family, :created_at_ms, :created_at_ms, :expires_at_ms)
            """,
            token._asdict(),
        )
    forget_before_ms = max(token.created_at_ms for token in tokens) - EXPIRED_KEPT_MS
    connection.execute("DELETE FROM tokens WHERE expires_at_ms < ?", (forget_before_ms,))


def token(connection: sqlite3.Connection, digest: bytes, kind: str) -> sqlite3.Row | None:
    """One token of this kind, expired and used ones too."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM tokens WHERE digest = ? AND kind = ?", (digest, kind)
    ).fetchone()
    return row


def token_with_user(
    connection: sqlite3.Connection, digest: bytes, kind: str
) -> tuple[sqlite3.Row, sqlite3.Row] | None:
    """A token and the active user it stands for."""
    found = token(connection, digest, kind)
    person = user(connection, found["subject"]) if found else None
    return (found, person) if found and person and person["status"] == "active" else None


def mark_used(connection: sqlite3.Connection, digest: bytes) -> None:
    """A link was followed, a refresh token rotated."""
    connection.execute("UPDATE tokens SET used = 1 WHERE digest = ?", (digest,))


def touch(connection: sqlite3.Connection, digest: bytes, now_ms: int) -> None:
    """A session was used."""
    connection.execute("UPDATE tokens SET last_used_at_ms = ? WHERE digest = ?", (now_ms, digest))


def delete_token(connection: sqlite3.Connection, digest: bytes) -> None:
    """End one token."""
    connection.execute("DELETE FROM tokens WHERE digest = ?", (digest,))


def delete_tokens_of_kind(connection: sqlite3.Connection, kind: str) -> None:
    """End all tokens of a kind."""
    connection.execute("DELETE FROM tokens WHERE kind = ?", (kind,))


def delete_family(connection: sqlite3.Connection, subject: str, family: str) -> None:
    """End one login: its access token and all its refresh tokens."""
    connection.execute("DELETE FROM tokens WHERE subject = ? AND family = ?", (subject, family))


def delete_tokens_of(connection: sqlite3.Connection, subject: str) -> None:
    """End everything that stands for this user or pipeline."""
    connection.execute("DELETE FROM tokens WHERE subject = ?", (subject,))

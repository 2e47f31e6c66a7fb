"""Keys for programs: rows of api_keys. Of a key itself only the SHA-256 is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

WITH_MAKER = """
    SELECT api_keys.*, users.email AS user_email, users.role AS user_role, users.status AS user_status
      FROM api_keys JOIN users ON users.id = api_keys.user_id
"""


def insert(connection: sqlite3.Connection, fields: Mapping[str, Any]) -> None:
    """A new key from `id, user_id, name, digest, prefix, role, created_at_ms, expires_at_ms`."""
    connection.execute(
        """
        INSERT INTO api_keys (id, user_id, name, digest, prefix, role, created_at_ms, expires_at_ms)
        VALUES (:id, :user_id, :name, :digest, :prefix, :role, :created_at_ms, :expires_at_ms)
        """,
        fields,
    )


def one(connection: sqlite3.Connection, key_id: str) -> sqlite3.Row | None:
    """One key, with its maker's `user_email`, `user_role` and `user_status`."""
    row: sqlite3.Row | None = connection.execute(
        f"{WITH_MAKER} WHERE api_keys.id = ?",
        (key_id,),
    ).fetchone()
    return row


def by_digest(connection: sqlite3.Connection, digest: bytes) -> sqlite3.Row | None:
    """One key, expired ones too."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM api_keys WHERE digest = ?", (digest,)
    ).fetchone()
    return row


def after(connection: sqlite3.Connection, number: int, limit: int) -> list[sqlite3.Row]:
    """Up to `limit` keys beyond this `number`, in the order they were made, each as `one` gives it."""
    return connection.execute(
        f"{WITH_MAKER} WHERE api_keys.number > ? ORDER BY api_keys.number LIMIT ?",
        (number, limit),
    ).fetchall()


def count_of(connection: sqlite3.Connection, user_id: str) -> int:
    """How many keys a user has."""
    number: int = connection.execute(
        "SELECT count(*) FROM api_keys WHERE user_id = ?", (user_id,)
    ).fetchone()[0]
    return number


def touch(connection: sqlite3.Connection, key_id: str, now_ms: int) -> None:
    """A key was used."""
    connection.execute("UPDATE api_keys SET last_used_at_ms = ? WHERE id = ?", (now_ms, key_id))


def delete(connection: sqlite3.Connection, key_id: str) -> None:
    """End one key."""
    connection.execute("DELETE FROM api_keys WHERE id = ?", (key_id,))


def delete_of(connection: sqlite3.Connection, user_id: str) -> None:
    """End all keys of a user."""
    connection.execute("DELETE FROM api_keys WHERE user_id = ?", (user_id,))

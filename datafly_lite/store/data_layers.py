"""The versions of the organisation's data layer and of its consent settings. None is ever changed."""

from __future__ import annotations

import sqlite3
from typing import Literal

Table = Literal["data_layers", "consent_settings"]


def newest(connection: sqlite3.Connection, table: Table) -> sqlite3.Row | None:
    """version, config, created_by, created_at_ms; None while nobody has set anything."""
    row: sqlite3.Row | None = connection.execute(
        f"SELECT * FROM {table} ORDER BY version DESC LIMIT 1"  # noqa: S608 - one of two names
    ).fetchone()
    return row


def at(connection: sqlite3.Connection, table: Table, version: int) -> sqlite3.Row | None:
    """The same of one version; None of version 0, the program's defaults."""
    row: sqlite3.Row | None = connection.execute(
        f"SELECT * FROM {table} WHERE version = ?",  # noqa: S608 - one of two names
        (version,),
    ).fetchone()
    return row


def add(
    connection: sqlite3.Connection, table: Table, config: str, created_by: str | None, now_ms: int
) -> int:
    """A new version; its number."""
    made = connection.execute(
        f"INSERT INTO {table} (config, created_by, created_at_ms) VALUES (?, ?, ?)",  # noqa: S608 - one of two names
        (config, created_by, now_ms),
    )
    return made.lastrowid or 0

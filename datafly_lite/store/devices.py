"""Browsers that were seen, so that a visitor whose `_dfid` is gone is known again."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec

KEPT_MS = 400 * 86_400_000
"""As long as the cookie that names a device."""


class Device(NamedTuple):
    """A row: which visitor a browser is, and what its requests have in common."""

    device_id: str
    pipeline_id: str
    anonymous_id: str
    signals: dict[str, str]
    last_seen_at_ms: int


def known(connection: sqlite3.Connection, device_id: str) -> tuple[str, dict[str, str]] | None:
    """The visitor of a device, and its signals."""
    row = connection.execute(
        "SELECT anonymous_id, signals FROM devices WHERE device_id = ?", (device_id,)
    ).fetchone()
    return (row["anonymous_id"], msgspec.json.decode(row["signals"])) if row else None


def keep(connection: sqlite3.Connection, device: Device) -> None:
    """Write a device down as it is now."""
    connection.execute(
        """
        INSERT INTO devices (device_id, pipeline_id, anonymous_id, signals, last_seen_at_ms)
        VALUES (:device_id, :pipeline_id, :anonymous_id, :signals, :last_seen_at_ms)
            ON CONFLICT DO UPDATE SET pipeline_id = excluded.pipeline_id,
               anonymous_id = excluded.anonymous_id, signals = excluded.signals,
               last_seen_at_ms = excluded.last_seen_at_ms
        """,
        {**device._asdict(), "signals": msgspec.json.encode(device.signals).decode()},
    )


def forget(connection: sqlite3.Connection, device_id: str) -> None:
    """Its visitor does not want to be recognised."""
    connection.execute("DELETE FROM devices WHERE device_id = ?", (device_id,))


def sweep(connection: sqlite3.Connection, now_ms: int) -> None:
    """Forget the devices whose cookie has ended."""
    connection.execute("DELETE FROM devices WHERE last_seen_at_ms < ?", (now_ms - KEPT_MS,))

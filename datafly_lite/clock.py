"""Time, identifiers and chance: the seams through which a test sets them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import uuid_utils

Clock = Callable[[], int]
"""Milliseconds since 1970-01-01 UTC."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def system_clock() -> int:
    """The wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=256)
def iso(at_ms: int) -> str:
    """`1772029800000` -> `2026-02-25T14:30:00.000Z`. All events of a request ask for the same one."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def iso_s(at_ms: int) -> str:
    """As `iso`, in whole seconds, as the management API prints times (seed 001)."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()[:-6] + "Z"


def ms_of(timestamp: str) -> int:
    """The other way: ISO 8601 text with its zone to milliseconds. Raises ValueError."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def new_id(prefix: str) -> str:
    """An identifier that sorts by its time of birth: `pip_0199...`."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def new_token(prefix: str, length: int = 43) -> str:
    """An unguessable token of lower-case letters and digits: 43 of them hold 222 bits."""
    return f"{prefix}_{''.join(secrets.choice(ALPHABET) for _ in range(length))}"

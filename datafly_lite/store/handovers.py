"""Visitors who go from one site to another: what their tokens leave behind, and what they agreed to."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec

from datafly_lite.store import accounts


class Redemption(NamedTuple):
    """A good token that a request brought. `message_id` is what its client calls the event.

    `present` is the visitor whom the browser's cookie names, if any.
    """

    digest: bytes
    pipeline_id: str
    message_id: str | None
    present: str | None
    now_ms: int
    expires_at_ms: int


def redeem(connection: sqlite3.Connection, one: Redemption) -> bool:
    """Use up a token; whether it holds. The same event may bring it again: its answer may be lost.

    It does not hold for a browser whose visitor is known as a user: nobody must be given another's id.
    """
    used = accounts.token(connection, one.digest, "cross_domain")
    if used is None:
        given = (one.digest, "cross_domain", one.pipeline_id, one.message_id)
        accounts.insert_tokens(connection, [accounts.Token(*given, one.now_ms, one.expires_at_ms)])
    elif one.message_id is None or used["family"] != one.message_id:
        return False
    return one.present is None or not _is_user(connection, one.present)


def _is_user(connection: sqlite3.Connection, anonymous_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM identities WHERE anonymous_id = ? AND user_id IS NOT NULL", (anonymous_id,)
    ).fetchone()
    return row is not None


def choices_of(connection: sqlite3.Connection, anonymous_id: str) -> dict[str, bool]:
    """What the visitor agreed to and refused, as their newest events said."""
    row = connection.execute(
        "SELECT consent FROM identities WHERE anonymous_id = ?", (anonymous_id,)
    ).fetchone()
    choices: dict[str, bool] = msgspec.json.decode(row["consent"]).get("choices", {}) if row else {}
    return choices

"""Visitors who go from one site to another: what their tokens leave behind, and what they agreed to."""

from __future__ import annotations

import sqlite3
from typing import Literal, NamedTuple

import msgspec

from datafly_lite.store import accounts

REPEAT_MS = 10_000
"""So long after its first use a token holds again: the first events of a page leave at once, and whichever
is answered last sets the cookie."""

Outcome = Literal["holds", "used", "refused"]


class Redemption(NamedTuple):
    """A good token of the visitor `anonymous_id` that a request brought.

    `message_id` is what its client calls the event; `present` is the visitor whom the browser's cookie
    names, if any; `is_granted` whether the request itself agrees to functional cookies.
    """

    digest: bytes
    anonymous_id: str
    pipeline_id: str
    message_id: str | None
    present: str | None
    is_granted: bool
    now_ms: int
    expires_at_ms: int


def redeem(connection: sqlite3.Connection, one: Redemption) -> Outcome:
    """Use up a token, and what that comes to.

    `refused`: a browser whose visitor is known as a user is given nobody else's id, and none is given
    where one of the two visitors said no to functional cookies.
    """
    used = accounts.token(connection, one.digest, "cross_domain")
    if used is None:
        given = (one.digest, "cross_domain", one.pipeline_id, one.message_id)
        accounts.insert_tokens(connection, [accounts.Token(*given, one.now_ms, one.expires_at_ms)])
    elif not _is_repeated(used, one):
        return "used"
    if one.present is not None and _is_user(connection, one.present):
        return "refused"
    visitors = [one.anonymous_id, *([one.present] if one.present else [])]
    is_refused = choices_of(connection, *visitors).get("functional") is False
    return "refused" if is_refused and not one.is_granted else "holds"


def _is_repeated(used: sqlite3.Row, one: Redemption) -> bool:
    """By the same page at once, or by the same event, whose answer may be lost."""
    is_same_event = one.message_id is not None and used["family"] == one.message_id
    is_at_once = one.now_ms - used["created_at_ms"] < REPEAT_MS
    return used["subject"] == one.pipeline_id and (is_at_once or is_same_event)


def _is_user(connection: sqlite3.Connection, anonymous_id: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM identities WHERE anonymous_id = ? AND user_id IS NOT NULL", (anonymous_id,)
    ).fetchone()
    return row is not None


def choices_of(connection: sqlite3.Connection, *anonymous_ids: str) -> dict[str, bool]:
    """What the visitors agreed to and refused, as their newest events said; a no of one is a no of all."""
    choices: dict[str, bool] = {}
    for anonymous_id in anonymous_ids:
        row = connection.execute(
            "SELECT consent FROM identities WHERE anonymous_id = ?", (anonymous_id,)
        ).fetchone()
        said: dict[str, bool] = msgspec.json.decode(row["consent"]).get("choices", {}) if row else {}
        choices |= {name: choice and choices.get(name, True) for name, choice in said.items()}
    return choices

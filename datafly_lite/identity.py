"""Who a visitor is: rules only, no storage (design.md, section 3; peers.md, section 2, number 13)."""

from __future__ import annotations

import msgspec

from datafly_lite.events import Event

NONSENSE = frozenset(
    {
        "",
        "0",
        "-1",
        "undefined",
        "null",
        "none",
        "nan",
        "nil",
        "true",
        "false",
        "[object object]",
        "anonymous",
        "guest",
    }
)
"""Ids that are a mistake in somebody's page; joining on them made one user of thousands."""


class Known(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is known of a visitor before an event: the inputs that a step takes from state."""

    user_id: str | None = None
    group_id: str | None = None


def is_nonsense(text: str) -> bool:
    """Whether an id names nobody and nothing: what a page writes where it has none."""
    return text.strip().lower() in NONSENSE


def is_user_id(user_id: str | None) -> bool:
    """Whether an id can stand for a person."""
    return user_id is not None and not is_nonsense(user_id)


def after(event: Event, known: Known) -> Known:
    """What is known once the event was seen.

    identify links the visitor to its user, and a later identify to another user links it anew: two
    known users are never joined, the visitor changes hands, and of the new one no group is known.
    group links the visitor to its group.
    """
    user_id, group_id = known.user_id, known.group_id
    if event.type == "identify" and is_user_id(event.user_id):
        group_id = group_id if user_id in (None, event.user_id) else None
        user_id = event.user_id
    if event.type == "group" and event.group_id:
        group_id = event.group_id
    return Known(user_id, group_id) if (user_id, group_id) != (known.user_id, known.group_id) else known

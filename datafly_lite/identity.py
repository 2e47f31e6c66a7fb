"""Who a visitor is: rules only, no storage (spec/datafly-signal.md, 1.1, 6.6).

A visitor is an anonymousId; a user is a userId; a link says that the one was the other. Two known users
are never joined: a later identify hands the visitor over to its new user, and the links from before stay
as rows that can be explained and undone. PostHog merged whole users instead and could not take them
apart again (its issues 5527 and 11873).

- identify links. On a computer that several people share, the newest user is the visitor's.
- alias links a visitor that has no user yet, and nothing else. Segment's may name a former user in
  previousId (docs/connections/spec/alias): that is two known users, and they stay two.
- track, page, screen and group do not link, even with both ids. Segment's Unify joins on them too; one
  server that sends all its users' events with one anonymousId then makes one person of them.
- group says whose the visitor is, and so whose its user is, until another group or another user.

All of it goes by the time of the event: an identify that comes late does not take the visitor back.
A client's own reset() is not seen: the visitor's cookie outlives it, and names the former user until the
next identify.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

import msgspec

from datafly_lite import vendor_ids
from datafly_lite.events import Event
from datafly_lite.vendor_ids import VendorId

NONSENSE = frozenset(
    {
        "",
        "-1",
        "undefined",
        "null",
        "none",
        "nan",
        "nil",
        "true",
        "false",
        "{}",
        "[]",
        "anonymous",
        "guest",
        "id",
        "userid",
        "user_id",
        "anonymousid",
        "anonymous_id",
        "groupid",
        "group_id",
        "distinctid",
        "distinct_id",
        "email",
        "unknown",
        "not_authenticated",
        "(not set)",
        "n/a",
    }
)
"""Ids that are a mistake in somebody's page; joining on them made one user of thousands (PostHog 12008, and
its list of illegal ids)."""

WRAPPING = " \t\r\n\v\f\0\u00a0\u200b\ufeff\"'`\\"
"""What stands around an id that was turned into text twice, as in `"null"`."""
FORMS = re.compile(r"[-0.]*|\[object \w+\]|\{\{.*\}\}|\$\{.*\}|\*\|.*\|\*|%%.*%%", re.DOTALL)
"""No digits but zeros (such as a phone's advertising id where tracking is off), an object as text, and a
placeholder that nobody filled in."""

NOTHING: Mapping[str, VendorId] = {}


class Known(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is known of a visitor before an event: the inputs that a step takes from state."""

    user_id: str | None = None
    group_id: str | None = None
    vendor_ids: dict[str, VendorId] = {}
    linked_at_ms: int = 0


def is_nonsense(text: str) -> bool:
    """Whether an id names nobody and nothing: what a page writes where it has none."""
    bare = text.strip(WRAPPING).casefold()
    return bare in NONSENSE or FORMS.fullmatch(bare) is not None


def is_user_id(user_id: str | None) -> bool:
    """Whether an id can stand for a person."""
    return user_id is not None and not is_nonsense(user_id)


def after(
    event: Event,
    known: Known,
    found: Mapping[str, VendorId] = NOTHING,
    at_ms: int = 0,
    names: Container[str] = vendor_ids.KINDS,
) -> Known:
    """What is known of the event's own visitor once it was seen; the same object if nothing is new.

    `found` are the vendors' ids of the event, `names` those that its visitor's consent allows to keep. A
    visitor that changes hands leaves its former user's group behind.
    """
    user_id, group_id = known.user_id, known.group_id
    linked, linked_at_ms = _user_of(event, known), known.linked_at_ms
    if linked is not None and at_ms >= linked_at_ms:
        group_id = group_id if user_id in (None, linked) else None
        user_id, linked_at_ms = linked, linked_at_ms if linked == user_id else at_ms
    if event.type == "group" and event.group_id is not None and not is_nonsense(event.group_id):
        group_id = event.group_id
    ids = vendor_ids.merged(known.vendor_ids, found, at_ms, names)
    is_same = (user_id, group_id) == (known.user_id, known.group_id) and ids is known.vendor_ids
    return known if is_same else Known(user_id, group_id, ids, linked_at_ms)


def carried(event: Event, known: Known) -> tuple[str | None, str | None]:
    """The userId and groupId that an event goes on with: its own, else what is known of its visitor.

    An id of nobody is as good as none. The group of one user is not put on an event that names another.
    """
    user_id = event.user_id if is_user_id(event.user_id) else known.user_id
    if event.group_id is not None and not is_nonsense(event.group_id):
        return user_id, event.group_id
    return user_id, known.group_id if known.user_id in (None, user_id) else None


def _user_of(event: Event, known: Known) -> str | None:
    """The user that an event links its own visitor to."""
    if not is_user_id(event.user_id):
        return None
    if event.type == "identify":
        return event.user_id
    is_own = event.type == "alias" and _names_its_own_visitor(event)
    return event.user_id if is_own and known.user_id is None else None


def _names_its_own_visitor(event: Event) -> bool:
    """Whether an alias is about the visitor that sends it: under the cookie's id, or the client's own."""
    return event.previous_id in (None, event.anonymous_id, event.original.get("anonymousId"))


def other_visitor(event: Event) -> str | None:
    """Whom an alias speaks of where it is not the visitor that sends it: a server's does.

    It is an anonymousId only where a visitor of that id was seen: then `after_alias` says what is known
    of it from then on. Else it may be a former user's id, and there is nothing to link.
    """
    if event.type != "alias" or not is_user_id(event.user_id) or _names_its_own_visitor(event):
        return None
    previous = event.previous_id
    return None if previous is None or is_nonsense(previous) or previous == event.user_id else previous


def after_alias(event: Event, known: Known) -> Known:
    """What is known of the `other_visitor` of an event: who has a user keeps it."""
    return msgspec.structs.replace(known, user_id=event.user_id) if known.user_id is None else known

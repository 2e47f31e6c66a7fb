"""A visitor's sessions on one pipeline: rules only, no storage (spec/datafly-signal.md, 4.1 step 7 and 9.6).

All times are those of events, not of their arrival: what a phone sends hours later belongs to the session
in which it happened, and the same log gives the same sessions however often the process crashed.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec

from datafly_lite.clock import iso
from datafly_lite.events import Event

MINUTE_MS = 60_000
HOUR_MS = 3_600_000

TOGETHER_MS = MINUTE_MS
"""So much earlier than the session's first event one may be, and still be of it."""

Moment = Literal["session_start", "session_end"]
NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's for OIDs: any constant would do

COPIED = ("page", "ip", "userAgent", "locale", "timezone", "campaign", "device", "os", "browser", "geo")
"""What a session_start says of its visitor: as the event that began it, after the steps before."""


class SessionRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a session ends, and whether its beginning and end are events of their own (not by default)."""

    timeout_minutes: Annotated[int, msgspec.Meta(ge=1, le=1_440)] = 30
    max_duration_hours: Annotated[int, msgspec.Meta(ge=1, le=168)] = 24
    track_session_start: bool = False
    track_session_end: bool = False

    @property
    def timeout_ms(self) -> int:
        """The longest pause within a session."""
        return self.timeout_minutes * MINUTE_MS

    @property
    def max_duration_ms(self) -> int:
        """The longest session, however busy."""
        return self.max_duration_hours * HOUR_MS


class Session(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The newest session of a visitor. `id` is its first event's time in milliseconds, as digits: GA4 takes
    no other, so a time before 1970 loses its sign. `number` counts the visitor's sessions from 1.
    `ends_at_ms` says when its session_end is due; None: none is wanted, or it was made. `has_start`: its
    session_start was made.
    """

    id: str
    number: int
    started_at_ms: int
    last_at_ms: int
    ends_at_ms: int | None = None
    has_start: bool = False

    @property
    def duration_ms(self) -> int:
        """From its first event to its last."""
        return self.last_at_ms - self.started_at_ms


def after(session: Session | None, at_ms: int, rules: SessionRules) -> Session:
    """The newest session once an event of `at_ms` was seen."""
    if session is None:
        return _begun(1, at_ms, rules)
    if at_ms <= session.last_at_ms:
        return session
    if at_ms - session.last_at_ms > rules.timeout_ms or at_ms - session.started_at_ms > rules.max_duration_ms:
        return _begun(session.number + 1, at_ms, rules)
    ends_at_ms = None if session.ends_at_ms is None else _ends_at_ms(session.started_at_ms, at_ms, rules)
    return msgspec.structs.replace(session, last_at_ms=at_ms, ends_at_ms=ends_at_ms)


def holds(session: Session, at_ms: int) -> bool:
    """Whether an event of `at_ms` belongs to it: one from before its beginning does not, but requests that
    left together arrive in any order.
    """
    return at_ms >= session.started_at_ms - TOGETHER_MS


def context_of(session: Session) -> dict[str, Any]:
    """What an event's `context.session` says."""
    return {"id": session.id, "number": session.number}


def moment_of(
    moment: Moment, session: Session, pipeline_id: str, anonymous_id: str, like: Event | None = None
) -> dict[str, Any]:
    """The body of a session_start or session_end event, as a client would send it.

    Its messageId follows from the session, so that it is stored once however often it is made.
    `like` is the event that began the session.
    """
    at_ms = session.started_at_ms if moment == "session_start" else session.last_at_ms
    properties = {"session_id": session.id, "session_number": session.number}
    if moment == "session_end":
        properties["duration_s"] = session.duration_ms // 1000
    return {
        "type": "track",
        "event": moment,
        "messageId": str(uuid.uuid5(NAMESPACE, f"{pipeline_id} {anonymous_id} {session.id} {moment}")),
        "timestamp": iso(at_ms),
        "properties": properties,
        "context": {name: like.context[name] for name in COPIED if name in like.context} if like else {},
        "integrations": like.integrations if like else {},
    }


def _begun(number: int, at_ms: int, rules: SessionRules) -> Session:
    ends_at_ms = _ends_at_ms(at_ms, at_ms, rules) if rules.track_session_end else None
    return Session(str(abs(at_ms)), number, at_ms, at_ms, ends_at_ms)


def _ends_at_ms(started_at_ms: int, last_at_ms: int, rules: SessionRules) -> int:
    return min(last_at_ms + rules.timeout_ms, started_at_ms + rules.max_duration_ms)

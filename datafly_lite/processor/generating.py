"""Events that the processor makes itself: the beginning and the end of sessions.

They go into the log in the transaction of what they follow from, and take their own way from there, with
an offset, a trace and a messageId of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from datafly_lite import sessions
from datafly_lite.events import Envelope
from datafly_lite.processor.runner import Processed
from datafly_lite.processor.state import visitor_of
from datafly_lite.sessions import Session
from datafly_lite.store.visitors import SessionRow

DIALECT = "datafly"
"""They are written as a client would send them."""

encode = msgspec.json.Encoder().encode


class Made(NamedTuple):
    """What the log takes in: as the door would hand it over."""

    pipeline_id: str
    envelope: Envelope
    raw: bytes

    def bare(self) -> Made:
        """The same without its context."""
        body = {name: one for name, one in msgspec.json.decode(self.raw).items() if name != "context"}
        return self._replace(raw=encode(body))


class Ended(NamedTuple):
    """A session whose end is made, and the event that says so."""

    row: SessionRow
    event: Made


def session_events(done: Processed, now_ms: int) -> Iterator[Made]:
    """The session events that follow from one event."""
    passage = done.passage
    if passage is not None:
        for session, body in passage.generated:
            yield _made(passage.pipeline_id, visitor_of(done.record) or "", session, body, now_ms)


def ended_session(row: sqlite3.Row, now_ms: int) -> Ended:
    """Of a visitor who did not come back."""
    session = Session(
        row["id"],
        row["number"],
        row["started_at_ms"],
        row["last_at_ms"],
        has_start=bool(row["has_start"]),
    )
    body = sessions.moment_of("session_end", session, row["pipeline_id"], row["anonymous_id"])
    return Ended(
        SessionRow(row["pipeline_id"], row["anonymous_id"], *msgspec.structs.astuple(session)),
        _made(row["pipeline_id"], row["anonymous_id"], session, body, now_ms),
    )


def _made(pipeline_id: str, anonymous_id: str, session: Session, body: dict[str, Any], now_ms: int) -> Made:
    envelope = Envelope(
        dialect=DIALECT,
        message_id=body["messageId"],
        received_at_ms=now_ms,
        type="track",
        anonymous_id=anonymous_id,
        session=sessions.context_of(session),
    )
    return Made(pipeline_id, envelope, encode(body))

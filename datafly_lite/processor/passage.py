"""One event's way through the steps: what they are given, and what they leave behind beside the event."""

from __future__ import annotations

from typing import Any

import msgspec

from datafly_lite import consent
from datafly_lite.data_layer import Rules
from datafly_lite.events import Envelope, Event
from datafly_lite.identity import Known
from datafly_lite.sessions import Session

UNDECIDED = consent.State()


class Inputs(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the steps take from state rather than from the event: kept, so that a trace can run them again.

    `traits` are those of the known user, `geo` what the address stood for, `duplicate_of` the offset of
    the event that had the same idempotency key, `pipeline` the name of the event's own.
    """

    known: Known = Known()
    traits: dict[str, Any] = {}
    consent: consent.State = UNDECIDED
    session: Session | None = None
    geo: dict[str, Any] = {}
    duplicate_of: int | None = None
    pipeline: str = ""


class Passage(msgspec.Struct, kw_only=True):
    """`event` is changed by the steps; nested values are replaced, because the log's copy shares them.

    `choices` is what the visitor is taken to have agreed to, once put_consent ran. `said`: the event when it
    came as far as its identity, before any script of the user's, so that what it says of its visitor, user
    and group is kept; `traits` are what it says of its user or group. `known`, `consent` and `session` are
    what is known afterwards. `detail` says more of the last step's outcome. `start` is
    the body of the session_start that follows from this one if it reaches anybody, `generated` are those of
    all session events that do.
    """

    event: Event
    envelope: Envelope
    inputs: Inputs
    rules: Rules
    pipeline_id: str = ""
    at_ms: int = 0
    choices: dict[str, bool] = {}
    said: Event | None = None
    is_stripped: bool = False
    is_bot: bool = False
    traits: dict[str, Any] = {}
    known: Known = Known()
    consent: consent.State = UNDECIDED
    session: Session | None = None
    detail: str = ""
    start: dict[str, Any] | None = None
    generated: tuple[tuple[Session, dict[str, Any]], ...] = ()

    def put_context(self, values: dict[str, Any]) -> bool:
        """Add to the event's context; whether there was anything to add."""
        if values:
            self.event.context = {**self.event.context, **values}
        return bool(values)


def is_visitors_own(envelope: Envelope, event: Event) -> bool:
    """Whether the request came from the visitor's machine: a server's address would be the server's.

    An HTTP caller on the visitor's device says so with `context.direct` (wire-formats.md, 2.7).
    """
    return envelope.origin is not None or envelope.is_pixel or event.context.get("direct") is True


def address_of(envelope: Envelope, event: Event) -> str | None:
    """The visitor's, as the event says or as the request came."""
    own = event.context.get("ip")
    if isinstance(own, str) and own:
        return own
    return envelope.ip if is_visitors_own(envelope, event) else None

"""The events of one request, as the log takes them."""

from __future__ import annotations

import hashlib

import msgspec

from datafly_lite.clock import new_id
from datafly_lite.configuration import Pipeline
from datafly_lite.errors import Refused
from datafly_lite.events import Arrival, Envelope
from datafly_lite.gateway import bodies
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.dialect import Dialect, Item, Limits, Reading
from datafly_lite.gateway.visitors import Visitor
from datafly_lite.identity import is_nonsense


class Entry(msgspec.Struct, frozen=True):
    """A request that passed the door's checks."""

    call: Call
    dialect: Dialect
    pipeline: Pipeline
    reading: Reading
    visitor: Visitor
    received_at_ms: int
    limits: Limits

    @property
    def is_counted(self) -> bool:
        """Whether its events can be taken in part: a batch, or a webhook that carries several."""
        return self.call.is_batch or len(self.reading.items) != 1

    def arrival(self, index: int, item: Item | Refused) -> Arrival:
        """One of its events. Raises Refused: the others do not suffer for it."""
        if isinstance(item, Refused):
            raise item
        bodies.check_size(len(item.raw) + self.reading.shared_size_bytes, self.limits.max_event_size_bytes)
        call, caller = self.call, self.call.caller
        envelope = Envelope(
            dialect=self.dialect.name,
            message_id=self._message_id(index, item.message_id),
            received_at_ms=self.received_at_ms,
            type=None if call.is_batch else call.kind,
            anonymous_id=self.visitor.of(item),
            ip=caller.ip,
            user_agent=caller.user_agent,
            origin=caller.origin,
            request_id=call.request_id,
            sent_at=self.reading.sent_at,
            repaired=item.repaired,
            is_pixel=self.dialect.method == "GET",
            shared=self.reading.shared,
        )
        return Arrival(self.pipeline.id, envelope, item.raw, self.dialect.normalise(envelope, item.wire))

    def _message_id(self, index: int, given: str | None) -> str:
        """The client's own, unless it is `undefined` or the like: then a second event would be a duplicate.

        A signed request that is sent again must be known again, also where it names no id.
        """
        if given is not None and not is_nonsense(given):
            return given
        signature = self.call.headers.get(b"x-signature")
        if signature is None or not self.call.is_signed or self.call.source is not None:
            return new_id("msg")
        return f"msg_{hashlib.blake2b(b'%d %s' % (index, signature), digest_size=16).hexdigest()}"

"""The events of one request, as the log takes them."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from datafly_lite.clock import new_id
from datafly_lite.configuration import Pipeline
from datafly_lite.errors import Refused
from datafly_lite.events import Arrival, Envelope
from datafly_lite.gateway import bodies, cookies, visitors
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.dialect import Dialect, Item, Limits, Reading
from datafly_lite.gateway.visitors import Visitor
from datafly_lite.identity import is_nonsense

NO_COOKIES: dict[str, str] = {}
"""Only read."""


class Taken(NamedTuple):
    """What a request's events became. A refusal is its place, why, and the event's own bytes."""

    arrivals: list[Arrival]
    refusals: list[tuple[int, Refused, bytes]]


class Entry(msgspec.Struct, frozen=True):
    """A request that passed the door's checks. `to_set` are the cookies that its answer sets.

    `is_late`: it brings another site's token that is over.
    """

    call: Call
    dialect: Dialect
    pipeline: Pipeline
    reading: Reading
    visitor: Visitor
    received_at_ms: int
    limits: Limits
    has_gpc: bool = False
    vendor_cookies: dict[str, str] = {}
    to_set: tuple[cookies.Setting, ...] = ()
    is_late: bool = False

    @classmethod
    def of(
        cls,
        call: Call,
        dialect: Dialect,
        pipeline: Pipeline,
        reading: Reading,
        visitor: Visitor,
        received_at_ms: int,
        limits: Limits,
    ) -> Entry:
        """With what the head says of the visitor, where it is the visitor's own: a browser's or a pixel's."""
        has_gpc, found = False, NO_COOKIES
        if (call.caller.origin is not None or dialect.method == "GET") and not call.is_signed:
            has_gpc = call.headers.get(b"sec-gpc") == b"1"
            cookie = call.headers.get(b"cookie")
            found = cookies.of_vendors(cookie) if cookie else NO_COOKIES
        to_set = (cookies.Setting(cookies.VISITOR, visitor.id),) if visitor.takes_cookie else ()
        return cls(call, dialect, pipeline, reading, visitor, received_at_ms, limits, has_gpc, found, to_set)

    @property
    def is_counted(self) -> bool:
        """Whether its events can be taken in part: a batch, or a webhook that carries several."""
        return self.call.is_batch or len(self.reading.items) != 1

    @property
    def is_browsers(self) -> bool:
        """Whether a page sends its own visitor's events: only then a cookie can name the visitor anew."""
        call = self.call
        return self.visitor.cookie_wins and not (
            call.is_signed or self.reading.is_cookieless or visitors.is_navigation(call)
        )

    def with_visitor(self, visitor: str) -> Entry:
        """With another visitor, whom the cookie is to name from now on."""
        others = [one for one in self.to_set if one.name != cookies.VISITOR]
        known = msgspec.structs.replace(self.visitor, id=visitor, cookie=visitor, takes_cookie=True)
        to_set = (cookies.Setting(cookies.VISITOR, visitor), *others)
        return msgspec.structs.replace(self, visitor=known, to_set=to_set)

    def without_cookies(self) -> Entry:
        """With none to set, as another answer to the browser may set them; those to take away stay."""
        visitor = msgspec.structs.replace(self.visitor, takes_cookie=False)
        to_set = tuple(one for one in self.to_set if not one.max_age_s)
        return msgspec.structs.replace(self, visitor=visitor, to_set=to_set)

    def answered(self, duplicates: int) -> Entry:
        """As its answer is to be: of a late event that was there already the first one named the visitor."""
        return self.without_cookies() if duplicates and self.is_late else self

    def setting(self, *more: cookies.Setting) -> Entry:
        """With more cookies to set."""
        return msgspec.structs.replace(self, to_set=(*self.to_set, *more))

    def taken(self) -> Taken:
        """Its events. Raises Refused where there is one that cannot be taken, and it is all there is."""
        found = Taken([], [])
        for index, item in enumerate(self.reading.items):
            try:
                found.arrivals.append(self.arrival(index, item))
            except Refused as refused:
                if not self.is_counted:
                    raise
                raw = item.raw if isinstance(item, Item) else item.body
                found.refusals.append((index, refused, raw))
        return found

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
            has_gpc=self.has_gpc,
            cookies=self.vendor_cookies,
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

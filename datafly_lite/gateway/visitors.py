"""Which visitor an event belongs to, and the cookie that says so next time (api.md, section 1, _dfid)."""

from __future__ import annotations

import msgspec
import uuid_utils

from datafly_lite.gateway import callers
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.dialect import Dialect, Item, Reading
from datafly_lite.identity import is_nonsense

NAVIGATIONS = frozenset({b"document", b"iframe", b"frame", b"object", b"embed"})
"""Values of Sec-Fetch-Dest: a form or link on somebody else's page brought the visitor here."""


class Visitor(msgspec.Struct, frozen=True):
    """`id` is the request's visitor; `cookie_wins` whether it goes before what an event names itself."""

    id: str
    cookie: str | None
    cookie_wins: bool
    is_default: bool
    takes_cookie: bool

    def of(self, item: Item) -> str | None:
        """The anonymousId of one event of the request."""
        if self.cookie_wins and self.cookie:
            return self.cookie
        return named_by(item) or (self.id if self.is_default else None)


def named_by(item: Item) -> str | None:
    """Whom the event names; `undefined` and its like would make one visitor of thousands."""
    given = item.anonymous_id
    return None if given is None or is_nonsense(given) else given


def visitor_of(call: Call, dialect: Dialect, reading: Reading) -> Visitor:
    """A browser's cookie wins, a server's own anonymousId does.

    SDKs on servers keep cookies too, and would make all their users one visitor: they get none. On
    Datafly's own paths and the pixel also who sends no Origin gets one (seed 000).
    """
    caller = call.caller
    is_browser = caller.origin is not None
    is_server = not is_browser and (
        call.is_signed or call.is_batch or caller.is_basic or not dialect.knows_by_cookie
    )
    cookie = None if is_server else caller.visitor
    given = next(
        (found for item in reading.items if isinstance(item, Item) and (found := named_by(item))), None
    )
    cookie_wins = is_browser and not dialect.names_visitor
    first, second = (cookie, given) if cookie_wins else (given, cookie)
    visitor = first or second or str(uuid_utils.uuid4())
    return Visitor(
        id=visitor,
        cookie=cookie,
        cookie_wins=cookie_wins,
        is_default=not is_server,
        takes_cookie=not (is_server or cookie or reading.is_cookieless)
        and callers.UUID4.fullmatch(visitor) is not None
        and not is_navigation(call),
    )


def is_navigation(call: Call) -> bool:
    """Whether the browser is to show the answer as a page."""
    return call.headers.get(b"sec-fetch-dest") in NAVIGATIONS

"""Which visitor an event belongs to, and the cookie that says so next time (api.md, section 1, _dfid)."""

from __future__ import annotations

import msgspec
import uuid_utils

from datafly_lite.gateway import callers
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.dialect import Dialect, Item, Reading


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
        return item.anonymous_id or (self.id if self.is_default else None)


def visitor_of(call: Call, dialect: Dialect, reading: Reading) -> Visitor:
    """A browser's cookie wins, a server's own anonymousId does.

    SDKs on servers keep cookies too, and would make all their users one visitor: they get none.
    """
    caller = call.caller
    is_browser = caller.origin is not None
    given = next((item.anonymous_id for item in reading.items if isinstance(item, Item)), None)
    cookie_wins = is_browser and not dialect.names_visitor
    first, second = (caller.visitor, given) if cookie_wins else (given, caller.visitor)
    visitor = first or second or str(uuid_utils.uuid4())
    is_server = call.is_signed or call.is_batch or caller.is_basic
    return Visitor(
        id=visitor,
        cookie=caller.visitor,
        cookie_wins=cookie_wins,
        is_default=is_browser or not (call.is_batch or call.is_signed),
        takes_cookie=(is_browser or not is_server)
        and not caller.visitor
        and not reading.is_cookieless
        and callers.UUID4.fullmatch(visitor) is not None,
    )

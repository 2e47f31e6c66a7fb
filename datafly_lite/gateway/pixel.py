"""Datafly's tracking pixel: an event in a query string (spec/datafly-signal.md, 3.4).

`wk` the pipeline's key, `e` the event, `uid`, `aid`, `p.*` properties, `t.*` traits, `ts` unix ms, `mid`
the messageId, `cb` for nothing but the cache. Two that the documentation leaves out are taken as well:
`gid`, without which a group could not be told, and `n`, a page's name.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway import callers, datafly
from datafly_lite.gateway.bodies import text
from datafly_lite.gateway.datafly import Decoded, Wire
from datafly_lite.gateway.dialect import Dialect, Limits, Reading, Request
from datafly_lite.gateway.query_objects import nested

FIELDS = {"e": "event", "n": "name", "uid": "user_id", "aid": "anonymous_id", "gid": "group_id"}
FIELDS |= {"mid": "message_id"}
OBJECTS = {"p.": "properties", "t.": "traits"}
CACHE_BUSTER = "cb"
TIME = "ts"
MOST_PARAMETERS = 1_000


def read(request: Request) -> Reading:
    """The one event of the query. The key is not kept."""
    raw = callers.without_keys(request.body)
    return Reading(write_key=None, items=[datafly.item(raw, decode(raw))])


def decode(raw: bytes) -> Decoded:
    """Where a parameter stands twice, the last one counts, and all of them are kept among the unknown."""
    pairs = _pairs(raw)
    fields: dict[str, Any] = {FIELDS[name]: value or None for name, value in pairs if name in FIELDS}
    for prefix, field in OBJECTS.items():
        own = [(name.removeprefix(prefix), value) for name, value in pairs if name.startswith(prefix)]
        fields[field] = nested(own, brackets=False, dots=True)
    fields["timestamp"] = _time(dict(pairs).get(TIME))
    return Decoded(Wire(**fields), _unknown(pairs))


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=MOST_PARAMETERS
        )
    except ValueError:
        raise Refused("invalid_payload", f"more than {MOST_PARAMETERS:,} parameters in the query") from None


def _time(given: str | None) -> str | float | None:
    """Milliseconds as a number; whatever else is kept as it is, and read as ISO 8601."""
    return int(given) if given and given.isascii() and given.isdigit() and len(given) <= 16 else text(given)


def _unknown(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    times = Counter(name for name, _ in pairs)
    return nested([(name, value) for name, value in pairs if not _is_used(name, times[name])], dots=False)


def _is_used(name: str, times: int) -> bool:
    """Whether the canonical event holds all of the parameter. The cache buster holds nothing."""
    if name == CACHE_BUSTER or name.startswith(tuple(OBJECTS)):
        return True
    return times == 1 and (name in FIELDS or name == TIME)


def event_of(envelope: Envelope, raw: bytes, _: Limits) -> Event:
    """Read what the log kept: the same query and envelope give the same event."""
    return datafly.normalise(envelope, decode(raw))


DATAFLY_PIXEL = Dialect(
    name="datafly_pixel",
    paths={f"/v1/pixel/{kind}": kind for kind in ("track", "page", "identify", "group")},
    method="GET",
    read=read,
    normalise=datafly.normalise,
    event_of=event_of,
    knows_by_cookie=True,
    is_lenient=True,  # whatever it says, a broken image in a letter helps nobody
)

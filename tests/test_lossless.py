"""Whatever carried it, an accepted event comes back as it was sent: from the log, the store and its trace.

Each wire format has a generator of requests and a way to read what was said back out of the canonical
event; the two must be equal, to the type of each number. The bulk goes through the format alone, a
sample through the real door.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.events import Envelope, Event, decode_envelope, encode_envelope, encode_event
from datafly_lite.gateway import BY_NAME, event_of, limits
from datafly_lite.gateway.dialect import BATCH, Item, Request
from datafly_lite.identity import is_nonsense
from datafly_lite.settings import Settings
from kit import Management, Server, request, running_server, wait_until
from lossless_kit import (
    Json,
    Said,
    batches,
    heard,
    heard_of_pixel,
    meant,
    meant_by_pixel,
    odd_pixels,
    pixels,
    singles,
    values_heard,
    values_of,
)
from lossless_vendors_kit import (
    MAPPINGS,
    SOURCE,
    commanders_act,
    commanders_act_pixels,
    heard_of_commanders_act,
    meant_by_commanders_act,
    the_original,
    webhooks,
)

WITHIN = limits(Settings())
NOON_MS = 1_772_020_800_000


class Form(NamedTuple):
    """One way to say an event. `heard(event, said)` reads back what was said; `meant(said)` is that."""

    dialect: str
    name: str
    requests: st.SearchStrategy[Said]
    meant: Callable[[Any], Any]
    heard: Callable[[Json, Any], Any]


def itself(said: Any) -> Any:
    return said


def forms() -> Iterator[Form]:
    """Every way to say an event that a client has."""
    for dialect in ("datafly", "datafly_server", "segment"):
        yield Form(dialect, "single", singles(dialect), meant, heard)
    for dialect in ("datafly", "segment"):
        yield Form(dialect, "batch", batches(dialect), meant, heard)
    yield Form("datafly_pixel", "objects", pixels(), meant_by_pixel, heard_of_pixel)
    yield Form("datafly_pixel", "odd names", odd_pixels(), values_of, values_heard)
    for is_batch in (False, True):
        yield Form(
            "commanders_act",
            "batch" if is_batch else "single",
            commanders_act(is_batch),
            meant_by_commanders_act,
            heard_of_commanders_act,
        )
    yield Form("commanders_act_pixel", "brackets", commanders_act_pixels(), itself, the_original)
    yield Form("webhook", "any", webhooks(), itself, the_original)


FORMS = list(forms())
EACH = pytest.mark.parametrize("form", FORMS, ids=[f"{form.dialect}-{form.name}" for form in FORMS])


def test_every_dialect_has_a_generator() -> None:
    assert {form.dialect for form in FORMS} == set(BY_NAME)


def differences(said: Any, found: Any, path: str = "$", *, may_grow: bool = False) -> list[str]:
    """Where two JSON values differ, 1, 1.0 and true being three; objects of `found` may have more."""
    if type(said) is not type(found):
        return [f"{path}: {said!r} became {found!r}"]
    if isinstance(said, dict):
        missing = [f"{path}.{name} is lost" for name in said.keys() - found.keys()]
        more = [] if may_grow else [f"{path}.{name} is new" for name in found.keys() - said.keys()]
        shared = said.keys() & found.keys()
        inner = [differences(said[one], found[one], f"{path}.{one}", may_grow=may_grow) for one in shared]
        return [*missing, *more, *(one for listed in inner for one in listed)]
    if isinstance(said, list) and len(said) == len(found):
        pairs = enumerate(zip(said, found, strict=True))
        return [one for i, pair in pairs for one in differences(*pair, f"{path}[{i}]", may_grow=may_grow)]
    return [] if repr(said) == repr(found) else [f"{path}: {said!r} became {found!r}"]


def as_told(event: Event) -> Json:
    found: Json = json.loads(encode_event(event))
    return found


def without_nobody(event: Json) -> Json:
    """No vendor gets an id that names nobody, such as `0`; what was said stays to be seen."""
    nobody = {name: event[name] for name in ("userId", "groupId") if is_nonsense(event.get(name, "x"))}
    rest = {name: value for name, value in event.items() if name not in nobody}
    return {**rest, "original": {**event.get("original", {}), **nobody}} if nobody else rest


def check(form: Form, said: Any, event: Json) -> None:
    assert differences(form.meant(said), form.heard(event, said)) == []


# ── Through the format alone ─────────────────────────────────────────────────────────────────


def normalised(form: Form, said: Said) -> Iterator[Event]:
    """The events of a request, as the door makes them and as the log makes them again."""
    dialect = BY_NAME[form.dialect]
    source = SOURCE if dialect.authentication == "source" else None
    body = said.query.encode() if dialect.method == "GET" else said.body
    within = dialect.limits(WITHIN)
    reading = dialect.read(Request(body, said.kind, within, {}, said.query.encode(), source))
    for item in reading.items:
        assert isinstance(item, Item), item
        envelope = Envelope(
            dialect=dialect.name,
            message_id=item.message_id or "m-1",
            received_at_ms=NOON_MS,
            type=None if said.kind == BATCH else said.kind,
            anonymous_id=item.anonymous_id or "visitor",
            sent_at=reading.sent_at,
            repaired=item.repaired,
            shared=reading.shared,
        )
        event = dialect.normalise(envelope, item.wire)
        again = event_of(decode_envelope(encode_envelope(envelope)), item.raw, WITHIN)
        assert differences(as_told(event), as_told(again)) == []
        yield event


@EACH
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_nothing_of_an_event_is_lost(form: Form, data: st.DataObject) -> None:
    said = data.draw(form.requests)
    found = list(normalised(form, said))
    assert len(found) == len(said.events)
    for one, event in zip(said.events, found, strict=True):
        check(form, one, as_told(event))


# ── Through the door ─────────────────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """A running server with a pipeline, and its database to read in."""

    server: Server
    management: Management
    pipeline: Json
    webhook: str
    database: sqlite3.Connection

    def rows_after(self, offset: int) -> list[Json]:
        found = self.database.execute(
            "SELECT e.offset, e.message_id, e.body, r.raw, r.envelope FROM events AS e"
            " JOIN raw_events AS r USING (offset) WHERE e.offset > ? ORDER BY e.offset",
            (offset,),
        )
        names = ("offset", "message_id", "body", "raw", "envelope")
        return [dict(zip(names, row, strict=True)) for row in found]

    def last(self) -> int:
        return int(self.database.execute("SELECT coalesce(max(offset), 0) FROM raw_events").fetchone()[0])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("lossless")
    with running_server(folder, env={"DATAFLY_MANAGEMENT_RATE_LIMIT_RPM": "100000"}) as server:
        management = Management(server.base_url)
        fields = {"name": "Lossless", "slug": "lossless", "type": "web", "rate_limit_rps": 1_000_000}
        pipeline = management.call("POST", "pipelines", fields)
        source = {
            "pipeline_id": pipeline["id"],
            "name": "Shop",
            "source_type": "custom",
            "mappings": MAPPINGS,
        }
        webhook = management.call("POST", "webhook-sources", source)["id"]
        database = sqlite3.connect(f"file:{folder / 'datafly.db'}?mode=ro", uri=True)
        yield Place(server, management, pipeline, webhook, database)
        database.close()


def send(place: Place, form: Form, said: Said) -> None:
    dialect = BY_NAME[form.dialect]
    headers = {
        "Authorization": f"Bearer {place.pipeline['pipeline_key']}",
        "Content-Type": "application/json",
    }
    query = said.query
    if dialect.authentication == "signature":
        now_ms = str(time.time_ns() // 1_000_000)
        secret: str = place.pipeline["pipeline_key_secret"]
        digest = hmac.new(secret.encode(), f"{now_ms}.".encode() + said.body, hashlib.sha256).hexdigest()
        headers |= {"X-Timestamp": now_ms, "X-Signature": f"sha256={digest}"}
    if dialect.authentication == "source":
        query = f"source={place.webhook}"
    url = f"{place.server.base_url}{said.path}{'?' if query else ''}{query}"
    answer = request(url, dialect.method, said.body or None, headers)
    assert answer.status == 200, answer.body
    if dialect.method == "POST":
        assert answer.json().items() <= {"success": True, "accepted": len(said.events)}.items()


@EACH
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_the_store_and_the_trace_have_all_of_it(place: Place, form: Form, data: st.DataObject) -> None:
    said = data.draw(form.requests)
    before = place.last()
    send(place, form, said)
    wait_until(lambda: len(place.rows_after(before)) == len(said.events), "the events are processed")
    for one, row in zip(said.events, place.rows_after(before), strict=True):
        kept = event_of(decode_envelope(row["envelope"]), row["raw"], WITHIN)
        check(form, one, as_told(kept))
        assert differences(without_nobody(as_told(kept)), json.loads(row["body"]), may_grow=True) == []
        trace = place.management.call(
            "GET", f"events/{place.pipeline['id']}/{quote(row['message_id'], safe='')}"
        )
        assert differences(as_told(kept), trace["canonical"]) == []
        assert differences(json.loads(row["body"]), trace["final"]) == []

"""The steps, what they leave in the store, identity, and the trace that is recomputed from it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite import identity, vendor_ids
from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import DataLayer, RoutingRule, Rules, compiled
from datafly_lite.events import Envelope, Event, Record
from datafly_lite.gateway import event_of
from datafly_lite.identity import Known
from datafly_lite.processor.explaining import differences
from datafly_lite.processor.passage import Inputs
from datafly_lite.processor.runner import data_layer, passage_of, process
from datafly_lite.processor.steps import DATA_LAYER, INTEGRATION
from datafly_lite.store import data_layers
from path_kit import ATTACHMENT, PIPELINE, WITHIN, arrival, open_path

ROOT = Path(__file__).parent.parent
VISITOR = "0e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
NOBODY = Known()
OTHER = "1e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"


def processed(*, browser: bool = True, known: Known = NOBODY, **body: Any) -> Event:
    """What the data layer makes of an event."""
    raw = msgspec.json.encode({"type": "track", "event": "Tested", **body})
    envelope = Envelope(
        dialect="datafly",
        message_id="m-1",
        received_at_ms=1_772_029_800_000,
        anonymous_id=VISITOR,
        ip="203.0.113.9",
        user_agent="Mozilla/5.0",
        origin="https://shop.example" if browser else None,
    )
    record = Record(1, PIPELINE, envelope, raw, event_of(envelope, raw, WITHIN))
    event = process(record, Inputs(known=known), Rules(), None).event
    assert event is not None
    return event


def client(event: Event) -> tuple[Any, Any]:
    return event.context.get("ip"), event.context.get("userAgent")


def test_the_client_of_a_browser_is_the_visitor_and_of_a_server_is_not() -> None:
    assert client(processed()) == ("203.0.113.9", "Mozilla/5.0")
    assert client(processed(browser=False)) == (None, None)
    assert client(processed(context={"ip": "198.51.100.1", "userAgent": "Own"})) == ("198.51.100.1", "Own")


def test_a_null_in_the_context_says_nothing() -> None:
    assert client(processed(context={"ip": None, "userAgent": None})) == ("203.0.113.9", "Mozilla/5.0")


def test_page_and_campaign_come_from_the_url() -> None:
    url = "https://shop.example/p/77?utm_source=nl&utm_medium=email&utm_campaign=spring&utm_term=&c=red"
    context = processed(browser=False, context={"page": {"url": url, "title": "Mug"}}).context
    assert context["page"] == {"url": url, "title": "Mug", "path": "/p/77", "search": url[url.index("?") :]}
    assert context["campaign"] == {"source": "nl", "medium": "email", "name": "spring"}


def test_a_page_events_properties_are_its_page() -> None:
    event = processed(
        browser=False, type="page", event=None, properties={"url": "https://a.example/x", "n": 1}
    )
    assert event.context["page"] == {"url": "https://a.example/x", "path": "/x", "search": ""}


@pytest.mark.parametrize("url", ["http://[::1", "", "not a url", 7, None, {"a": 1}])
def test_a_url_that_is_none_hurts_nothing(url: Any) -> None:
    assert processed(context={"page": {"url": url}}).event == "Tested"


def test_after_identify_all_later_events_carry_both_ids() -> None:
    identified = processed(type="identify", event=None, userId="u-1")
    known = identity.after(identified, Known())
    assert known == Known("u-1")
    later = processed(known=known)
    assert (later.anonymous_id, later.user_id) == (VISITOR, "u-1")
    assert processed(known=known, userId="u-2").user_id == "u-2"


def test_groups_are_remembered_like_users() -> None:
    known = identity.after(processed(type="group", event=None, groupId="g-1"), Known("u-1"))
    assert known == Known("u-1", "g-1")
    assert processed(known=known).group_id == "g-1"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    context=st.dictionaries(st.text(max_size=8), JSON, max_size=4),
    properties=st.dictionaries(st.text(max_size=8), JSON),
)
def test_processing_is_deterministic_and_leaves_the_logs_copy_alone(
    context: dict[str, Any], properties: dict[str, Any]
) -> None:
    raw = msgspec.json.encode({"type": "page", "context": context, "properties": properties})
    envelope = Envelope(
        dialect="datafly", message_id="m", received_at_ms=1, anonymous_id=VISITOR, origin="x", ip="y"
    )
    record = Record(1, PIPELINE, envelope, raw, event_of(envelope, raw, WITHIN))
    before = msgspec.json.encode(record.event)
    first, second = (process(record, Inputs(), Rules(), None) for _ in range(2))
    assert msgspec.json.encode(first.event) == msgspec.json.encode(second.event)
    assert first.steps == second.steps
    assert msgspec.json.encode(record.event) == before


def test_differences_name_each_leaf() -> None:
    changes = list(differences({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 1, "c": 3}, "e": [1]}))
    assert [(one.path, one.before, one.after) for one in changes] == [
        ("a.c", 2, 3),
        ("d", 1, None),
        ("e", None, [1]),
    ]


@pytest.mark.anyio
async def test_one_transaction_writes_all_that_follows(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(
            arrival("m-1", visitor=VISITOR), arrival("m-2", visitor=VISITOR, type="identify", userId="u-1")
        )
        await path.send(arrival("m-3", visitor=VISITOR), arrival("m-4", visitor=OTHER))
        await path.process()
        events = await path.rows(
            "SELECT offset, message_id, anonymous_id, user_id FROM events ORDER BY offset"
        )
        assert [tuple(row.values()) for row in events] == [
            (1, "m-1", VISITOR, None),
            (2, "m-2", VISITOR, "u-1"),
            (3, "m-3", VISITOR, "u-1"),
            (4, "m-4", OTHER, None),
        ]
        deliveries = await path.rows(
            "SELECT offset, pipeline_integration_id, status FROM deliveries ORDER BY offset"
        )
        assert [tuple(row.values()) for row in deliveries] == [
            (n, ATTACHMENT, "pending") for n in range(1, 5)
        ]
        assert await path.rows("SELECT anonymous_id, user_id, offset FROM identity_links") == [
            {"anonymous_id": VISITOR, "user_id": "u-1", "offset": 2}
        ]
        assert await path.rows("SELECT * FROM offsets") == [{"consumer": "processor", "offset": 4}]
        assert set(path.woken) == {ATTACHMENT}


@pytest.mark.anyio
async def test_a_restart_goes_on_where_the_last_commit_left_it(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("m-1", visitor=VISITOR, type="identify", userId="u-1"))
        await path.process()
        await path.send(arrival("m-2", visitor=VISITOR))
    async with open_path(data_dir) as path:
        assert path.processor.position == 1
        await path.process()
        rows = await path.rows("SELECT user_id FROM events ORDER BY offset")
        assert rows == [{"user_id": "u-1"}, {"user_id": "u-1"}]


@pytest.mark.anyio
async def test_what_the_visitor_refused_is_dropped_with_its_reason(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("m-1", context={"consent": {"marketing": False}}))
        await path.send(arrival("m-2", integrations={"All": False}))
        await path.send(arrival("m-3", integrations={"All": False, "webhook": True}))
        await path.send(arrival("m-4", integrations={"all": False}))
        await path.send(arrival("m-5", integrations={"HOOK": "false"}))
        await path.send(arrival("m-6", integrations={"All": False, "Hook": True}))
        await path.process()
        rows = await path.rows("SELECT status, reason FROM deliveries ORDER BY offset")
        assert [tuple(row.values()) for row in rows] == [
            ("dropped", "consent"),
            ("dropped", "routing"),
            ("pending", None),
            ("dropped", "routing"),
            ("dropped", "routing"),
            ("pending", None),
        ]
        assert path.woken == [ATTACHMENT]


@pytest.mark.anyio
async def test_an_unreadable_event_is_dropped_and_seen(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("old"))
        await path.store.write(lambda connection: connection.execute("UPDATE raw_events SET raw = x'7b'"))
    async with open_path(data_dir) as path:
        await path.send(arrival("new"))
        await path.process()
        rows = await path.rows("SELECT message_id, drop_reason, steps FROM events ORDER BY offset")
        assert tuple(rows[0].values()) == ("old", "schema", "read:drop:schema")
        assert rows[1]["drop_reason"] is None
        trace = await path.tracer.trace(PIPELINE, "old")
        assert trace is not None
        assert (trace.canonical, trace.raw, trace.drop_reason) == (None, "{", "schema")


@pytest.mark.anyio
async def test_the_trace_shows_each_step_with_its_difference(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("m-1", visitor=VISITOR, type="identify", userId="u-1"))
        await path.send(
            arrival("m-2", visitor=VISITOR, context={"page": {"url": "https://a.example/?utm_source=nl"}})
        )
        assert (await path.tracer.trace(PIPELINE, "m-2")).processed is False  # type: ignore[union-attr]  # it is there
        await path.process()
        trace = await path.tracer.trace(PIPELINE, "m-2")
        assert trace is not None
        assert trace.recomputed_alike
        changes = {step.name: [(one.path, one.after) for one in step.changes] for step in trace.steps}
        assert changes["put_identity"] == [("userId", "u-1")]
        assert changes["put_campaign"] == [("context.campaign", {"source": "nl"})]
        assert [step.outcome for step in trace.steps] == [step.recorded for step in trace.steps]
        assert [(one.integration_name, one.status) for one in trace.deliveries] == [("Hook", "pending")]
        assert trace.final is not None
        assert trace.final["userId"] == "u-1"
        assert await path.tracer.trace(PIPELINE, "none") is None


@pytest.mark.anyio
async def test_a_trace_says_when_todays_program_takes_another_way(data_dir: Path) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("m-1", visitor=VISITOR))
        await path.process()
        await path.store.write(
            lambda connection: connection.execute(
                "UPDATE events SET steps = 'put_client:changed', program = '0.0.1'"
            )
        )
        trace = await path.tracer.trace(PIPELINE, "m-1")
        assert trace is not None
        assert (trace.recomputed_alike, trace.program) == (False, "0.0.1")


@pytest.mark.anyio
async def test_an_integration_detached_since_the_routing_gets_nothing(data_dir: Path) -> None:
    """The configuration of the processor is older than the store's: nobody would ever send the row."""
    async with open_path(data_dir) as path:
        await path.store.write(
            lambda connection: connection.execute("UPDATE pipeline_integrations SET detached_at_ms = 1")
        )
        await path.send(arrival("m-1"), arrival("m-2"))
        await path.process()
        rows = await path.rows("SELECT status, reason FROM deliveries")
        assert [tuple(row.values()) for row in rows] == [("dropped", "detached")] * 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "damage",
    ["envelope = x'7b'", "envelope = CAST(replace(CAST(envelope AS TEXT), 'datafly', 'tomorrow') AS BLOB)"],
    ids=["cut", "dialect"],
)
async def test_one_row_that_cannot_be_read_does_not_stop_the_others(data_dir: Path, damage: str) -> None:
    async with open_path(data_dir) as path:
        await path.send(arrival("m-1"), arrival("m-2"), arrival("m-3"))
        sql = f"UPDATE raw_events SET {damage} WHERE offset = 2"
        await path.store.write(lambda connection: connection.execute(sql))
    async with open_path(data_dir) as path:
        await path.process()
        rows = await path.rows("SELECT offset, drop_reason FROM events ORDER BY offset")
        assert [tuple(row.values()) for row in rows] == [(1, None), (2, "schema"), (3, None)]


def test_the_documentation_names_every_step_in_its_order() -> None:
    written = (ROOT / "docs" / "processing.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", written.partition("## Settings")[0], re.MULTILINE)
    assert named == [step.__name__ for step in (*DATA_LAYER, *INTEGRATION)]


def test_rules_for_personal_data_reach_what_was_known_before_them() -> None:
    rules = compiled(
        msgspec.convert(
            {"pii_rules": {"hash_fields": ["userId", "traits.email"], "redact_fields": ["traits.phone"]}},
            DataLayer,
        ),
        *(1, ConsentSettings(), 0),
    )
    arrived = arrival("m-1", visitor=VISITOR)
    record = Record(1, PIPELINE, arrived.envelope, arrived.raw, arrived.event)
    inputs = Inputs(
        known=Known("jane@x.example"), traits={"email": "jane@x.example", "phone": "+4917012345678"}
    )
    event = process(record, inputs, rules, None).event
    assert event is not None
    digest = hashlib.sha256(b"jane@x.example").hexdigest()
    assert (event.user_id, event.context["traits"]) == (digest, {"email": digest})


@pytest.mark.anyio
async def test_what_reached_nobody_takes_no_idempotency_key(data_dir: Path) -> None:
    config = {
        "deduplication": {"keys": [{"event": "purchase", "path": "properties.order_id"}]},
        "routing_rules": [{"condition": "properties.test = TRUE", "action": "drop"}],
    }
    orders = [{"order_id": "O-1", "test": True}, {"order_id": "O-1"}, {"order_id": "O-1"}]
    async with open_path(data_dir) as path:
        text = msgspec.json.encode(config).decode()
        await path.store.write(data_layers.add, "data_layers", text, None, 0)
        await path.configuration.reload()
        for number, properties in enumerate(orders):
            await path.send(arrival(f"m-{number}", event="Order Completed", properties=properties))
        await path.process()
        rows = await path.rows("SELECT drop_reason FROM events ORDER BY offset")
        assert [row["drop_reason"] for row in rows] == ["routing", None, "duplicate"]


def test_a_rule_that_cannot_be_worked_out_says_so_and_knows_the_time_of_receipt() -> None:
    conditions = ["properties.count AND TRUE", "NOW() - TO_TIMESTAMP(timestamp) > 3600000"]
    rules = compiled(
        DataLayer(routing_rules=tuple(RoutingRule(condition=one, action="drop") for one in conditions)),
        *(1, ConsentSettings(), 0),
    )
    arrived = arrival("m-1", properties={"count": 3}, timestamp="2026-02-20T12:00:00.000Z")
    record = Record(1, PIPELINE, arrived.envelope, arrived.raw, arrived.event)
    assert process(record, Inputs(), rules, None).detail == "rule 2: drop"
    first = msgspec.structs.replace(rules, routing=rules.routing[:1])
    passed = list(data_layer(passage_of(record, arrived.event, Inputs(), first)))
    assert passed[-1].detail.startswith("rule 1 could not be worked out: ")


def test_what_is_stripped_holds_no_vendors_id_any_more() -> None:
    context = {
        "consent": {"marketing": False},
        "page": {"url": "https://shop.example/?gclid=Cj0KCQiAxyz12345678&c=red"},
        "device": {"cookie": {"_ga": "GA1.2.1234567.1690000000"}, "idfa": "id", "model": "Pixel"},
        "integrations": {"facebook": {"fbp": "fb.1.1700000000000.1234567890"}},
        "externalIds": [{"type": "ga_client_id", "id": "1.2"}],
    }
    settings = ConsentSettings(required_categories=["marketing"], on_refused="strip")
    arrived = arrival("m-1", visitor=VISITOR, context=context, userId="u-1")
    record = Record(1, PIPELINE, arrived.envelope, arrived.raw, arrived.event)
    event = process(record, Inputs(), compiled(DataLayer(), 0, settings, 1), None).event
    assert event is not None
    assert (event.user_id, event.vendor_ids, vendor_ids.found(event, {}, 0)) == (None, {}, {})
    assert event.context["device"]["model"] == "Pixel"


def test_only_what_comes_from_the_visitors_machine_is_asked_for_a_user_agent() -> None:
    layer = msgspec.convert({"bot_filtering": {"block_empty_user_agent": True}}, DataLayer)
    rules = compiled(layer, 1, ConsentSettings(), 0)
    servers = arrival("m-1")
    browsers = msgspec.structs.replace(servers.envelope, origin="https://shop.example")
    reasons = [
        process(Record(1, PIPELINE, envelope, servers.raw, servers.event), Inputs(), rules, None).reason
        for envelope in (servers.envelope, browsers)
    ]
    assert reasons == [None, "bot"]

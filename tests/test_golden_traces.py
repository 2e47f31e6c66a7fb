"""Events with all that happens to them, written by hand: one file each in tests/golden, to be read as
documentation of the steps (docs/processing.md).

A file has a `title`, what the user has set (`data_layer`, `consent_settings`, `integrations`, and `geo`: the
operator's database of places), the events `before`, the `request` and its `event`, and what is `expected`:

- `known`: what the steps are given from state, when it is worth a word;
- `steps`, in their order: what the step says, `ok` or `drop:bot (known_bot: Googlebot)`, or where it changed
  the event an object of each path with its value from then on, null for gone. `(says)` is its detail;
- `deliveries`, by the name of the integration: `status`, `reason`, its own `steps`, and what it `sends`;
- `afterwards`: the events that the processor made itself, with their deliveries.

`{sha256:ada@example.com}` stands for the digest of that text. Nothing here writes a file: what differs is
shown, and it is for a person to say which of the two is right.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

from datafly_lite.clock import ms_of
from datafly_lite.delivery.attempt import request_for
from datafly_lite.events import Arrival, decode_event
from datafly_lite.geo import GeoDatabase
from datafly_lite.processor.state import Locate, nowhere
from datafly_lite.trace import DeliveryTrace, StepTrace, Trace
from path_kit import PIPELINE
from processing_kit import HandPath, Setup, open_processing, received

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
DIGEST = re.compile(r"\{sha256:([^}]*)\}")
ENVELOPE = {"visitor": "anonymous_id", "dialect": "dialect", "ip": "ip", "user_agent": "user_agent"} | {
    name: name for name in ("origin", "cookies", "has_gpc", "is_pixel", "shared")
}
"""A request's field in the files -> the envelope's."""


def read(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(
        DIGEST.sub(lambda one: hashlib.sha256(one[1].encode()).hexdigest(), text)
    )
    return found


def arrival(given: dict[str, Any]) -> Arrival:
    request = given["request"]
    envelope = {ENVELOPE[name]: value for name, value in request.items() if name != "received_at"}
    if envelope.get("dialect", "datafly") != "datafly":
        envelope["type"] = None  # such a path says nothing of it
    if "message_id" in given:
        envelope["message_id"] = given["message_id"]
    return received(given["event"], received_at_ms=ms_of(request["received_at"]), **envelope)


def places(folder: Path, known: dict[str, Any] | None) -> Locate:
    """A real database of these networks."""
    if known is None:
        return nowhere
    writer = MMDBWriter(6, "GeoLite2-City", languages=["en"], ipv4_compatible=True)
    for network, record in known.items():
        writer.insert_network(IPSet([network]), record)
    file = folder / "places.mmdb"
    writer.to_db_file(str(file))
    return GeoDatabase.open(file).lookup


# ── A trace, as the files write it ───────────────────────────────────────────────────────────


def written(step: StepTrace, prefix: str = "") -> Any:
    """One step; `prefix` is left out of the paths."""
    assert step.outcome == step.recorded
    changes = {one.path.removeprefix(prefix): one.after for one in step.changes}
    if not changes:
        return f"{step.outcome} ({step.detail})" if step.detail else step.outcome
    said = {} if step.outcome == "changed" else {"(outcome)": step.outcome}
    return {**said, **({"(says)": step.detail} if step.detail else {}), **changes}


def steps_of(steps: Iterable[StepTrace]) -> list[Any]:
    """As a list of single pairs: their order counts."""
    return [{step.name: written(step)} for step in steps]


async def deliveries_of(path: HandPath, trace: Trace) -> dict[str, Any]:
    return {one.integration_name: await delivery(path, trace, one) for one in trace.deliveries}


async def delivery(path: HandPath, trace: Trace, one: DeliveryTrace) -> dict[str, Any]:
    found: dict[str, Any] = {"status": one.status}
    if one.reason:
        found["reason"] = one.reason
    found["steps"] = steps_of(one.steps)
    if one.status == "pending":
        found["sends"] = sent_body(path, trace, one)
    return found


def sent_body(path: HandPath, trace: Trace, one: DeliveryTrace) -> Any:
    """What would go to the vendor."""
    attachment = path.configuration.current.attachments[one.pipeline_integration_id]
    event = decode_event(msgspec.json.encode(trace.final))
    request = request_for(event, attachment, ms_of(trace.received_at))
    return None if request is None else json.loads(request.body)


async def shown(path: HandPath, message_id: str) -> dict[str, Any]:
    trace = await path.tracer.trace(PIPELINE, message_id)
    assert trace is not None
    assert trace.recomputed_alike
    known = {name: value for name, value in trace.inputs.items() if name != "pipeline" and value != {}}
    found: dict[str, Any] = {"known": known, "steps": steps_of(trace.steps), "event": trace.final}
    if trace.drop_reason:
        found["dropped"] = f"{trace.drop_reason} ({trace.detail})" if trace.detail else trace.drop_reason
    if trace.consent_change:
        found["consent_change"] = msgspec.to_builtins(trace.consent_change)
    return {**found, "deliveries": await deliveries_of(path, trace)}


async def afterwards(path: HandPath, before: set[str]) -> list[Any]:
    rows = await path.rows("SELECT message_id FROM events ORDER BY offset")
    return [
        {name: one[name] for name in ("event", "deliveries")}
        for row in rows
        if row["message_id"] not in before
        for one in [await shown(path, row["message_id"])]
    ]


# ── The comparison ───────────────────────────────────────────────────────────────────────────


def narrowed(found: Any, expected: Any) -> Any:
    """Without what the file does not tell: what is sent, and the rest of an object with `"...": true`."""
    if isinstance(found, dict) and isinstance(expected, dict) and expected.get("...") is True:
        own = {name: narrowed(found.get(name), one) for name, one in expected.items() if name != "..."}
        return {**own, "...": True}
    if isinstance(found, dict) and isinstance(expected, dict):
        told = {name: one for name, one in found.items() if name in expected or name != "sends"}
        return {name: narrowed(one, expected.get(name)) for name, one in told.items()}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [narrowed(one, other) for one, other in zip(found, expected, strict=True)]
    return found


def difference(found: Any, expected: Any) -> str:
    """Line by line, `-` for what the file says and `+` for what happened."""
    told, happened = (
        json.dumps(one, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
        for one in (expected, found)
    )
    return "\n".join(difflib.unified_diff(told, happened, "the file", "the trace", lineterm="", n=4))


@pytest.mark.anyio
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
async def test_each_event_takes_the_way_that_its_file_tells(file: Path, tmp_path: Path) -> None:
    case = read(file)
    setup = Setup(case.get("data_layer", {}), case.get("consent_settings", {}), case["integrations"])
    arrivals = [arrival(one) for one in (*case.get("before", []), case)]
    async with open_processing(tmp_path, setup, locate=places(tmp_path, case.get("geo"))) as path:
        for one in arrivals:
            path.clock.now_ms = one.envelope.received_at_ms
            await path.send(one)
            await path.process()
        found = await shown(path, arrivals[-1].envelope.message_id)
        found["afterwards"] = await afterwards(path, {one.envelope.message_id for one in arrivals})
    expected = {"afterwards": [], **case["expected"]}
    found = {name: narrowed(one, expected.get(name)) for name, one in found.items() if name in expected}
    assert found == expected, f"{case['title']}\n{difference(found, expected)}"


def test_there_are_files_and_each_tells_its_steps_and_its_deliveries() -> None:
    assert len(FILES) >= 15
    for file in FILES:
        case = read(file)
        assert case["title"]
        assert {"steps", "deliveries"} <= case["expected"].keys(), file.name

"""What differs between two values, and how a run is bounded."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import CustomJs, DataLayer, RoutingRule, compiled
from datafly_lite.delivery.preview import Preview
from datafly_lite.dry_run import RulesChange, Sample
from datafly_lite.errors import AdminError
from datafly_lite.processor.dry_run import LONGEST_TEXT, MOST_DIFFERENCES, differences
from datafly_lite.processor.dry_runner import LARGEST_ANSWER_BYTES, LONGEST_S, MOST_WAITING, DryRunner
from datafly_lite.processor.state import nowhere
from datafly_lite.store import recent_events
from path_kit import PIPELINE, EventPath, arrival, open_path

pytestmark = pytest.mark.anyio
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2)
NAMES = st.text("xyz", min_size=1, max_size=2)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


def at(value: Any, path: str) -> Any:
    """What stands at a path such as `a.b[0].c`; None where nothing does."""
    for step in path.replace("[", ".[").split("."):
        if step.startswith("["):
            index = int(step[1:-1])
            value = value[index] if isinstance(value, list) and index < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


@given(OBJECTS)
def test_a_value_differs_in_nothing_from_itself(value: dict[str, Any]) -> None:
    assert differences(value, json.loads(json.dumps(value))) == []


@given(OBJECTS, OBJECTS)
def test_each_difference_is_there_and_none_is_missing(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = differences(before, after)
    for change in found:
        assert [change.before, change.after] == [at(before, change.path), at(after, change.path)]
    assert bool(found) == (json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True))
    assert len({change.path for change in found}) == len(found)


def test_numbers_are_told_from_booleans_but_not_by_how_they_are_written() -> None:
    changed = differences({"a": 1, "b": 0, "c": 1}, {"a": 1.0, "b": False, "c": True})
    assert [change.path for change in changed] == ["b", "c"]


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    [change] = differences({"a": "x" * (LONGEST_TEXT + 7)}, {"a": "y"})
    assert change.before == "x" * LONGEST_TEXT + "… (7 more characters)"


# ── The bounds ───────────────────────────────────────────────────────────────────────────────


class Hands:
    """A clock that goes on by `step_s` each time that somebody looks."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.at_s = 0.0

    def __call__(self) -> float:
        self.at_s += self.step_s
        return self.at_s


def runner(path: EventPath, step_s: float = 0.0) -> DryRunner:
    return DryRunner(path.store, path.configuration, path.log.record, Preview, nowhere, Hands(step_s))


def dropping(condition: str) -> RulesChange:
    layer = DataLayer(routing_rules=(RoutingRule(condition=condition, action="drop"),))
    return RulesChange(compiled(layer, 0, ConsentSettings(), 0))


async def test_a_run_that_takes_too_long_says_how_many_were_not_tried(tmp_path: Path) -> None:
    async with open_path(tmp_path) as path:
        await path.send(*(arrival(f"m{number}") for number in range(10)))
        await path.process()
        run = await runner(path, LONGEST_S / 4).run(
            Sample(pipeline_id=PIPELINE, last=10), dropping("event == 'Tested'")
        )
        assert 0 < run.summary.events < 10
        assert run.not_run == 10 - run.summary.events
        assert len(run.events) == run.summary.newly_dropped == run.summary.events


async def test_of_too_large_a_sample_the_oldest_are_left_out(tmp_path: Path) -> None:
    async with open_path(tmp_path) as path:
        sent = [arrival(f"m{number}", properties={"text": "x" * 1_000}) for number in range(10)]
        await path.send(*sent)
        await path.process()
        found = await path.store.read(recent_events.newest, PIPELINE, 8, 5_000)
        assert found.left_out == 8 - len(found.events) > 0
        bodies = [raw["raw"] for raw, _ in found.events]
        assert bodies == [one.raw for one in sent[::-1]][: len(bodies)]
        assert sum(map(len, bodies)) <= 5_000
        assert await path.store.read(recent_events.newest, "pip_other", 8, 5_000) == ([], 0)


async def test_of_too_large_an_answer_the_unchanged_are_left_out_first(tmp_path: Path) -> None:
    async with open_path(tmp_path) as path:
        size = LARGEST_ANSWER_BYTES // 100
        arrivals = [
            arrival(f"m{number}", properties={"text": "x" * size, "number": number}) for number in range(60)
        ]
        await path.send(*arrivals)
        await path.process()
        run = await runner(path).run(
            Sample(pipeline_id=PIPELINE, last=60), dropping("properties.number < 20")
        )
        assert run.summary.events == 60
        assert run.not_shown == 60 - len(run.events) > 0
        assert sum(one.change == "newly_dropped" for one in run.events) == run.summary.newly_dropped == 20
        numbers = [int(one.message_id[1:]) for one in run.events]
        assert numbers == sorted(numbers, reverse=True)


async def test_a_difference_has_an_end(tmp_path: Path) -> None:
    many = {f"p{number}": number for number in range(MOST_DIFFERENCES + 50)}
    async with open_path(tmp_path) as path:
        await path.send(arrival("m", properties=many))
        await path.process()
        code = "function process(e) { for (const k in e.properties) e.properties[k]++; return e }"
        layer = DataLayer(custom_js=CustomJs(enabled=True, code=code))
        change = RulesChange(compiled(layer, 0, ConsentSettings(), 0))
        [one] = (await runner(path).run(Sample(pipeline_id=PIPELINE, last=1), change)).events
        assert len(one.difference) == MOST_DIFFERENCES


class Gate:
    """A clock that stands still, and stops whoever looks at it the `nth` time until it is opened."""

    def __init__(self, nth: int = 3) -> None:
        self.nth = nth
        self.looks = 0
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> float:
        self.looks += 1
        if self.looks == self.nth:
            self.reached.set()
            self.opened.wait(30)
        return 0.0


def gated(path: EventPath, gate: Gate) -> DryRunner:
    return DryRunner(path.store, path.configuration, path.log.record, Preview, nowhere, gate)


async def test_a_run_that_nobody_waits_for_ends_with_the_event_it_is_at(tmp_path: Path) -> None:
    async with open_path(tmp_path) as path:
        await path.send(*(arrival(f"m{number}") for number in range(10)))
        await path.process()
        gate = Gate()
        runs = gated(path, gate)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runs.run, Sample(pipeline_id=PIPELINE, last=10), dropping("TRUE"))
            await anyio.to_thread.run_sync(gate.reached.wait)
            tasks.cancel_scope.cancel()
            gate.opened.set()
        assert gate.looks == gate.nth
        run = await runs.run(Sample(pipeline_id=PIPELINE, last=10), dropping("TRUE"))
        assert run.summary.events == 10


async def test_a_few_wait_for_their_turn_and_read_nothing_before_it(tmp_path: Path) -> None:
    async with open_path(tmp_path) as path:
        await path.send(arrival("before"), arrival("too"))
        await path.process()
        gate, seen = Gate(), list[int]()
        runs = gated(path, gate)

        async def run() -> None:
            found = await runs.run(Sample(pipeline_id=PIPELINE, last=10), dropping("TRUE"))
            seen.append(found.summary.events)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await anyio.to_thread.run_sync(gate.reached.wait)
            for _ in range(MOST_WAITING):
                tasks.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(AdminError, match="wait for their turn") as refused:
                await run()
            assert (refused.value.code, refused.value.status) == ("RATE_LIMITED", 429)
            assert refused.value.retry_after_s
            await path.send(arrival("after"))
            await path.process()
            gate.opened.set()
        assert seen == [2, *[3] * MOST_WAITING]

"""What is stored may be older or odder than today's rules: the process starts, and goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import structlog

from datafly_lite.errors import StepFailed
from datafly_lite.expressions import Scope
from kit import Management, RecordingVendor, running_server, send_event, wait_until
from path_kit import ATTACHMENT, open_path
from test_engine import an_event, configure

TOO_LARGE = {"type": "compute", "fields": {"x": "ROUND(1e18, {{pipeline_param.digits}})"}}


def test_a_parameter_of_any_value_stops_neither_the_process_nor_its_next_start(
    data_dir: Path, vendor: RecordingVendor
) -> None:
    env = {"DATAFLY_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8"}
    event = {"type": "track", "event": "Signed Up", "messageId": "m-1", "userId": "u-1"}
    with running_server(data_dir, env=env) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline(parameters={"digits": "2"})
        management.attach(pipeline.id, "webhook", {"url": vendor.url, "steps": [TOO_LARGE]})
        for digits in ("12", "15", "99", "1e300", "-1", "'", "{{pipeline_param.digits}}", "12"):
            management.call("PUT", f"pipelines/{pipeline.id}", {"parameters": {"digits": digits}})
            assert server.ready()
    with running_server(data_dir, env=env) as server:
        assert send_event(server, pipeline.key, event).status == 200
        wait_until(lambda: vendor.message_ids == ["m-1"], "the event is delivered")
    (body,) = [msgspec.json.decode(one.body) for one in vendor.received]
    assert body["x"] == 1e18


def stored_by_an_older_program(connection: sqlite3.Connection, config: dict[str, Any]) -> None:
    connection.execute(
        "INSERT INTO data_layers (version, config, created_at_ms) VALUES (1, ?, 0)",
        (msgspec.json.encode(config).decode(),),
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    "config",
    [{"steps": [], "events": [1]}, {"steps": 5, "events": {}}, {"steps": ["{{pipeline_param.a}}"]}],
)
async def test_steps_that_nothing_can_be_made_of_keep_only_their_own_attachment_from_sending(
    data_dir: Path, config: dict[str, Any]
) -> None:
    async with open_path(data_dir) as path:
        await path.store.write(configure, config, {})
        with structlog.testing.capture_logs():
            await path.configuration.reload()
        found = path.configuration.current.attachments[ATTACHMENT]
    assert found.engine is None
    assert found.engine_error


@pytest.mark.anyio
async def test_what_cannot_be_read_leaves_the_configuration_as_it_was(data_dir: Path) -> None:
    naps = anyio.Event()

    async def sleep(_: float) -> None:
        if naps.is_set():
            await anyio.sleep_forever()
        naps.set()

    async with open_path(data_dir) as path:
        before = path.configuration.current
        await path.store.write(stored_by_an_older_program, {"routing_rules": 7})
        with structlog.testing.capture_logs() as said:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(path.configuration.run, sleep)
                with anyio.fail_after(20):
                    while not said:  # noqa: ASYNC110 - a log has no event to wait for
                        await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
        assert path.configuration.current is before
    assert [one["event"] for one in said] == ["configuration not reloaded"]


@pytest.mark.anyio
async def test_a_rule_that_can_no_longer_be_read_holds_for_no_event_and_says_so(data_dir: Path) -> None:
    large = "event MATCHES '(x|[ab]{1,50}){15}c'"
    rules = [{"condition": large, "action": "pass"}, {"condition": "event = 'x'", "action": "drop"}]
    async with open_path(data_dir) as path:
        await path.store.write(stored_by_an_older_program, {"routing_rules": rules})
        await path.configuration.reload()
        (first, _), (second, _) = path.configuration.current.rules.routing
    scope = Scope(an_event(event="x"))
    with pytest.raises(StepFailed, match="the pattern is too large"):
        first.test(scope)
    assert second.test(scope)

"""JavaScript cannot be run for a while: no event goes on without its script, and none is lost for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from datafly_lite import scripting
from datafly_lite.scripting_process import TRIES
from engine_kit import killed, unstartable
from kit import RecordingVendor
from management_kit import error_of, running_admin
from outbox_kit import FakeClock, delivering, outbox, until
from processing_kit import HandPath, Setup, open_processing, received

PRIVACY = "function process(event) { delete event.properties.secret; return event }"
STEP = {"type": "custom_js", "code": PRIVACY, "on_error": "skip"}


def event(number: int) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Tested",
        "messageId": f"m-{number}",
        "timestamp": "2026-03-01T10:00:00.000Z",
        "anonymousId": "a-1",
        "properties": {"secret": "x", "n": number},
    }


async def work_until(path: HandPath, condition: Callable[[], Awaitable[bool]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(path.processor.run)
        await until(condition, "the processor came so far")
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("on_error", ["skip", "fail"])
async def test_events_wait_while_their_script_cannot_be_run(tmp_path: Path, on_error: str) -> None:
    rules = {"custom_js": {"enabled": True, "code": PRIVACY, "on_error": on_error}}
    async with open_processing(tmp_path, Setup(data_layer=rules)) as path:
        await path.send(received(event(1)), received(event(2)))
        with killed(scripting.DATA_LAYER) as pids:

            async def has_tried_twice() -> bool:
                return len(pids) > TRIES

            await work_until(path, has_tried_twice)
            assert path.processor.position == 0
            assert await path.rows("SELECT * FROM events") == []
        await path.process()
        rows = await path.rows("SELECT body, drop_reason FROM events ORDER BY offset")
    assert [one["drop_reason"] for one in rows] == [None, None]
    assert [msgspec.json.decode(one["body"])["properties"] for one in rows] == [{"n": 1}, {"n": 2}]


@pytest.mark.anyio
@pytest.mark.parametrize("max_retries", [0, 3])
async def test_a_delivery_waits_while_its_script_cannot_be_run(
    vendor: RecordingVendor, tmp_path: Path, max_retries: int
) -> None:
    clock = FakeClock()
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url, steps=[STEP], max_retries=max_retries)
        await box.queue([attachment], now_ms=clock.now_ms, properties={"secret": "x", "n": 1})

        async def waits() -> bool:
            [row] = await box.deliveries(attachment)
            return row["detail"] is not None

        with unstartable():
            async with delivering(box, clock=clock):
                await until(waits, "it was tried")
        [row] = await box.deliveries(attachment)
        assert (row["status"], row["attempts"]) == ("pending", 0)
        assert "JavaScript cannot be tried now" in row["detail"]
        assert await box.attempts() == []
        clock.now_ms = row["next_attempt_at_ms"]
        async with delivering(box, clock=clock):
            await box.until(attachment, delivered=1)
        [row] = await box.deliveries(attachment)
        assert (row["detail"], row["attempts"]) == (None, 1)
    [sent] = vendor.received
    assert msgspec.json.decode(sent.body)["properties"] == {"n": 1}


@pytest.mark.anyio
async def test_steps_that_cannot_be_tried_while_they_are_loaded_are_run_later(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        with unstartable():
            attachment = await box.attach(url=vendor.url, steps=[{**STEP, "name": "loaded"}])
        await box.queue([attachment], properties={"secret": "x"})
        async with delivering(box):
            await box.until(attachment, delivered=1)


def test_what_cannot_be_tried_is_not_saved_and_what_cannot_be_run_is_not_shown(tmp_path: Path) -> None:
    config = {"url": "https://hooks.example.com/", "steps": [STEP]}
    made = {"name": "X", "vendor": "webhook", "config": config}
    rules = {"custom_js": {"code": PRIVACY, "enabled": True}}
    with running_admin(tmp_path / "data") as admin:
        with unstartable():
            assert (
                cannot_be_tried(admin.call("PUT", "/data-layer", {"config": rules}))
                == "config.custom_js.code"
            )
            assert cannot_be_tried(admin.call("POST", "/integration-templates", made)) == "config.steps"
        pipeline = admin.ok("POST", "/pipelines", {"name": "P"})["id"]
        admin.ok("PUT", "/data-layer", {"config": rules})
        admin.process(pipeline, event(1))
        trial = {"pipeline_id": pipeline, "data_layer": {}, "last": 1}
        trace, tried = ("GET", f"/events/{pipeline}/m-1", None), ("POST", "/dry-run", trial)
        for method, path, body in (trace, tried):
            with unstartable():
                answer = admin.call(method, path, body)
                assert error_of(answer)[0] == 503
                assert "JavaScript cannot be tried now" in answer.json()["error"]["message"]
            admin.ok(method, path, body)


def cannot_be_tried(answer: Any) -> str:
    [detail] = answer.json()["error"]["details"]
    assert "JavaScript cannot be tried now" in detail["message"]
    return str(detail["field"])

"""What becomes of a delivery, by the vendor's answer; over a real store and real HTTP."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datafly_lite.store import deliveries
from kit import RecordingVendor, VendorAnswer, free_port
from outbox_kit import FakeClock, Outbox, delivering, outbox, until

pytestmark = pytest.mark.anyio


def answers(*statuses: int, **fields: Any) -> list[VendorAnswer]:
    return [VendorAnswer(status, **fields) for status in statuses]


async def only(box: Outbox, attachment: str) -> dict[str, Any]:
    (delivery,) = await box.deliveries(attachment)
    return delivery


async def test_a_200_is_delivered_and_kept(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = [VendorAnswer(200, b'{"ok":true}', {"X-Vendor": "v"})]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        (message_id,) = await box.queue([attachment])
        async with delivering(box):
            await box.until(attachment, delivered=1)
        delivery, (attempt,) = await only(box, attachment), await box.attempts()
    assert vendor.message_ids == [message_id]
    assert (delivery["attempts"], delivery["reason"]) == (1, None)
    assert delivery["finished_at_ms"] >= delivery["created_at_ms"]
    assert (attempt["attempt"], attempt["verdict"], attempt["status"], attempt["error"]) == (
        1,
        "delivered",
        200,
        None,
    )
    request, response = msgspec.json.decode(attempt["request"]), msgspec.json.decode(attempt["response"])
    assert (request["method"], request["url"]) == ("POST", vendor.url)
    assert request["headers"]["webhook-id"] == message_id
    assert request["body"].encode() == vendor.received[0].body
    assert (response["headers"]["x-vendor"], response["body"]) == ("v", '{"ok":true}')


async def test_a_500_is_tried_again_with_the_same_id(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = answers(500, 503)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box):
            await box.until(attachment, delivered=1)
        attempts = await box.attempts()
    assert [(one["attempt"], one["status"], one["verdict"]) for one in attempts] == [
        (1, 500, "retry"),
        (2, 503, "retry"),
        (3, 200, "delivered"),
    ]
    assert len({one.headers["webhook-id"] for one in vendor.received}) == 1


async def test_retry_after_is_obeyed(vendor: RecordingVendor, tmp_path: Path) -> None:
    clock = FakeClock()
    started_ms = clock.now_ms
    vendor.answers = answers(429, headers={"Retry-After": "30"})
    async with outbox(tmp_path) as box:
        attachment, other = await box.attach(url=vendor.url), await box.attach(url=f"{vendor.url}other")
        await box.queue([attachment], now_ms=started_ms)
        async with delivering(box, clock=clock) as delivery:
            await until(lambda: has_attempts(box, 1), "the first attempt is recorded")
            assert (await only(box, attachment))["next_attempt_at_ms"] >= started_ms + 30_000
            clock.now_ms = started_ms + 29_999
            await box.queue([attachment, other], now_ms=started_ms)
            delivery.wake([attachment, other])
            await box.until(other, delivered=1)
            assert [one.path for one in vendor.received] == ["/", "/other"]
            clock.now_ms = started_ms + 31_000
            delivery.wake([attachment])
            await box.until(attachment, delivered=2)
    assert len(vendor.received) == 4


async def has_attempts(box: Outbox, number: int) -> bool:
    return len(await box.attempts()) == number


async def test_the_delay_grows_from_attempt_to_attempt(vendor: RecordingVendor, tmp_path: Path) -> None:
    clock = FakeClock()
    vendor.answers = answers(500, 500, 500)
    delays = []
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], now_ms=clock.now_ms)
        async with delivering(box, clock=clock, chance=0.5) as delivery:
            for number in (1, 2, 3):
                await until(partial(has_attempts, box, number), "the attempt is recorded")
                delivery_row, attempt = await only(box, attachment), (await box.attempts())[-1]
                delays.append(delivery_row["next_attempt_at_ms"] - attempt["at_ms"] - attempt["duration_ms"])
                clock.now_ms = delivery_row["next_attempt_at_ms"]
                delivery.wake([attachment])
            await box.until(attachment, delivered=1)
    assert delays == [2_000, 8_000, 32_000]


@pytest.mark.parametrize("status", [400, 404, 422, 301])
async def test_a_refusal_goes_to_the_dead_letters_at_once(
    status: int, vendor: RecordingVendor, tmp_path: Path
) -> None:
    vendor.answers = answers(status)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box):
            await box.until(attachment, dead=1)
        delivery = await only(box, attachment)
    assert (delivery["reason"], delivery["attempts"], len(vendor.received)) == ("refused_by_vendor", 1, 1)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_pause_the_integration_and_keep_the_event(
    status: int, vendor: RecordingVendor, tmp_path: Path
) -> None:
    vendor.answers = answers(status)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 20)
        async with delivering(box, delivery_concurrency=1) as delivery:
            await until(lambda: is_in_mode(box, attachment, "paused"), "it is paused")
            delivery.wake([attachment])
            state = await box.attachment(attachment)
            await box.until(attachment, pending=20)
            assert len(vendor.received) == 1
            await box.change(attachment, mode="live", trouble=None)
            await box.until(attachment, delivered=20)
    assert str(status) in state["trouble"]
    assert state["enabled"] == 1
    assert vendor.message_ids.count("m-1") == 2


async def is_in_mode(box: Outbox, attachment: str, mode: str) -> bool:
    if (await box.attachment(attachment))["mode"] != mode:
        return False
    return box.configuration.current.attachments[attachment].mode == mode


async def test_a_410_disables_the_integration_and_keeps_the_event(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    vendor.answers = answers(410)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment], 3)

        async def disabled() -> bool:
            return not (await box.attachment(attachment))["enabled"]

        async with delivering(box, delivery_concurrency=1):
            await until(disabled, "it is disabled")
        state = await box.attachment(attachment)
        await box.until(attachment, pending=3)
    assert "410" in state["trouble"]
    assert len(vendor.received) == 1


async def test_a_vendor_that_hangs_is_left_and_tried_again(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = answers(200, delay_s=30.0)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url, timeout_ms=200)
        await box.queue([attachment])
        async with delivering(box):
            await box.until(attachment, delivered=1)
        first, second = await box.attempts()
    assert (first["verdict"], first["status"], first["response"]) == ("retry", None, None)
    assert first["error"].startswith("timeout")
    assert second["verdict"] == "delivered"


async def test_all_attempts_used_up_then_replayed(vendor: RecordingVendor, tmp_path: Path) -> None:
    vendor.answers = answers(500, 500, 500, 500)
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url, max_retries=2)
        await box.queue([attachment])
        async with delivering(box) as delivery:
            await box.until(attachment, dead=1)
            dead = await only(box, attachment)
            replayed = await box.store.write(deliveries.replay, [dead["id"], 999], 0)
            delivery.wake([attachment])
            await box.until(attachment, delivered=1)
        attempts = await box.attempts()
    assert (dead["reason"], dead["attempts"], replayed) == ("attempts_exhausted", 3, 1)
    assert [one["attempt"] for one in attempts] == [1, 2, 3, 4, 5]


async def test_an_event_that_the_vendor_has_no_word_for_is_dropped(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach("ga4", measurement_id="G-TEST1234", api_secret="s3cret")
        await box.queue([attachment], type="identify", userId="u-1")
        async with delivering(box):
            await box.until(attachment, dropped=1)
        delivery, attempts = await only(box, attachment), await box.attempts()
    assert (delivery["reason"], attempts) == ("filter", [])


@pytest.mark.parametrize(
    ("vendor_name", "body"), [("webhook", b"{"), ("ga4", None), ("gone", None), ("webhook", b'{"type":"x"}')]
)
async def test_a_poisonous_event_is_parked_alone(
    vendor_name: str, body: bytes | None, vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(
            vendor_name, url=vendor.url, measurement_id="G-TEST1234", api_secret="s"
        )
        other = await box.attach(url=vendor.url)
        await box.queue([attachment], body=body, anonymousId=None)
        await box.queue([other])
        async with delivering(box):
            await box.until(attachment, dead=1)
            await box.until(other, delivered=1)
            if vendor_name == "webhook":
                await box.queue([attachment])
                await box.until(attachment, dead=1)
        delivery, attempt = (await box.deliveries(attachment))[0], (await box.attempts())[0]
    assert delivery["reason"] == "mapping_failed"
    assert (attempt["verdict"], attempt["status"]) == ("give_up", None)
    assert attempt["error"]


async def test_a_header_that_a_parameter_brought_cannot_split_the_request(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        await box.execute("""UPDATE pipelines SET parameters = '{"x": "a\\r\\nX-Evil: 1"}'""")
        attachment = await box.attach(url=vendor.url, headers={"X-A": "{{pipeline_param.x}}"})
        await box.queue([attachment])
        async with delivering(box):
            await box.until(attachment, dead=1)
        delivery = await only(box, attachment)
    assert (delivery["reason"], vendor.received) == ("mapping_failed", [])


async def test_an_address_that_is_not_allowed_is_not_called(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box, dev=False):
            await box.until(attachment, dead=1)
        delivery, (attempt,) = await only(box, attachment), await box.attempts()
    assert (delivery["reason"], vendor.received) == ("address_refused", [])
    assert "https" in attempt["error"]


async def test_an_address_that_the_operator_allowed_is_called(
    vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.queue([attachment])
        async with delivering(box, dev=False, delivery_allow_networks="127.0.0.0/8"):
            await box.until(attachment, delivered=1)


async def test_a_shadow_makes_requests_and_sends_none(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url)
        await box.change(attachment, mode="shadow")
        await box.queue([attachment])
        async with delivering(box):
            await box.until(attachment, dropped=1)
        delivery, (attempt,) = await only(box, attachment), await box.attempts()
    assert (delivery["reason"], vendor.received) == ("shadow", [])
    assert (attempt["verdict"], attempt["response"]) == ("shadow", None)
    assert msgspec.json.decode(attempt["request"])["url"] == vendor.url


@pytest.mark.parametrize("change", [{"mode": "paused"}, {"enabled": 0}])
async def test_nothing_is_sent_while_paused_or_disabled(
    change: dict[str, Any], vendor: RecordingVendor, tmp_path: Path
) -> None:
    async with outbox(tmp_path) as box:
        attachment, other = await box.attach(url=vendor.url), await box.attach(url=f"{vendor.url}other")
        await box.change(attachment, **change)
        await box.queue([attachment, other])
        async with delivering(box):
            await box.until(other, delivered=1)
            assert [one.path for one in vendor.received] == ["/other"]
            await box.change(attachment, mode="live", enabled=1)
            await box.until(attachment, delivered=1)


async def test_a_new_revision_is_taken_up_while_running(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=f"http://127.0.0.1:{free_port()}/")
        integration = (await box.attachment(attachment))["integration_id"]
        await box.queue([attachment])
        async with delivering(box, chance=0.01):
            await until(lambda: has_failed(box), "the first revision failed")
            revision = await box.revise(integration, 2, url=vendor.url)
            await box.change(attachment, revision_id=revision)
            await box.until(attachment, delivered=1)
        attempts = await box.attempts()
    assert attempts[0]["error"].startswith("connection_failed")
    assert attempts[-1]["revision_id"] == revision


async def has_failed(box: Outbox) -> bool:
    return bool(await box.attempts())


async def test_frames_are_published_to_who_watches(vendor: RecordingVendor, tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=vendor.url, authentication="bearer", auth_token="t0ken")
        async with delivering(box) as delivery:
            await box.queue([attachment])
            delivery.wake([attachment])
            await box.until(attachment, delivered=1)
            watcher = box.live.watch()
            (message_id,) = await box.queue([attachment])
            delivery.wake([attachment])
            await box.until(attachment, delivered=2)
            frames, missed = await watcher.next()
    assert [(frame.stage, frame.message_id) for frame in frames] == [
        ("request", message_id),
        ("response", message_id),
    ]
    assert frames[0].data["request"]["headers"]["authorization"] == "***"
    assert (frames[1].data["status"], frames[1].data["verdict"], missed) == (200, "delivered", 0)


PLANTED = "pl4nted/secret+value"


@pytest.mark.parametrize(
    "config",
    [
        {"authentication": "bearer", "auth_token": PLANTED},
        {"authentication": "basic", "username": "u", "password": PLANTED},
        {"headers": {"X-Key": PLANTED}, "authentication": "bearer", "auth_token": PLANTED},
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_secret_is_in_no_attempt_and_no_frame(
    config: dict[str, Any], status: int, vendor: RecordingVendor, tmp_path: Path
) -> None:
    echo = f'{{"you": "{PLANTED}", "coded": "pl4nted%2Fsecret%2Bvalue"}}'.encode()
    vendor.answers = [VendorAnswer(status, echo, {"X-Echo": PLANTED})]
    async with outbox(tmp_path) as box:
        attachment = await box.attach(url=f"{vendor.url}?k=pl4nted%2Fsecret%2Bvalue", **config)
        watcher = box.live.watch()
        await box.queue([attachment], properties={"note": PLANTED})
        async with delivering(box):
            await until(lambda: has_failed(box), "an attempt is recorded")
        frames, _ = await watcher.next()
        stored = str(await box.attempts()) + str(await box.rows("SELECT * FROM deliveries")) + str(frames)
    assert "pl4nted" not in stored
    assert "cGw0bnRlZC9zZWNyZXQrdmFsdWU" not in stored  # base64 of it
    assert PLANTED in str(vendor.received[0])  # it was sent, so it could have been kept

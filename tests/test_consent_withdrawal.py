"""Consent that is taken back between the queue and the vendor: a real server, and what the vendor got.

spec/datafly-signal.md, 7.3, stage 2: what counts is the visitor's word when a delivery is made.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crash import SETTINGS
from kit import (
    Management,
    Pipeline,
    RecordingVendor,
    Server,
    VendorAnswer,
    request,
    running_server,
    wait_until,
)

NUMBERS = count(1)
YES, NO = {"marketing": True}, {"marketing": False}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One request at a time to each vendor, so that the order of what is sent is known."""
    env = {**SETTINGS, "DATAFLY_DELIVERY_CONCURRENCY": "1"}
    with running_server(tmp_path_factory.mktemp("withdrawal") / "data", env=env) as running:
        yield running


class Shop(NamedTuple):
    """A pipeline with one integration that needs consent to marketing."""

    server: Server
    management: Management
    pipeline: Pipeline
    attachment: str

    def send(self, visitor: str, consent: dict[str, bool] | None = None, **fields: Any) -> str:
        """One event, stored; its messageId."""
        headers = {"Authorization": f"Bearer {self.pipeline.key}", **fields.pop("headers", {})}
        body = {
            "type": "track",
            "event": "Seen",
            "messageId": str(uuid.uuid4()),
            "anonymousId": visitor,
            "timestamp": at(0),
            "context": {"consent": consent} if consent is not None else {},
            **fields,
        }
        answer = request(f"{self.server.base_url}/v1/t", "POST", json.dumps(body).encode(), headers)
        assert answer.status == 200, answer.body
        return str(body["messageId"])

    def set(self, mode: str) -> None:
        path = f"pipelines/{self.pipeline.id}/integrations/{self.attachment}"
        self.management.call("PUT", path, {"mode": mode})

    def trace(self, message_id: str) -> dict[str, Any]:
        """Once it is processed."""
        found: dict[str, Any] = {}

        def is_processed() -> bool:
            found.update(self.management.call("GET", f"events/{self.pipeline.id}/{message_id}"))
            return bool(found["processed"])

        wait_until(is_processed, "the event is processed")
        assert found["recomputed_alike"]
        return found

    def cancelled(self, message_id: str) -> int:
        """How many deliveries the event took back, by its own trace."""
        found: int = self.trace(message_id)["consent_change"]["cancelled_deliveries"]
        return found

    def delivery(self, message_id: str) -> dict[str, Any]:
        [found] = self.trace(message_id)["deliveries"]
        return dict(found)

    def state(self, message_id: str) -> tuple[str, str | None]:
        """(status, reason) of its delivery."""
        found = self.delivery(message_id)
        return found["status"], found["reason"]

    def wait_for(self, message_id: str, *state: str | None) -> None:
        wait_until(lambda: self.state(message_id) == state, f"the delivery is {state}")


@pytest.fixture
def shop(server: Server, management: Management, vendor: RecordingVendor) -> Iterator[Shop]:
    made = open_shop(server, management, vendor.url)
    yield made
    assert made.management.call("GET", "ledger")["balanced"]


def open_shop(server: Server, management: Management, url: str) -> Shop:
    number = next(NUMBERS)
    pipeline = management.create_pipeline(f"Shop {number}", slug=f"shop-{number}")
    config = {"url": url, "consent_categories": ["marketing"]}
    attachment = management.attach(pipeline.id, "webhook", config, name=f"Hook {number}")
    return Shop(server, management, pipeline, attachment)


def at(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="milliseconds")


def visitor() -> str:
    return str(uuid.uuid4())


DROPPED = ("dropped", "consent")


def test_what_waits_of_the_visitor_is_cancelled_and_all_else_goes_out(
    shop: Shop, vendor: RecordingVendor
) -> None:
    ada, bob = visitor(), visitor()
    shop.set("paused")
    waiting = [shop.send(ada, YES) for _ in range(3)]
    others = [shop.send(bob, YES) for _ in range(2)]
    assert [shop.state(one) for one in waiting + others] == [("pending", None)] * 5
    withdrawal = shop.send(ada, NO)
    assert shop.cancelled(withdrawal) == 3
    change = shop.trace(withdrawal)["consent_change"]
    assert (change["before"], change["after"]) == (YES, NO)
    assert [shop.state(one) for one in waiting] == [DROPPED] * 3
    assert {shop.delivery(one)["detail"] for one in waiting} == {"withdrawn: marketing"}
    shop.set("live")
    for one in others:
        shop.wait_for(one, "delivered", None)
    assert sorted(vendor.message_ids) == sorted(others)
    assert shop.state(withdrawal) == DROPPED


def test_a_first_no_takes_back_what_was_queued_while_nothing_was_said(shop: Shop) -> None:
    ada = visitor()
    shop.set("paused")
    waiting = shop.send(ada)
    assert shop.state(waiting) == ("pending", None)
    assert shop.cancelled(shop.send(ada, NO)) == 1
    assert shop.state(waiting) == DROPPED


def test_a_no_to_what_all_events_require_takes_back_what_waits_for_any_integration(
    shop: Shop, vendor: RecordingVendor
) -> None:
    """The settings drop all events of who refuses analytics, whatever an integration itself asks for."""
    ada = visitor()
    settings = shop.management.call("GET", "consent-settings")["config"]
    required = {**settings, "required_categories": ["analytics"], "on_refused": "drop"}
    shop.management.call("PUT", "consent-settings", {"config": required})
    shop.set("paused")
    waiting = shop.send(ada, {"marketing": True, "analytics": True})
    assert shop.state(waiting) == ("pending", None)
    withdrawal = shop.send(ada, {"analytics": False})
    assert shop.cancelled(withdrawal) == 1
    shop.management.call("PUT", "consent-settings", {"config": settings})
    assert shop.trace(withdrawal)["drop_reason"] == "consent"
    assert shop.state(waiting) == DROPPED
    assert vendor.received == []


def test_a_delivery_that_waits_for_its_next_attempt_is_cancelled(shop: Shop, vendor: RecordingVendor) -> None:
    ada = visitor()
    vendor.answers.append(VendorAnswer(503, headers={"Retry-After": "3600"}))
    tried = shop.send(ada, YES)
    wait_until(lambda: shop.delivery(tried)["attempts"] == 1, "the first attempt is recorded")
    assert shop.state(tried) == ("pending", None)
    assert shop.cancelled(shop.send(ada, NO)) == 1
    assert shop.state(tried) == DROPPED
    assert len(shop.delivery(tried)["history"]) == 1
    assert vendor.message_ids == [tried]


class HeldVendor(ThreadingHTTPServer):
    """Takes requests, notes their messageIds, and answers `status` to none before `released` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Held)
        self.received: list[str] = []
        self.status = 200
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Held(BaseHTTPRequestHandler):
    server: HeldVendor

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append(body["messageId"])
        self.server.released.wait(60)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing is said of requests."""


@pytest.fixture
def held() -> Iterator[HeldVendor]:
    with HeldVendor() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join(10)


def test_what_the_worker_has_read_already_is_not_sent(
    server: Server, management: Management, held: HeldVendor
) -> None:
    """All of it was fetched in one page; the first request is at the vendor when the visitor says no."""
    shop, ada, bob = open_shop(server, management, held.url), visitor(), visitor()
    shop.set("paused")
    waiting = [shop.send(ada, YES) for _ in range(4)]
    others = [shop.send(bob, YES) for _ in range(2)]
    assert shop.state(others[-1]) == ("pending", None)
    shop.set("live")
    wait_until(lambda: held.received, "the first request is under way")
    assert shop.cancelled(shop.send(ada, NO)) == 4
    held.released.set()
    for one in others:
        shop.wait_for(one, "delivered", None)
    assert held.received == [waiting[0], *others]
    shop.wait_for(waiting[0], "delivered", None)  # the vendor has it: that is what is said
    assert [shop.state(one) for one in waiting[1:]] == [DROPPED] * 3
    assert shop.management.call("GET", "ledger")["balanced"]


def test_what_was_under_way_and_failed_is_not_tried_again(
    server: Server, management: Management, held: HeldVendor
) -> None:
    shop, ada = open_shop(server, management, held.url), visitor()
    held.status = 503
    tried = shop.send(ada, YES)
    wait_until(lambda: held.received, "the request is under way")
    assert shop.cancelled(shop.send(ada, NO)) == 1
    held.released.set()
    wait_until(lambda: shop.delivery(tried)["history"], "its answer is recorded")
    assert shop.state(tried) == DROPPED
    assert held.received == [tried]


def test_a_dead_letter_that_is_replayed_after_it_is_dropped(shop: Shop, vendor: RecordingVendor) -> None:
    ada = visitor()
    vendor.answers.append(VendorAnswer(400))
    dead = shop.send(ada, YES)
    wait_until(lambda: shop.state(dead)[0] == "dead", "the vendor refused it")
    assert shop.cancelled(shop.send(ada, NO)) == 0  # a dead letter does not wait
    ids = [shop.delivery(dead)["delivery_id"]]
    shop.management.call("POST", "dead-letters/replay", {"ids": ids})
    shop.wait_for(dead, *DROPPED)
    assert vendor.message_ids == [dead]
    assert shop.delivery(dead)["detail"] == "marketing"


def test_what_comes_after_a_new_yes_goes_out_and_what_was_cancelled_stays_so(
    shop: Shop, vendor: RecordingVendor
) -> None:
    ada = visitor()
    shop.set("paused")
    before = shop.send(ada, YES)
    shop.trace(shop.send(ada, NO))
    again, after = shop.send(ada, YES), shop.send(ada)
    shop.set("live")
    for one in (again, after):
        shop.wait_for(one, "delivered", None)
    assert shop.state(before) == DROPPED
    assert sorted(vendor.message_ids) == sorted([again, after])


def test_an_older_yes_that_comes_late_undoes_nothing(shop: Shop, vendor: RecordingVendor) -> None:
    """A phone was offline: its event is from an hour before the no."""
    ada = visitor()
    shop.trace(shop.send(ada, NO))
    late = shop.send(ada, YES, timestamp=at(-1))
    shop.wait_for(late, *DROPPED)
    assert shop.trace(late)["consent_change"] is None
    assert shop.state(shop.send(ada)) == DROPPED
    assert vendor.received == []


def test_a_category_that_the_integration_does_not_need_cancels_nothing(
    shop: Shop, vendor: RecordingVendor
) -> None:
    ada = visitor()
    shop.set("paused")
    waiting = shop.send(ada, {"marketing": True, "analytics": True})
    withdrawal = shop.send(ada, {"analytics": False})
    assert shop.cancelled(withdrawal) == 0
    shop.set("live")
    for one in (waiting, withdrawal):
        shop.wait_for(one, "delivered", None)
    assert vendor.message_ids == [waiting, withdrawal]


def test_a_browser_that_asks_for_privacy_takes_back_what_waits(shop: Shop, vendor: RecordingVendor) -> None:
    ada = visitor()
    shop.set("paused")
    waiting = shop.send(ada, YES)
    assert shop.state(waiting) == ("pending", None)
    assert shop.cancelled(shop.send(ada, headers={"Sec-GPC": "1", "Origin": "https://shop.example"})) == 1
    assert shop.state(waiting) == DROPPED
    assert vendor.received == []


def test_a_no_on_one_site_is_a_no_on_all_sites_of_the_organisation(
    shop: Shop, server: Server, vendor: RecordingVendor
) -> None:
    """The visitor is one, and so is what the visitor agrees to."""
    other, ada = open_shop(server, shop.management, vendor.url), visitor()
    shop.set("paused")
    waiting = shop.send(ada, YES)
    assert shop.state(waiting) == ("pending", None)
    assert other.cancelled(other.send(ada, NO)) == 1
    assert shop.state(waiting) == DROPPED


def test_a_no_survives_a_crash(data_dir: Path, vendor: RecordingVendor) -> None:
    """The cancelling and the event that asked for it are one transaction."""
    ada = visitor()
    with running_server(data_dir, env=SETTINGS) as running:
        shop = open_shop(running, Management(running.base_url), vendor.url)
        shop.set("paused")
        waiting = [shop.send(ada, YES) for _ in range(3)]
        assert shop.state(waiting[-1]) == ("pending", None)
        withdrawal = shop.send(ada, NO)
        running.kill()
    with running_server(data_dir, env=SETTINGS) as running:
        shop = Shop(running, Management(running.base_url), shop.pipeline, shop.attachment)
        assert shop.cancelled(withdrawal) == 3
        shop.set("live")
        after = shop.send(visitor(), YES)
        shop.wait_for(after, "delivered", None)
        assert vendor.message_ids == [after]
        assert shop.management.call("GET", "ledger")["balanced"]

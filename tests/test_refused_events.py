"""What the door refused: found again, bounded, counted to the last one, without secrets."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.errors import StorageError, StorageUnavailable
from datafly_lite.events import Refusal
from datafly_lite.gateway.refusals import (
    KEPT_BODY_BYTES,
    LONGEST_TEXT,
    WAITING,
    WAITING_A_PIPELINE,
    Refusals,
    library,
)
from datafly_lite.store import Store, refused_events
from datafly_lite.store.refused_events import KEPT_A_PIPELINE, KEPT_FOR_MS
from kit import Management, Pipeline, Server, open_store, request, running_server, wait_until

NOW_MS = 1_772_029_800_000
SECRET = "sk_" + "A1b2" * 10
CHALLENGE = "ct_" + "a1b2" * 10
SAID = {"context": {"library": {"name": "analytics-node", "version": "2.1.0"}}}


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class Ticks:
    """The seam of `run`'s sleep: a tick begins when the test says so, and the test knows when it ended."""

    def __init__(self) -> None:
        self._begin: asyncio.Queue[None] = asyncio.Queue()
        self._asleep: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(self, _: float) -> None:
        self._asleep.put_nowait(None)
        await self._begin.get()

    async def tick(self) -> None:
        """One round of `run`, from its sleep to its sleep."""
        await self._asleep.get()
        self._begin.put_nowait(None)
        await self._asleep.get()
        self._asleep.put_nowait(None)


def refusal(code: str = "invalid_json", body: bytes = b"{", **fields: Any) -> Refusal:
    known: dict[str, Any] = {
        "message": "the body is not JSON",
        "path": "/v1/t",
        "refused_at_ms": NOW_MS,
        **fields,
    }
    return Refusal(code=code, body=body, **{"body_size_bytes": len(body), **known})


async def listed(
    store: Store, before: int | None = None, now_ms: int = NOW_MS, limit: int = 10_000, **filters: Any
) -> list[sqlite3.Row]:
    return await store.read(refused_events.page, filters, before, now_ms, limit)


async def counted(store: Store, pipeline_id: str | None = None) -> dict[str, int]:
    return await store.read(refused_events.counts, pipeline_id)


def kept(tmp_path: Path, one: Refusal) -> sqlite3.Row:
    """The row that comes of it."""

    async def look() -> sqlite3.Row:
        async with open_store(tmp_path / "datafly.db") as store:
            await Refusals(store, Clock()).keep([one])
            return (await listed(store))[0]

    return anyio.run(look)


# ── What is kept ─────────────────────────────────────────────────────────────────────────────


def test_all_that_the_door_knew_is_there_again(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **{
            "pipeline_id": "pip_a",
            "dialect": "segment",
            "user_agent": "analytics-node/2",
            "ip": "203.0.113.9",
        },
        **{"origin": "https://shop.example.com", "request_id": "req-1", "path": "/v1/track"},
        **{"message": "`event` is missing", "code": "invalid_payload", "refused_at_ms": NOW_MS - 5},
    }
    row = kept(tmp_path, refusal(body=json.dumps(SAID).encode(), **fields))
    assert {name: row[name] for name in fields} == fields
    assert row["library"] == "analytics-node/2.1.0"
    assert json.loads(row["body"]) == SAID
    assert row["body_size_bytes"] == len(row["body"])


def test_of_a_long_body_the_beginning_is_kept_and_the_size_of_all(tmp_path: Path) -> None:
    row = kept(tmp_path, refusal(body=b"x" * 100_000))
    assert (row["body"], row["body_size_bytes"]) == (b"x" * KEPT_BODY_BYTES, 100_000)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"challengeToken": CHALLENGE, "event": "A"}).encode(),
        json.dumps({"challengeToken": f'no "{SECRET[3:]} token', "event": "A"}).encode(),
        json.dumps({"challenge_token": SECRET[3:], "event": "A"}, indent=2).encode(),
        json.dumps({"properties": {"note": f"try {SECRET}, or {CHALLENGE}"}}).encode(),
        f"e=track&key=dk_x&s={SECRET}&c={CHALLENGE}".encode(),
        f"{SECRET}".encode(),
        b"{" + f'"k": "sk_live_{SECRET[3:]}"'.encode(),
        b"x" * (KEPT_BODY_BYTES - 20) + SECRET.encode(),
        b"x" * (KEPT_BODY_BYTES - 5) + SECRET.encode(),
        b'{"challengeToken": "' + b"y" * 9_000 + SECRET.encode(),
        gzip.compress(f'{{"a": "{SECRET}", "b": "{CHALLENGE}"}}'.encode()),
        gzip.compress(f'{{"a": "{SECRET}", "b": "{CHALLENGE}"}}'.encode())[:-25],
    ],
)
def test_no_secret_is_kept(tmp_path: Path, body: bytes) -> None:
    row = kept(tmp_path, refusal(body=body))
    size = min(KEPT_BODY_BYTES, len(body))
    assert b"*" in row["body"]
    assert SECRET[3:5].encode() not in row["body"]
    assert CHALLENGE[3:8].encode() not in row["body"]
    if not body.startswith(b"\x1f\x8b"):
        assert (len(row["body"]), row["body_size_bytes"]) == (size, len(body)), "stars are as long"


def test_a_secret_in_another_place_is_not_kept_either(tmp_path: Path) -> None:
    fields: dict[str, Any] = dict.fromkeys(
        ("message", "path", "user_agent", "origin", "request_id"), f"a {SECRET} b"
    )
    row = kept(tmp_path, refusal(**fields))
    assert {row[name] for name in fields} == {"a sk_" + "*" * 40 + " b"}


def test_ordinary_names_are_left_alone(tmp_path: Path) -> None:
    body = b'{"writeKey":"dk_pip_1","event":"product_list_viewed","task_id":"ask_me","ct_x":1}'
    assert kept(tmp_path, refusal(body=body))["body"] == body


@pytest.mark.parametrize(
    ("body", "text", "size_bytes"),
    [
        (gzip.compress(b'{"event": '), b'{"event": ', 10),
        (gzip.compress(b"z" * 50_000), b"z" * KEPT_BODY_BYTES, 16_384),
        (b"\x1f\x8bno gzip at all", b"", 16),
    ],
    ids=["whole", "bomb", "none"],
)
def test_gzip_is_shown_as_far_as_it_can_be_read(
    tmp_path: Path, body: bytes, text: bytes, size_bytes: int
) -> None:
    row = kept(tmp_path, refusal(body=body))
    assert (row["body"], row["body_size_bytes"]) == (text, size_bytes)


def test_texts_are_bounded_and_can_be_stored(tmp_path: Path) -> None:
    hostile = "\ud800\x00" + "x" * 100_000
    fields: dict[str, Any] = dict.fromkeys(
        ("message", "path", "user_agent", "origin", "ip", "request_id"), hostile
    )
    body = json.dumps({"context": {"library": {"name": "n" * 10_000, "version": "\x00"}}}).encode()
    row = kept(tmp_path, refusal(body=body, **fields))
    assert {row[name] for name in fields} == {"?\x00" + "x" * (LONGEST_TEXT - 2)}
    assert row["library"] == "n" * LONGEST_TEXT


@given(body=st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_noting_never_fails(body: bytes) -> None:
    refusals = Refusals(cast(Store, None), Clock())  # nothing is written here
    for prefix in (b"", b'{"context":{"library":', b"\x1f\x8b\x08\x00", b'{"batch":['):
        refusals.note(refusal(body=prefix + body, message=body.decode("utf-8", "surrogateescape")))


# ── The library ──────────────────────────────────────────────────────────────────────────────


NODE = "analytics-node/2.1.0"
OTHER = {"context": {"library": {"name": "other", "version": "1"}}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (json.dumps({"type": "track", **SAID}), NODE),
        (json.dumps({"batch": [{"event": "A"}], **SAID}), NODE),
        (json.dumps({"batch": [SAID, OTHER]}), NODE),
        (json.dumps({"batch": [OTHER], **SAID}), NODE),
        (json.dumps({"properties": OTHER["context"], **SAID}), NODE),
        (json.dumps({"properties": {"library": {"name": "a place with books"}}}), None),
        (json.dumps({"event": "A", **SAID})[:-1], NODE),
        (json.dumps({**SAID, "x": 1}, indent=2)[:-9], NODE),
        (json.dumps({"batch": [SAID] * 5_000})[:16_384], NODE),
        ("\ufeff" + json.dumps(SAID), NODE),
        ('{"context":{"library":{"name":"n"}}}', "n"),
        ('{"context":{"library":{"version":7,"name":""}}}', None),
        ('{"context":{"library":"n/1"}}', None),
        ('{"context":[],"batch":{}}', None),
        ('{"batch":[7],"context":{"library":null}}', None),
        ('{"context":{"library":{"name":"a{b","version":"1"', None),
        ("[" * 100_000, None),
        ('{"context":' * 5_000, None),
        ("[]", None),
        ("null", None),
        ("", None),
        ("\x00\x01", None),
    ],
)
def test_the_library_is_found_where_sdks_say_it(body: str, expected: str | None) -> None:
    assert library(body.encode()) == expected


# ── How much is kept ─────────────────────────────────────────────────────────────────────────


def test_a_flood_is_counted_to_the_last_and_kept_in_part(tmp_path: Path) -> None:
    async def flood() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, Clock())
            for number in range(20 * WAITING):
                refusals.note(refusal("invalid_key", b"%d" % number))
            refusals.note(refusal("rate_limited", b"mine", pipeline_id="pip_a"))
            await refusals.flush()
            assert await counted(store) == {"invalid_key": 20 * WAITING, "rate_limited": 1}
            assert await counted(store, "") == {"invalid_key": 20 * WAITING}
            rows = await listed(store)
            assert [row["body"] for row in rows] == [
                b"mine",
                *(b"%d" % number for number in reversed(range(WAITING_A_PIPELINE))),
            ]
            refusals.note(refusal("invalid_key", b"after"))
            await refusals.flush()
            assert (await listed(store))[0]["body"] == b"after"
            assert (await counted(store, ""))["invalid_key"] == 20 * WAITING + 1

    anyio.run(flood)


def test_many_flooded_pipelines_have_one_bound_together(tmp_path: Path) -> None:
    async def flood() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, Clock())
            pipelines = [f"pip_{number}" for number in range(2 * WAITING // WAITING_A_PIPELINE)]
            for pipeline_id in pipelines * (WAITING_A_PIPELINE + 1):
                refusals.note(refusal("rate_limited", pipeline_id=pipeline_id))
            await refusals.flush()
            assert len(await listed(store)) == WAITING
            for pipeline_id in pipelines:
                assert await counted(store, pipeline_id) == {"rate_limited": WAITING_A_PIPELINE + 1}

    anyio.run(flood)


@pytest.mark.parametrize("pipeline_id", [None, "pip_flooded"])
def test_the_newest_of_each_pipeline_stay(tmp_path: Path, pipeline_id: str | None) -> None:
    async def flood() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, Clock())
            await refusals.keep([refusal(body=b"mine", pipeline_id="pip_a")])
            await refusals.keep([refusal(body=b"nobody's")])
            total = KEPT_A_PIPELINE + 2 * WAITING_A_PIPELINE
            for number in range(total):
                refusals.note(refusal("rate_limited", b"%d" % number, pipeline_id=pipeline_id))
                if number % WAITING_A_PIPELINE == WAITING_A_PIPELINE - 1:
                    await refusals.flush()
            rows = await listed(store, pipeline_id=pipeline_id)
            assert [row["body"] for row in rows] == [
                b"%d" % number for number in reversed(range(total - KEPT_A_PIPELINE, total))
            ]
            assert [row["body"] for row in await listed(store, pipeline_id="pip_a")] == [b"mine"]
            assert (await counted(store, pipeline_id or ""))["rate_limited"] == total

    anyio.run(flood)


def test_a_row_is_gone_after_a_day_and_its_count_is_not(tmp_path: Path) -> None:
    clock = Clock()

    def rows(connection: sqlite3.Connection) -> list[bytes]:
        return [row["body"] for row in connection.execute("SELECT body FROM refused_events ORDER BY id")]

    async def wait() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, clock)
            await refusals.keep([refusal(body=b"old")])
            await refusals.keep([refusal(body=b"newer", refused_at_ms=NOW_MS + 1)])
            clock.now_ms = NOW_MS + KEPT_FOR_MS - 1
            await refusals.flush()
            assert await store.read(rows) == [b"old", b"newer"]
            assert len(await listed(store, now_ms=clock.now_ms)) == 2
            clock.now_ms = NOW_MS + KEPT_FOR_MS
            assert [row["body"] for row in await listed(store, now_ms=clock.now_ms)] == [b"newer"]
            clock.now_ms += 60_000
            await refusals.flush()
            assert await store.read(rows) == []
            assert await counted(store) == {"invalid_json": 2}

    anyio.run(wait)


def test_a_refused_event_is_there_after_a_restart(tmp_path: Path) -> None:
    async def before() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, Clock())
            refusals.note(refusal(body=b"kept"))
            await refusals.flush()

    async def after() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            assert [row["body"] for row in await listed(store)] == [b"kept"]
            await Refusals(store, Clock()).keep([refusal()])
            assert await counted(store) == {"invalid_json": 2}

    anyio.run(before)
    anyio.run(after)


# ── A store that takes nothing ───────────────────────────────────────────────────────────────


async def set_room(store: Store, pages: int) -> None:
    """Room for so many more pages of 4 KB: SQLite itself then says that the disk is full."""

    def pragma(connection: sqlite3.Connection) -> None:
        used: int = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {used + pages}").fetchone()

    await store.write(pragma)


async def fill(refusals: Refusals) -> int:
    """Keep until the disk is full: how many were kept."""
    for number in range(1_000):
        try:
            await refusals.keep([refusal(body=b"x" * KEPT_BODY_BYTES)])
        except StorageUnavailable:
            return number
    raise AssertionError("the disk did not fill up")


def test_keeping_says_when_it_cannot_and_then_counts_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, Clock())
            await set_room(store, 20)
            done = await fill(refusals)
            assert done > 0
            assert len(await listed(store)) == done
            assert await counted(store) == {"invalid_json": done}
            with pytest.raises(StorageError):
                await refusals.keep([refusal(body=b"x" * KEPT_BODY_BYTES)])
            await set_room(store, 1_000)
            await refusals.flush()
            assert await counted(store) == {"invalid_json": done}

    anyio.run(run)


def test_the_flush_goes_on_after_a_full_disk_and_counts_all_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        ticks = Ticks()
        async with open_store(tmp_path / "datafly.db") as store, anyio.create_task_group() as tasks:
            refusals = Refusals(store, Clock())
            await set_room(store, 20)
            done = await fill(refusals)
            tasks.start_soon(refusals.run, ticks.sleep)
            for number in range(3):
                for _ in range(WAITING_A_PIPELINE):
                    refusals.note(refusal("rate_limited", b"%d" % number + b"x" * KEPT_BODY_BYTES))
                await ticks.tick()
                assert await counted(store) == {"invalid_json": done}
            await set_room(store, 1_000)
            await ticks.tick()
            assert await counted(store) == {"invalid_json": done, "rate_limited": 3 * WAITING_A_PIPELINE}
            rows = await listed(store, code="rate_limited")
            assert [row["body"][:1] for row in rows] == [b"0"] * WAITING_A_PIPELINE
            refusals.note(refusal("rate_limited", b"after"))
            await ticks.tick()
            assert (await listed(store))[0]["body"] == b"after"
            tasks.cancel_scope.cancel()

    anyio.run(run)


def test_who_waits_no_longer_for_the_flush_counts_nothing_twice(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_store(tmp_path / "datafly.db") as store:
            refusals = Refusals(store, Clock())
            refusals.note(refusal())
            with anyio.CancelScope() as scope:
                scope.cancel()
                await refusals.flush()
            refusals.note(refusal())
            await refusals.flush()
            assert await counted(store) == {"invalid_json": 2}
            assert len(await listed(store)) == 2

    anyio.run(run)


# ── Through the door ─────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("refused") / "data"


@pytest.fixture(scope="module")
def server(data_folder: Path) -> Iterator[Server]:
    with running_server(data_folder) as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(server: Server) -> Pipeline:
    return Management(server.base_url).create_pipeline("Door")


def post(server: Server, body: bytes, key: str, path: str = "/v1/t", **headers: str) -> int:
    own = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "User-Agent": "shop/1"}
    return request(f"{server.base_url}{path}", "POST", body, {**own, **headers}).status


def found(server: Server, query: str) -> list[dict[str, Any]]:
    """Once there is one: the list is written about once a second."""
    management, data = Management(server.base_url), list[dict[str, Any]]()

    def look() -> bool:
        data[:] = management.call("GET", f"refused-events?{query}")["data"]
        return bool(data)

    wait_until(look, f"refused events with {query}")
    return data


def test_a_refused_request_is_found_with_what_it_was(server: Server, pipeline: Pipeline) -> None:
    body = json.dumps(SAID).encode()[:-1]
    headers = {"X-Request-ID": "broken-1", "Origin": "https://shop.example.com", "X-Secret": "header-value"}
    assert post(server, body, pipeline.key, **headers) == 400
    one = found(server, f"pipeline_id={pipeline.id}&code=invalid_json")[0]
    assert (one["body"], one["library"]) == (body.decode(), NODE)
    assert (one["path"], one["dialect"]) == ("/v1/t", "datafly")
    assert (one["user_agent"], one["request_id"]) == ("shop/1", "broken-1")
    assert (one["origin"], one["ip"]) == ("https://shop.example.com", "127.0.0.1")
    assert "header-value" not in json.dumps(one)
    assert pipeline.key not in json.dumps(one)


def test_a_guessed_key_belongs_to_no_pipeline_and_is_not_kept(server: Server) -> None:
    guess = "dk_guess_0123456789"
    assert post(server, b'{"type":"track","event":"Guess"}', guess) == 401
    one = found(server, "pipeline_id=none&code=invalid_key")[0]
    assert (one["pipeline_id"], json.loads(one["body"])["event"]) == (None, "Guess")
    assert guess not in json.dumps(one)


def test_a_refused_event_of_a_batch_is_found_alone(server: Server, pipeline: Pipeline) -> None:
    batch = [{"type": "track", "event": "Good"}, {"type": "track", "event": 7, "mark": "this one"}]
    assert post(server, json.dumps({"batch": batch}).encode(), pipeline.key, "/v1/batch") == 200
    one = found(server, f"pipeline_id={pipeline.id}&code=invalid_payload")[0]
    assert json.loads(one["body"]) == batch[1]


def test_what_was_refused_just_before_the_stop_is_there_after_it(tmp_path: Path) -> None:
    folder, burst = tmp_path / "data", 30
    with running_server(folder) as first:
        for _ in range(burst):
            assert post(first, b"{}", "dk_nobody") == 401
        assert first.terminate() == 0
    with running_server(folder) as second:
        data = Management(second.base_url).call("GET", "refused-events?code=invalid_key&limit=100")["data"]
        counts = Management(second.base_url).call("GET", "refused-events/counts")
    assert len(data) == burst
    assert counts == {"total": burst, "counts": {"invalid_key": burst}}

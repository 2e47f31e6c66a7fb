"""Builds in a real store, and their files over real HTTP."""

from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import brotli
import msgspec
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette

from datafly_lite.collector.build import integrity
from datafly_lite.collector.builder import INTERRUPTED, Build, CollectorBuilder
from datafly_lite.collector.serving import negotiated, routes
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.errors import AdminError
from datafly_lite.keyring import Keyring
from datafly_lite.live import Frame, LiveStream
from datafly_lite.store import Store, builds, pipelines
from kit import Answer, open_store, request

KEYRING = Keyring(bytes(32))
KEY = "dk_builder"
PIPELINE = "pip_1"
NOW_MS = 1_772_029_800_000


def pipeline(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": PIPELINE,
        "name": "Shop",
        "slug": "shop",
        "type": "web",
        "pipeline_key": KEY,
        "secret_ciphertext": KEYRING.encrypt(b"sk_a1b2"),
        "secret_prefix": "sk_a1b2",
        "domain_allowlist": "[]",
        "labels": "[]",
        "rate_limit_rps": 1000,
        "challenge_token_required": False,
        "parameters": "{}",
        "config": "{}",
        "js_builder_config": msgspec.json.encode(config).decode(),
        "identity_config": "{}",
        "enabled": True,
        "created_at_ms": NOW_MS,
        "updated_at_ms": NOW_MS,
    }


class Bench:
    """A store with one pipeline, and a builder on it."""

    base_url = ""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.live = LiveStream()
        self.builder = CollectorBuilder(store, self.live, lambda: NOW_MS)

    async def end(self) -> Build:
        """Do what was started, stop, and give the newest build."""
        self.builder.stop()
        await self.builder.run()
        latest = await self.builder.latest(PIPELINE)
        assert latest is not None
        return latest


@asynccontextmanager
async def bench(path: Path, config: Mapping[str, Any] | None = None) -> AsyncIterator[Bench]:
    async with open_store(path / "datafly.db") as store:
        await store.write(pipelines.insert, pipeline(config or {}))
        yield Bench(store)


@asynccontextmanager
async def served(path: Path, config: Mapping[str, Any] | None = None) -> AsyncIterator[Bench]:
    """The bench behind Hypercorn."""
    async with bench(path, config) as one, anyio.create_task_group() as tasks:
        configuration = LiveConfiguration(one.store, KEYRING)
        await configuration.reload()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()  # who connects before Hypercorn is up waits
            one.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            made = Config()
            made.bind = [f"fd://{listener.detach()}"]
            made.errorlog = None
            stop = anyio.Event()
            app: Any = Starlette(routes=routes(one.store, configuration, one.builder))
            tasks.start_soon(partial(serve, app, made, shutdown_trigger=stop.wait))
            yield one
            stop.set()


# ── Builds ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.anyio
async def test_a_build_goes_from_building_to_ready(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        watcher = one.live.watch()
        build_id = await one.builder.start(PIPELINE, KEY, {})
        under_way = await one.builder.latest(PIPELINE)
        assert under_way == Build(id=build_id, pipeline_id=PIPELINE, status="building", started_at_ms=NOW_MS)
        done = await one.end()
        script = await one.builder.ready(PIPELINE)
        frames, _ = await watcher.next()
    assert script is not None
    assert (done.id, done.status, done.error) == (build_id, "ready", None)
    assert done.integrity == integrity(script.plain)
    assert done.version_hash == script.version_hash
    assert done.file_size_bytes == len(script.plain)
    assert done.gzip_size_bytes == len(script.gzip) == sum(one.gzip_size_bytes for one in done.modules)
    assert done.brotli_size_bytes == len(script.brotli)
    assert KEY.encode() in script.plain
    assert frames == [
        Frame(
            stage="collector_build",
            timestamp="2026-02-25T14:30:00.000Z",
            pipeline_id=PIPELINE,
            data={
                "build_id": build_id,
                "status": "ready",
                "version_hash": script.version_hash,
                "file_size_bytes": len(script.plain),
                "gzip_size_bytes": len(script.gzip),
            },
        )
    ]


@pytest.mark.anyio
async def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        with pytest.raises(AdminError):
            await one.builder.start(PIPELINE, KEY, {"global_variable": "alert(1)//"})
        assert await one.builder.latest(PIPELINE) is None


@pytest.mark.anyio
async def test_a_build_that_cannot_be_made_is_failed_with_its_reason(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        watcher = one.live.watch()
        done = await one.builder.build_now(PIPELINE, KEY, {"spa": "maybe"})
        frames, _ = await watcher.next()
        assert await one.builder.ready(PIPELINE) is None
    assert done is not None
    assert (done.status, done.error) == ("failed", "js_builder_config.spa: must be true or false")
    assert frames[0].data == {"build_id": done.id, "status": "failed", "error": done.error}


@pytest.mark.anyio
async def test_the_newest_ready_build_counts(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        for config in ({}, {"spa": False}, {"auto_page": False}):
            await one.builder.start(PIPELINE, KEY, config)
        done = await one.end()
        await one.builder.build_now(PIPELINE, KEY, {"spa": "maybe"})
        newest = await one.builder.ready(PIPELINE)
        again = await CollectorBuilder(one.store, one.live, lambda: NOW_MS).ready(PIPELINE)
    assert newest == again
    assert newest is not None
    assert newest.version_hash == done.version_hash
    assert "auto_page.js" not in {module.name for module in done.modules}


@pytest.mark.anyio
async def test_a_crash_leaves_no_build_under_way(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.store.write(builds.start, "bld_lost", PIPELINE, NOW_MS - 60_000)
        own = await one.builder.start(PIPELINE, KEY, {})
        done = await one.end()
        lost = await one.store.read(
            lambda connection: connection.execute(
                "SELECT status, error FROM collector_builds WHERE id = 'bld_lost'"
            ).fetchone()
        )
    assert (done.id, done.status) == (own, "ready")
    assert tuple(lost) == ("failed", INTERRUPTED)


@pytest.mark.anyio
async def test_a_cancelled_run_leaves_what_the_next_start_marks(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.builder.start(PIPELINE, KEY, {})
        with anyio.CancelScope() as scope:
            scope.cancel()
            await one.builder.run()
        following = CollectorBuilder(one.store, one.live, lambda: NOW_MS)
        following.stop()
        await following.run()
        latest = await following.latest(PIPELINE)
    assert latest is not None
    assert (latest.status, latest.error) == ("failed", INTERRUPTED)


# ── Files ────────────────────────────────────────────────────────────────────────────────────


async def get(one: Bench, path: str, method: str = "GET", **headers: str) -> Answer:
    """Names of headers with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await anyio.to_thread.run_sync(request, one.base_url + path, method, None, named)


def unpacked(answer: Answer) -> bytes:
    open_ = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}
    content: bytes = open_[answer.headers["Content-Encoding"]](answer.body)
    return content


@pytest.mark.anyio
async def test_the_first_request_builds_and_all_get_the_same(tmp_path: Path) -> None:
    answers: list[Answer] = []
    async with served(tmp_path, {"script_filename": "shop.js"}) as one:

        async def fetch(coding: str) -> None:
            answers.append(await get(one, f"/c/{KEY}/shop.js", Accept_Encoding=coding))

        async with anyio.create_task_group() as tasks:
            for coding in ("identity", "gzip", "gzip, br", "br;q=0"):
                tasks.start_soon(fetch, coding)
        count = await one.store.read(
            lambda connection: connection.execute("SELECT count(*) FROM collector_builds").fetchone()[0]
        )
    assert count == 1
    assert {answer.status for answer in answers} == {200}
    assert len({unpacked(answer) for answer in answers}) == 1
    assert KEY.encode() in unpacked(answers[0])
    codings = sorted(answer.headers["Content-Encoding"] or "" for answer in answers)
    assert codings == ["", "", "br", "gzip"]
    assert len({answer.headers["ETag"] for answer in answers}) == 3


@pytest.mark.anyio
async def test_headers_let_any_page_use_the_script(tmp_path: Path) -> None:
    async with served(tmp_path) as one:
        answer = await get(one, f"/c/{KEY}/d.js", Accept_Encoding="br")
        head = await get(one, f"/c/{KEY}/d.js", "HEAD", Accept_Encoding="br")
        tag = answer.headers["ETag"]
        known = await get(one, f"/c/{KEY}/d.js", Accept_Encoding="br", If_None_Match=f'"x", W/{tag}')
        plain = await get(one, f"/c/{KEY}/d.js", If_None_Match=tag)
    expected = {
        "Content-Type": "application/javascript; charset=utf-8",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Allow-Origin": "*",
        "Vary": "Accept-Encoding",
        "Cache-Control": "public, max-age=300",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.body))
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", tag)
    assert plain.status == 200


@pytest.mark.anyio
async def test_a_hash_names_one_build_for_ever(tmp_path: Path) -> None:
    async with served(tmp_path) as one:
        first = await one.builder.build_now(PIPELINE, KEY, {})
        second = await one.builder.build_now(PIPELINE, KEY, {"spa": False})
        assert first is not None
        assert second is not None
        alias = await get(one, f"/c/{KEY}/d.js")
        old = await get(one, f"/c/{KEY}/{first.version_hash}.js")
    assert integrity(alias.body) == second.integrity
    assert integrity(old.body) == first.integrity
    assert old.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/c/dk_nobody/d.js", "there is no pipeline with this key"),
        (f"/c/{KEY}/other.js", "this pipeline's script has another file name"),
        (f"/c/{KEY}/00000000.js", "this pipeline has no build with this hash"),
        ("/c/%0Aalert(1)/d.js", "there is no pipeline with this key"),
    ],
)
@pytest.mark.anyio
async def test_what_is_not_there_says_why_in_a_comment(tmp_path: Path, path: str, reason: str) -> None:
    async with served(tmp_path) as one:
        answer = await get(one, path)
    assert answer.status == 404
    assert answer.body.startswith(f"// datafly: {reason}".encode())
    assert answer.body.count(b"\n") == 1
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/javascript; charset=utf-8"


@pytest.mark.anyio
async def test_a_failed_build_is_not_tried_at_every_request(tmp_path: Path) -> None:
    async with served(tmp_path, {"spa": "maybe"}) as one:
        answers = [await get(one, f"/c/{KEY}/d.js") for _ in range(2)]
        count = await one.store.read(
            lambda connection: connection.execute("SELECT count(*) FROM collector_builds").fetchone()[0]
        )
    assert [answer.status for answer in answers] == [404, 404]
    assert (
        answers[0].body
        == b"// datafly: this pipeline's collector could not be built: see its collector page\n"
    )
    assert count == 1


@pytest.mark.anyio
async def test_the_default_collector_has_no_key(tmp_path: Path) -> None:
    async with served(tmp_path) as one:
        answers = [await get(one, path) for path in ("/datafly.js", "/d.js")]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert b"dk_" not in answers[0].body


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1.0, br;q=0", "gzip"),
        ("BR ; q=0.5", "br"),
        ("br;q=0.000, identity", ""),
        ("*", ""),
        ("gzip;q=high, ;;, \x00", ""),
    ],
)
def test_the_smallest_form_that_the_client_takes(header: str, coding: str) -> None:
    assert negotiated(header) == coding

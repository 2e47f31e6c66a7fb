"""What tests start and look at: the installed command on a free port, a pipeline, a webhook vendor."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import anyio
from aiohttp import web

from datafly_lite.store import Store

OWNER_EMAIL = "owner@example.com"
OWNER_PASSWORD = "correct horse battery staple"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Look every 20 ms until `condition()` holds; fail with `what` when it never does."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


class Answer(NamedTuple):
    """An HTTP answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


# ── The server ───────────────────────────────────────────────────────────────────────────────


class Server:
    """`datafly-lite serve` as a process of its own."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, output: IO[bytes], up: str = "/readyz"
    ) -> None:
        self._up = up
        self.process = process
        self.port = port
        self.pid = process.pid
        self.base_url = f"http://127.0.0.1:{port}"
        self._output = output

    def output(self) -> str:
        """All that it printed until now."""
        self._output.seek(0)
        return self._output.read().decode("utf-8", "replace")

    def ready(self) -> bool:
        """Whether it is up; fails with the output when the process is gone."""
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.output()}")
        try:
            return request(f"{self.base_url}{self._up}").status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's out-of-memory killer does."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(
                f"SIGTERM did not stop it in {STOP_TIMEOUT_S:g} s:\n{self.output()}"
            ) from None


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without its DATAFLY_* variables, and with `settings`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DATAFLY_")}
    return {**inherited, **settings}


@contextlib.contextmanager
def running_server(
    data_dir: Path,
    *,
    dev: bool = False,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (sys.executable, "-m", "datafly_lite"),
    up: str = "/readyz",
) -> Iterator[Server]:
    """Start the installed command on a free port and wait until `up` answers 200; stop it at the end.

    An exit code other than 0 at the end fails, unless the test killed or stopped it itself.
    """
    port = free_port()
    settings = {
        "DATAFLY_ADMIN_EMAIL": OWNER_EMAIL,
        "DATAFLY_ADMIN_PASSWORD": OWNER_PASSWORD,
        "DATAFLY_TWINS_PORT": str(free_port()) if dev else "0",
        **(env or {}),
    }
    arguments = ["serve", "--data-dir", str(data_dir), "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*command, *arguments, *(["--dev"] if dev else [])],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(settings),
        )
        server = Server(process, port, output, up)
        try:
            wait_until(server.ready, f"{up} answers 200", START_TIMEOUT_S)
            yield server
            if process.poll() is None:
                code = server.terminate()
                assert code == 0, f"exit code {code}:\n{server.output()}"
        except BaseException:
            sys.stderr.write(server.output())
            raise
        finally:
            if process.poll() is None:
                server.kill()


# ── The management API ───────────────────────────────────────────────────────────────────────


class Pipeline(NamedTuple):
    """A pipeline that was made over the management API, and the token of who made it."""

    id: str
    key: str
    token: str


class Management:
    """The management API as the owner sees it."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        credentials = {"email": OWNER_EMAIL, "password": OWNER_PASSWORD}
        self.token = ""
        self.token = self.call("POST", "auth/login", credentials)["access_token"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """`call("POST", "pipelines", {...})` -> the answer's JSON; fails on any status but 2xx."""
        answer = request(
            f"{self._base_url}/v1/admin/{path}",
            method,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        assert answer.status // 100 == 2, f"{method} {path}: {answer.status} {answer.body.decode()}"
        return answer.json() if answer.body else None

    def create_pipeline(self, name: str = "Test", **fields: Any) -> Pipeline:
        """A web pipeline without origins or practical rate limit."""
        made = self.call(
            "POST",
            "pipelines",
            {"name": name, "slug": name.lower(), "type": "web", "rate_limit_rps": 1_000_000, **fields},
        )
        return Pipeline(made["id"], made["pipeline_key"], self.token)

    def attach(self, pipeline_id: str, vendor: str, config: Mapping[str, Any], name: str = "") -> str:
        """A new integration of that vendor, live on the pipeline; the id of the attachment."""
        integration = self.call(
            "POST", "integration-templates", {"name": name or vendor, "vendor": vendor, "config": config}
        )
        attached = self.call(
            "POST", f"pipelines/{pipeline_id}/integrations", {"integration_id": integration["id"]}
        )
        attachment: str = attached["id"]
        return attachment


def create_pipeline(server: Server, name: str = "Test", **fields: Any) -> Pipeline:
    """Log in as the owner and make a pipeline."""
    return Management(server.base_url).create_pipeline(name, **fields)


def send_event(server: Server, key: str, event: Mapping[str, Any], path: str = "/v1/t") -> Answer:
    """One event over HTTP, as curl would send it."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    return request(f"{server.base_url}{path}", "POST", json.dumps(event).encode(), headers)


# ── A vendor ─────────────────────────────────────────────────────────────────────────────────


class Received(NamedTuple):
    """A request that the vendor was sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class VendorAnswer(NamedTuple):
    """What the vendor is to answer next."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    delay_s: float = 0.0


class RecordingVendor:
    """A webhook receiver on loopback that remembers what it was sent.

    `answers` are given one a request, in order; then 200 for ever.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[VendorAnswer] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Remember first, so that an answer never comes before the memory of its request."""
        body = await request.read()
        answer = self.answers.pop(0) if self.answers else VendorAnswer()
        self.received.append(Received(request.path, dict(request.headers), body))
        await asyncio.sleep(answer.delay_s)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    @property
    def message_ids(self) -> list[str]:
        """The messageId of each event received, repeated where it was sent again."""
        bodies = (json.loads(one.body) for one in list(self.received))
        return [event["messageId"] for body in bodies for event in body.get("batch", [body])]


@contextlib.contextmanager
def recording_vendor() -> Iterator[RecordingVendor]:
    """A RecordingVendor that listens in a thread of its own."""
    vendor = RecordingVendor()
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", vendor.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        vendor.url = f"http://{host}:{port}/"
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(10), "the vendor did not start"
    try:
        yield vendor
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


# ── The store, without a server ──────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def open_store(path: Path, **options: Any) -> AsyncIterator[Store]:
    """An open store whose writer runs, as app.py runs it."""
    store = await Store.open(path, **options)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.writer.run)
            yield store
            store.writer.stop()
    finally:
        await store.close()

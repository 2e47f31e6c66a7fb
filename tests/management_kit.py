"""The management API on a free port, over a real store, with a clock that a test can set."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette

from datafly_lite import server
from datafly_lite.auth import Authority, User
from datafly_lite.auth_passwords import HASHER
from datafly_lite.clock import new_id, system_clock
from datafly_lite.collector.builder import CollectorBuilder
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.delivery.preview import Preview
from datafly_lite.events import Arrival, Envelope
from datafly_lite.gateway import event_of, limits
from datafly_lite.keyring import Keyring
from datafly_lite.live import LiveStream
from datafly_lite.log import Log
from datafly_lite.management.routes import routes
from datafly_lite.management.stream import RECHECK_S
from datafly_lite.metrics import Metrics
from datafly_lite.processor.dry_runner import DryRunner
from datafly_lite.processor.explaining import Tracer
from datafly_lite.processor.processor import Processor
from datafly_lite.processor.state import nowhere
from datafly_lite.services import Services
from datafly_lite.settings import Settings
from datafly_lite.store import Store, accounts
from kit import Answer, free_port, open_store, request

PASSWORD = "correct horse battery staple"
PASSWORD_HASH = HASHER.hash(PASSWORD)
ROLES = ("viewer", "editor", "admin", "owner")
SEED = next((Path(__file__).parents[2] / "shared" / "seeds").glob("001_*.txt"))


class SettableClock:
    """The wall clock, set forward or to a fixed time."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self.fixed_ms: int | None = None

    def __call__(self) -> int:
        return system_clock() + self.ahead_ms if self.fixed_ms is None else self.fixed_ms


class Admin:
    """A running management API. `services` belong to the portal's loop: use `run`."""

    def __init__(
        self, base_url: str, services: Services, clock: SettableClock, log: Log, processor: Processor
    ):
        self.base_url = base_url
        self.services = services
        self.clock = clock
        self.woken: list[str] = []
        self.users: dict[str, User] = {}
        self.tokens: dict[str, str] = {}
        self.portal: BlockingPortal
        self.log = log
        self.processor = processor

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call an async function where the server runs."""
        return self.portal.call(function, *args)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        role: str | None = "owner",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request as somebody with this role; None is nobody."""
        all_headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return request(f"{self.base_url}/v1/admin{path}", method, body, {**all_headers, **(headers or {})})

    def call(self, method: str, path: str, body: Any = None, *, role: str | None = "owner") -> Answer:
        """As `send`, with a JSON body."""
        return self.send(method, path, None if body is None else json.dumps(body).encode(), role=role)

    def ok(self, method: str, path: str, body: Any = None, *, role: str = "owner") -> Any:
        """As `call`; the JSON of an answer that must be a success."""
        answer = self.call(method, path, body, role=role)
        assert answer.status // 100 == 2, (method, path, answer.status, answer.body)
        return answer.json() if answer.body else None

    def error(
        self, method: str, path: str, body: Any = None, *, role: str | None = "owner"
    ) -> tuple[int, str]:
        """As `call`; status and code of an answer that must be an error in the one shape."""
        return error_of(self.call(method, path, body, role=role))

    def process(self, pipeline_id: str, *events: Mapping[str, Any]) -> None:
        """Store these bodies as the gateway does, and process them."""
        self.run(self._process, pipeline_id, events)

    async def _process(self, pipeline_id: str, events: Iterable[Mapping[str, Any]]) -> None:
        await self.append(pipeline_id, events)
        while self.processor.position < self.log.end:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.005)

    async def append(self, pipeline_id: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Store these bodies, and go on while they are processed."""
        for body in events:
            envelope = Envelope(
                dialect="datafly",
                type=str(body["type"]),
                message_id=str(body["messageId"]),
                received_at_ms=self.clock(),
                anonymous_id=body.get("anonymousId"),
            )
            raw = json.dumps(body).encode()
            event = event_of(envelope, raw, limits(self.services.settings))
            await self.log.append([Arrival(pipeline_id, envelope, raw, event)])


def error_of(answer: Answer) -> tuple[int, str]:
    """Status and code; fails where the body is not exactly the documented shape."""
    error = answer.json()["error"]
    assert list(answer.json()) == ["error"]
    assert list(error) == ["code", "message", "details", "request_id"]
    assert error["message"]
    assert error["request_id"] == answer.headers["X-Request-ID"]
    return answer.status, error["code"]


@contextlib.contextmanager
def running_admin(
    data_dir: Path, *, users: bool = True, stream_recheck_s: float = RECHECK_S, **settings: Any
) -> Iterator[Admin]:
    """Serve in a thread; with one user for each role, unless the store is to be empty."""
    made = Settings(data_dir=data_dir, **settings)
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(_serving(made, stream_recheck_s)) as admin,
    ):
        admin.portal = portal
        if users:
            portal.call(_add_users, admin)
        yield admin


@contextlib.asynccontextmanager
async def _serving(settings: Settings, recheck_s: float) -> AsyncIterator[Admin]:
    address = f"127.0.0.1:{free_port()}"
    listener = server.Listener(server.config(address, shutdown_timeout_s=0.2))
    stop = anyio.Event()
    settings.data_dir.mkdir(parents=True)
    async with open_store(settings.database) as store, anyio.create_task_group() as tasks:
        admin = await _admin(settings, store, address)
        tasks.start_soon(admin.services.builder.run)
        tasks.start_soon(listener.serve, Starlette(routes=routes(admin.services, recheck_s)), stop.wait)
        try:
            async with anyio.create_task_group() as path:
                path.start_soon(admin.processor.run)
                yield admin
                path.cancel_scope.cancel()
        finally:
            stop.set()
            admin.log.close()
            admin.services.builder.stop()


async def _admin(settings: Settings, store: Store, address: str) -> Admin:
    keyring, clock, live = (
        Keyring.open(settings.data_dir / "secret.key", create=True),
        SettableClock(),
        LiveStream(),
    )
    configuration = LiveConfiguration(store, keyring)
    log = Log(
        store, lambda envelope, raw: event_of(envelope, raw, limits(settings)), tail_events=100, window_days=7
    )
    woken: list[str] = []
    processor = Processor(store, log, configuration, lambda _: None, lambda _: None, live, Metrics(), clock)
    services = Services(
        settings=settings,
        store=store,
        keyring=keyring,
        clock=clock,
        configuration=configuration,
        authority=Authority(store, settings, clock),
        builder=CollectorBuilder(store, live, clock),
        live=live,
        trace=Tracer(store, configuration, log.record).trace,
        dry_run=DryRunner(store, configuration, log.record, Preview, nowhere).run,
        alone=processor.alone,
        wake_delivery=woken.extend,
        readiness=_nothing_to_say,
    )
    admin = Admin(f"http://{address}", services, clock, log, processor)
    admin.woken = woken
    await configuration.reload()
    return admin


async def _nothing_to_say() -> list[dict[str, Any]]:
    return []


async def _add_users(admin: Admin) -> None:
    for role in ROLES:
        fields = {
            "id": new_id("usr"),
            "email": f"{role}@example.com",
            "name": role,
            "password_hash": PASSWORD_HASH,
            "role": role,
            "now_ms": admin.clock(),
        }
        await admin.services.store.write(accounts.insert_user, fields)
        user = await admin.services.authority.login(f"{role}@example.com", PASSWORD, "127.0.0.1")
        admin.users[role] = user
        admin.tokens[role] = (await admin.services.authority.issue_tokens(user))["access_token"]


# ── Seed 001, read from its own text ─────────────────────────────────────────────────────────


def seed_json(heading: str, label: str) -> Any:
    """The JSON that the seed prints under a heading, after `Request` or `Response`."""
    text = SEED.read_text(encoding="utf-8")
    section = text[text.index(f"\n{heading}\n\n") :]
    after = section[section.index(label) :]
    return json.JSONDecoder().raw_decode(after[after.index("{\n") :])[0]


def seed_curls() -> list[tuple[str, str, dict[str, str]]]:
    """(method, URL, headers) of each curl command that the seed prints."""
    text = SEED.read_text(encoding="utf-8")
    commands = re.findall(r"^curl (?:.*\\\n)*.*", text, re.MULTILINE)
    return [_curl(shlex.split(command.replace("\\\n", " "))) for command in commands]


def _curl(words: list[str]) -> tuple[str, str, dict[str, str]]:
    url = next(word for word in words if word.startswith("http"))
    lines = [words[index + 1] for index, word in enumerate(words) if word == "-H"]
    return words[words.index("-X") + 1], url, dict(line.split(": ", 1) for line in lines)


def to_json(value: Any) -> Any:
    """As a client would see it."""
    return msgspec.json.decode(msgspec.json.encode(value))

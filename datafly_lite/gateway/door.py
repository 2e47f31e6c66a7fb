"""The public door: authenticate, decode, append, answer after the commit. Raw ASGI, as each call counts.

A request ends here: nothing behind the door knows headers or bodies.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

import msgspec
import uuid_utils

from datafly_lite.clock import Clock, iso, new_id
from datafly_lite.configuration import LiveConfiguration, Pipeline
from datafly_lite.errors import Refused, StorageBusy, StorageError, StorageUnavailable
from datafly_lite.events import Arrival, Envelope
from datafly_lite.gateway import DIALECTS, bodies, callers, limits, origins
from datafly_lite.gateway.callers import Caller, Headers
from datafly_lite.gateway.challenges import Challenges
from datafly_lite.gateway.dialect import Dialect, Item, Reading
from datafly_lite.gateway.rates import RateLimit
from datafly_lite.live import Frame, LiveStream
from datafly_lite.metrics import Metrics
from datafly_lite.settings import Settings, networks
from datafly_lite.store.raw_events import Appended

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Append = Callable[[Sequence[Arrival]], Awaitable[list[Appended]]]
"""The log's: done after commit and fsync, raises StorageError."""
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SUCCESS = b'{"success": true}'
DEDUPLICATED = b'{"success": true, "deduplicated": true}'
BROKEN_RETRY_S = 30
"""After an I/O error the process ends and its supervisor starts it again."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
ROUTES: dict[str, tuple[Dialect, str | None]] = {
    path: (dialect, kind) for dialect in DIALECTS for path, kind in dialect.paths.items()
}


def is_collection(path: str) -> bool:
    """Whether the door answers this path, be it with a 404 in the shape that SDKs read."""
    return path in ROUTES or (
        path.lstrip("/").startswith("v1/") and not path.lstrip("/").startswith("v1/admin")
    )


def route(path: str) -> tuple[Dialect, str | None] | None:
    """The dialect and event type of a path, also with a trailing slash and a doubled leading one."""
    found = ROUTES.get(path)
    if found is None:
        found = ROUTES.get("/" + path.strip("/"))
    return found


class Answer(NamedTuple):
    """What goes back to the client."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]]


class Admitted(NamedTuple):
    """A request that passed the door's checks, and what it is answered with."""

    pipeline: Pipeline
    dialect: Dialect
    kind: str | None
    caller: Caller
    request_id: str | None
    received_at_ms: int
    visitor: str
    sets_cookie: bool


class Door:
    """The ASGI application of the collection paths."""

    def __init__(
        self,
        settings: Settings,
        configuration: LiveConfiguration,
        append: Append,
        challenges: Challenges,
        rates: RateLimit,
        live: LiveStream,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._append = append
        self._challenges = challenges
        self._rates = rates
        self._live = live
        self._metrics = metrics
        self._clock = clock
        self._limits = limits(settings)
        self._trusted = networks(settings.trusted_proxies, setting="trusted_proxies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Every refusal has the shape that real SDKs read (api.md, section 1)."""
        headers: Headers = dict(scope["headers"])
        origin = callers.header(headers, b"origin")
        if scope["method"] == "OPTIONS":
            answer = Answer(
                204, b"", origins.preflight(origin, headers.get(b"access-control-request-headers"))
            )
        else:
            answer = await self._answer(scope, headers, receive, origin)
        # Without a length h11 turns to chunks, and checks every header a second time for that.
        answer.headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, origin: str | None) -> Answer:
        request_id = _given_request_id(headers)
        try:
            answer = await self._collect(scope, headers, receive, request_id)
        except Refused as refused:
            request_id = request_id or uuid_utils.uuid7().hex
            answer = self._refusal(refused, origin)
        except StorageError as error:
            code = "overloaded" if isinstance(error, StorageBusy) else "storage_unavailable"
            wait_s = error.retry_after_s if isinstance(error, StorageUnavailable) else BROKEN_RETRY_S
            answer = self._refusal(Refused(code, str(error), retry_after_s=wait_s), origin)
        if request_id:
            answer.headers.append((b"x-request-id", request_id.encode("latin-1")))
        return answer

    async def _collect(
        self, scope: Scope, headers: Headers, receive: Receive, request_id: str | None
    ) -> Answer:
        found = route(scope["path"])
        if found is None:
            raise Refused("not_found", "nothing is collected at this path")
        if scope["method"] != "POST":
            raise Refused("method_not_allowed", f"{scope['path']} takes POST")
        dialect, kind = found
        body = await self._body(headers, receive, is_batch=kind is None)
        pipeline, reading = self._open(dialect, kind, body, headers, scope["query_string"])
        caller = callers.caller(scope, headers, self._trusted)
        self._check(pipeline, caller)
        reading = reading or dialect.read(body, kind, self._limits)
        self._check_shared(reading)
        if not self._rates.admit(pipeline.id, pipeline.rate_limit_rps, max(1, len(reading.items))):
            raise Refused(
                "rate_limited", f"more than {pipeline.rate_limit_rps} events a second", retry_after_s=1
            )
        if pipeline.challenge_token_required:
            await self._challenges.check(pipeline.id, callers.header(headers, b"x-challenge-token"))
        admitted = self._admit(pipeline, dialect, kind, caller, request_id, reading)
        return await self._store(admitted, reading, headers)

    async def _body(self, headers: Headers, receive: Receive, *, is_batch: bool) -> bytes:
        limit_bytes = self._limits.max_batch_body_size_bytes if is_batch else self._limits.max_body_size_bytes
        length = headers.get(b"content-length", b"")
        declared = int(length) if length.isdigit() else None
        if declared is not None and declared > limit_bytes:
            raise bodies.too_large(limit_bytes)
        body = await _read(receive, declared, limit_bytes, self._settings.body_timeout_s)
        if len(body) > limit_bytes:
            raise bodies.too_large(limit_bytes)
        return bodies.inflate(body, limit_bytes)

    def _open(
        self, dialect: Dialect, kind: str | None, body: bytes, headers: Headers, query: bytes
    ) -> tuple[Pipeline, Reading | None]:
        """The pipeline by the first key that is known; the body is read early only when its key is needed."""
        by_key = self._configuration.current.by_key
        for key in callers.keys(headers, query):
            if key in by_key:
                return by_key[key], None
        reading = dialect.read(body, kind, self._limits)
        if reading.write_key in by_key:
            return by_key[reading.write_key], reading
        raise Refused(
            "invalid_key", "the pipeline key is missing, unknown or revoked: send Authorization: Bearer dk_…"
        )

    def _check(self, pipeline: Pipeline, caller: Caller) -> None:
        if not pipeline.enabled:
            raise Refused("pipeline_disabled", "this pipeline is disabled")
        if not origins.is_allowed(pipeline, caller.origin, dev=self._settings.dev):
            raise Refused(
                "origin_not_allowed", f"{caller.origin} is not among this pipeline's allowed domains"
            )

    def _check_shared(self, reading: Reading) -> None:
        """It is kept with each event, so a few bytes on the wire must not become gigabytes in the store."""
        size_bytes, events = reading.shared_size_bytes, len(reading.items)
        if size_bytes * events > self._limits.max_batch_body_size_bytes:
            raise Refused(
                "batch_too_large", f"{size_bytes:,} bytes that {events:,} events share are too many together"
            )

    def _admit(
        self,
        pipeline: Pipeline,
        dialect: Dialect,
        kind: str | None,
        caller: Caller,
        request_id: str | None,
        reading: Reading,
    ) -> Admitted:
        """Decide who the visitor is: a browser's cookie wins, a server's own anonymousId does.

        SDKs on servers keep cookies too, and would make all their users one visitor: they get none.
        """
        is_browser = caller.origin is not None
        given = next((item.anonymous_id for item in reading.items if isinstance(item, Item)), None)
        first, second = (caller.visitor, given) if is_browser else (given, caller.visitor)
        visitor = first or second or str(uuid_utils.uuid4())
        takes_cookie = is_browser or not (reading.is_batch or caller.is_basic)
        return Admitted(
            pipeline=pipeline,
            dialect=dialect,
            kind=kind,
            caller=caller,
            request_id=request_id,
            received_at_ms=self._clock(),
            visitor=visitor,
            sets_cookie=takes_cookie and not caller.visitor and callers.UUID4.fullmatch(visitor) is not None,
        )

    async def _store(self, admitted: Admitted, reading: Reading, headers: Headers) -> Answer:
        arrivals: list[Arrival] = []
        refusals: list[dict[str, Any]] = []
        for index, item in enumerate(reading.items):
            try:
                arrivals.append(self._arrival(admitted, reading, item))
            except Refused as refused:
                if not reading.is_batch:
                    raise
                self._count_refusal(refused)
                refusals.append({"index": index, "code": refused.code, "message": refused.message})
        duplicates = 0
        if arrivals:
            appended = await self._append(arrivals)
            duplicates = sum(one.duplicate for one in appended)
        self._metrics.received(admitted.pipeline.id, len(arrivals), duplicates)
        if self._live.watchers:
            self._publish(admitted, arrivals)
        return self._success(admitted, reading, len(arrivals), duplicates, refusals, headers)

    def _arrival(self, admitted: Admitted, reading: Reading, item: Item | Refused) -> Arrival:
        if isinstance(item, Refused):
            raise item
        size_bytes, limit_bytes = len(item.raw) + reading.shared_size_bytes, self._limits.max_event_size_bytes
        if size_bytes > limit_bytes:
            raise Refused("event_too_large", f"the event has {size_bytes:,} bytes, {limit_bytes:,} are taken")
        caller = admitted.caller
        envelope = Envelope(
            dialect=admitted.dialect.name,
            message_id=item.message_id or new_id("msg"),
            received_at_ms=admitted.received_at_ms,
            type=admitted.kind,
            anonymous_id=_anonymous_id(admitted, reading, item),
            ip=caller.ip,
            user_agent=caller.user_agent,
            origin=caller.origin,
            request_id=admitted.request_id,
            sent_at=reading.sent_at,
            repaired=item.repaired,
            shared=reading.shared,
        )
        return Arrival(
            admitted.pipeline.id, envelope, item.raw, admitted.dialect.normalise(envelope, item.wire)
        )

    def _success(
        self,
        admitted: Admitted,
        reading: Reading,
        accepted: int,
        duplicates: int,
        refusals: list[dict[str, Any]],
        headers: Headers,
    ) -> Answer:
        if not reading.is_batch:
            body = DEDUPLICATED if duplicates else SUCCESS
        else:
            counts = {"deduplicated": duplicates} if duplicates else {}
            failed = {"rejected": len(refusals), "errors": refusals} if refusals else {}
            body = msgspec.json.encode({"success": True, "accepted": accepted, **counts, **failed})
        answer = Answer(200, body, [*origins.headers(admitted.caller.origin)])
        if admitted.sets_cookie:
            cookie = callers.visitor_cookie(
                admitted.visitor,
                domain=admitted.pipeline.cookie_domain or self._settings.cookie_domain,
                scheme=admitted.caller.scheme,
                host=callers.header(headers, b"host") or "",
            )
            answer.headers.append((b"set-cookie", cookie))
        return answer

    def _refusal(self, refused: Refused, origin: str | None) -> Answer:
        self._count_refusal(refused)
        body = msgspec.json.encode({"success": False, "code": refused.code, "message": refused.message})
        answer = Answer(
            refused.status, body, [*origins.headers(None if refused.code == "origin_not_allowed" else origin)]
        )
        if refused.retry_after_s is not None:
            answer.headers.append((b"retry-after", str(refused.retry_after_s).encode()))
        if refused.status == 405:
            answer.headers.append((b"allow", b"POST, OPTIONS"))
        return answer

    def _count_refusal(self, refused: Refused) -> None:
        self._metrics.refused(refused.code)
        if self._live.watchers:
            data = {"code": refused.code, "message": refused.message}
            self._live.publish(Frame(stage="refused", timestamp=iso(self._clock()), data=data))

    def _publish(self, admitted: Admitted, arrivals: list[Arrival]) -> None:
        for arrival in arrivals:
            event = arrival.event
            self._live.publish(
                Frame(
                    stage="received",
                    timestamp=event.received_at,
                    pipeline_id=admitted.pipeline.id,
                    message_id=event.message_id,
                    data=msgspec.to_builtins(event),
                )
            )


def _anonymous_id(admitted: Admitted, reading: Reading, item: Item) -> str | None:
    caller = admitted.caller
    if caller.origin is not None:
        return caller.visitor or item.anonymous_id or admitted.visitor
    return item.anonymous_id or (None if reading.is_batch else admitted.visitor)


async def _read(receive: Receive, declared: int | None, limit_bytes: int, timeout_s: float) -> bytes:
    """The body, read no further than the limit and no longer than the deadline."""
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused("invalid_json", "the connection was closed before the body's end")
                chunks.append(message.get("body", b""))
                size_bytes += len(chunks[-1])
                # Hypercorn says only with a further, empty message that the body is whole.
                if size_bytes == declared or size_bytes > limit_bytes or not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError:
        raise Refused("request_timeout", f"the body did not arrive within {timeout_s:g} s") from None


def _given_request_id(headers: Headers) -> str | None:
    given = headers.get(b"x-request-id")
    return given.decode("latin-1") if given is not None and REQUEST_ID.fullmatch(given) else None

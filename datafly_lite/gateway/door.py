"""The public door: authenticate, decode, append, answer after the commit. Raw ASGI, as each call counts.

A request ends here: nothing behind the door knows headers or bodies.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

import msgspec
import uuid_utils

from datafly_lite.clock import Clock, iso
from datafly_lite.configuration import LiveConfiguration, Pipeline
from datafly_lite.errors import Refused, StorageBusy, StorageError, StorageUnavailable
from datafly_lite.events import Arrival
from datafly_lite.gateway import (
    DIALECTS,
    answers,
    bodies,
    callers,
    cookies,
    limits,
    origins,
    recognising,
    signatures,
    visitors,
)
from datafly_lite.gateway.answers import Answer, Stored
from datafly_lite.gateway.callers import Headers
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.challenges import Challenges
from datafly_lite.gateway.dialect import Dialect, Limits, Reading
from datafly_lite.gateway.entries import Entry
from datafly_lite.gateway.handovers import Handovers
from datafly_lite.gateway.preparing import MAX_BODY_SIZE_BYTES, SYNC_PATH, Preparation, Preparations
from datafly_lite.gateway.rates import RateLimit
from datafly_lite.gateway.recognising import Recognition
from datafly_lite.gateway.refusals import Refusals
from datafly_lite.live import Frame, LiveStream
from datafly_lite.metrics import Metrics
from datafly_lite.settings import Settings, networks
from datafly_lite.store.raw_events import Appended

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Append = Callable[[Sequence[Arrival]], Awaitable[list[Appended]]]
"""The log's: done after commit and fsync, raises StorageError."""
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BROKEN_RETRY_S = 30
"""After an I/O error the process ends and its supervisor starts it again."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
ROUTES: dict[str, dict[str, tuple[Dialect, str | None]]] = {}
"""Path -> method -> dialect and kind of body."""
for _dialect in DIALECTS:
    for _path, _kind in _dialect.paths.items():
        ROUTES.setdefault(_path, {})[_dialect.method] = (_dialect, _kind)

NOT_LISTED = frozenset({"not_found", "method_not_allowed", "storage_unavailable", "overloaded"})
"""Refusals that no event can be found in, or that cannot be written down."""


def is_collection(path: str) -> bool:
    """Whether the door answers this path, be it with a 404 in the shape that SDKs read."""
    if path in ROUTES:
        return True
    known = "/" + path.strip("/")
    return (
        known in ROUTES
        or known == SYNC_PATH
        or (known.startswith("/v1/") and not known.startswith("/v1/admin"))
    )


def route(path: str) -> dict[str, tuple[Dialect, str | None]] | None:
    """The methods of a path, also with a trailing slash and a doubled leading one."""
    return ROUTES.get(path) or ROUTES.get("/" + path.strip("/"))


class Door:
    """The ASGI application of the collection paths."""

    def __init__(
        self,
        settings: Settings,
        configuration: LiveConfiguration,
        append: Append,
        challenges: Challenges,
        handovers: Handovers,
        recognition: Recognition,
        rates: RateLimit,
        refusals: Refusals,
        live: LiveStream,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._append = append
        self._challenges = challenges
        self._recognition = recognition
        self._rates = rates
        self._refusals = refusals
        self._live = live
        self._metrics = metrics
        self._clock = clock
        self._limits = {dialect.name: dialect.limits(limits(settings)) for dialect in DIALECTS}
        self._preparations = Preparations(settings, configuration, challenges, handovers, rates)
        self._trusted = networks(settings.trusted_proxies, setting="trusted_proxies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Every refusal has the shape that real SDKs read (api.md, section 1)."""
        headers: Headers = dict(scope["headers"])
        if scope["method"] == "OPTIONS":
            origin = callers.header(headers, b"origin")
            asked = headers.get(b"access-control-request-headers")
            answer = Answer(204, b"", origins.preflight(origin, asked))
        else:
            answer = await self._answer(self._call(scope, headers), receive)
        # Without a length h11 turns to chunks, and checks every header a second time for that.
        answer.headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _call(self, scope: Scope, headers: Headers) -> Call:
        return Call(
            path=scope["path"],
            method=scope["method"],
            headers=headers,
            raw_headers=scope["headers"],
            query=scope["query_string"],
            caller=callers.caller(scope, headers, self._trusted),
            request_id=_given_request_id(headers),
        )

    async def _answer(self, call: Call, receive: Receive) -> Answer:
        try:
            answer = await self._attend(call, receive)
        except Refused as refused:
            answer = await self._refusal(call, refused)
        except StorageError as error:
            answer = await self._refusal(call, _unavailable(error))
        if call.request_id:
            answer.headers.append((b"x-request-id", call.request_id.encode("latin-1")))
        return answer

    def _attend(self, call: Call, receive: Receive) -> Awaitable[Answer]:
        methods = route(call.path)
        if methods is not None:
            _check_method(call, methods)
            call.dialect, call.kind = methods[call.method]
            return self._collect(call, call.dialect, receive)
        preparation = self._preparations.find(call.path)
        if preparation is None:
            raise Refused("not_found", "nothing is collected at this path")
        _check_method(call, preparation.methods)
        return self._prepare(call, preparation, receive)

    async def _prepare(self, call: Call, preparation: Preparation, receive: Receive) -> Answer:
        if call.method == "POST":
            limit_bytes = MAX_BODY_SIZE_BYTES
            body = await bodies.receive(call.headers, receive, limit_bytes, self._settings.body_timeout_s)
            call.body = bodies.inflate(body, limit_bytes)
        return await preparation.answer(call)

    async def _collect(self, call: Call, dialect: Dialect, receive: Receive) -> Answer:
        within = self._limits[dialect.name]
        await self._take_body(call, dialect, receive, within)
        pipeline, reading = self._authenticate(call, dialect, within)
        call.pipeline = pipeline
        origins.check(pipeline, call.caller.origin, dev=self._settings.dev)
        if call.is_signed:
            self._check_signature(call, pipeline)
        reading = reading or dialect.read(call.request(within))
        self._check_shared(reading, within)
        if pipeline.challenge_token_required and not call.is_signed:
            await self._check_challenge(call, pipeline, reading)
        self._admit(call, len(reading.items))
        return await self._store(call, dialect, pipeline, reading, within)

    async def _take_body(self, call: Call, dialect: Dialect, receive: Receive, within: Limits) -> None:
        if dialect.method == "GET":
            call.body = call.query
            limit_bytes = within.max_event_size_bytes
        else:
            limit_bytes = within.max_batch_body_size_bytes if call.is_batch else within.max_body_size_bytes
            call.wire_body = await bodies.receive(
                call.headers, receive, limit_bytes, self._settings.body_timeout_s
            )
            call.body = bodies.inflate(call.wire_body, limit_bytes)
        if len(call.body) > limit_bytes:
            raise bodies.too_large(limit_bytes)

    def _authenticate(self, call: Call, dialect: Dialect, within: Limits) -> tuple[Pipeline, Reading | None]:
        """The pipeline by the first key that is known; the body is read early only when its key is needed."""
        if dialect.authentication == "source":
            return self._by_source(call), None
        has_signature = b"x-signature" in call.headers and call.method == "POST"
        call.is_signed = has_signature or dialect.authentication == "signature"
        by_key = self._configuration.current.by_key
        for key in callers.keys(call.headers, call.query):
            if key in by_key:
                return by_key[key], None
        if any(key in by_key for key in callers.keys_within(call.body)):
            reading = dialect.read(call.request(within))
            if reading.write_key in by_key:
                return by_key[reading.write_key], reading
        raise Refused(
            "invalid_key", "the pipeline key is missing, unknown or revoked: send Authorization: Bearer dk_…"
        )

    def _by_source(self, call: Call) -> Pipeline:
        configuration = self._configuration.current
        asked = next((value for name, value in callers.parameters(call.query) if name == "source"), "")
        source = configuration.webhook_sources.get(asked)
        call.pipeline = configuration.by_id.get(source.pipeline_id) if source else None
        if source is None or call.pipeline is None:
            raise Refused("invalid_key", "the webhook source is missing or unknown: ?source=wh_…")
        call.source, call.is_signed = source, True
        if not source.enabled:
            raise Refused("pipeline_disabled", "this webhook source is switched off")
        return call.pipeline

    def _check_signature(self, call: Call, pipeline: Pipeline) -> None:
        if call.source is None:
            signatures.verify_datafly(pipeline.secret, call.raw_headers, call.wire_body, self._clock())
            return
        query = f"?{call.query.decode('latin-1')}" if call.query else ""
        origin = self._settings.public_url.rstrip("/") or f"{call.caller.scheme}://{call.caller.host}"
        signatures.verify_source(
            call.source,
            call.raw_headers,
            call.wire_body,
            method=call.method,
            uri=f"{origin}{call.path}{query}",
            now_ms=self._clock(),
        )

    def _check_shared(self, reading: Reading, within: Limits) -> None:
        """It is kept with each event, so a few bytes on the wire must not become gigabytes in the store."""
        size_bytes, events = reading.shared_size_bytes, len(reading.items)
        if size_bytes * events > within.max_batch_body_size_bytes:
            raise Refused(
                "batch_too_large", f"{size_bytes:,} bytes that {events:,} events share are too many together"
            )

    def _admit(self, call: Call, events: int) -> None:
        """Count the request's events against the pipeline's limit, once."""
        pipeline = call.pipeline
        if pipeline is None or call.is_admitted:
            return
        self._rates.admit(pipeline.id, pipeline.rate_limit_rps, max(1, events))
        call.is_admitted = True

    async def _check_challenge(self, call: Call, pipeline: Pipeline, reading: Reading) -> None:
        """Before the events are counted: who has no token must not use up the rate of those who have."""
        token = callers.header(call.headers, b"x-challenge-token") or reading.challenge_token
        if not self._challenges.knows(pipeline.id, token):
            self._rates.admit(f"{pipeline.id} challenges", pipeline.rate_limit_rps)
        await self._challenges.check(pipeline.id, token)

    async def _store(
        self, call: Call, dialect: Dialect, pipeline: Pipeline, reading: Reading, within: Limits
    ) -> Answer:
        visitor = visitors.visitor_of(call, dialect, reading)
        entry = Entry.of(call, dialect, pipeline, reading, visitor, self._clock(), within)
        arrivals, refusals = entry.taken()
        if arrivals and recognising.is_asked(entry):
            entry = await self._recognition.known(entry, arrivals)
            arrivals, refusals = entry.taken()
        duplicates = 0
        if arrivals:
            appended = await self._append(arrivals)
            duplicates = sum(one.duplicate for one in appended)
        self._metrics.received(pipeline.id, len(arrivals), duplicates)
        if self._live.watchers:
            self._publish(pipeline, arrivals)
        await self._list_refused(call, dialect, refusals)  # not before: what was not stored comes again
        told = [_told(why, index) for index, why, _ in refusals]
        return self._success(entry.answered(duplicates), Stored(len(arrivals), duplicates, told))

    async def _list_refused(
        self, call: Call, dialect: Dialect, refusals: list[tuple[int, Refused, bytes]]
    ) -> None:
        """Of a batch. Where nobody reads what the answer says of them, they are committed before it."""
        is_committed = dialect.is_lenient or call.source is not None
        if is_committed:
            now_ms = self._clock()
            await self._refusals.keep([call.refusal(why, body, now_ms) for _, why, body in refusals])
        for _, why, body in refusals:
            if is_committed:
                self._tell_of(call, why)
            else:
                self._note(call, why, body)

    def _success(self, entry: Entry, stored: Stored) -> Answer:
        caller = entry.call.caller
        if entry.dialect.method == "GET":
            answer = answers.image(caller.origin)
        else:
            answer = answers.success(stored, caller.origin, is_counted=entry.is_counted)
        if entry.to_set:
            domain = entry.pipeline.cookie_domain or self._settings.cookie_domain
            answer.headers.extend((b"set-cookie", cookies.line(one, caller, domain)) for one in entry.to_set)
        return answer

    async def _refusal(self, call: Call, refused: Refused) -> Answer:
        call.request_id = call.request_id or uuid_utils.uuid7().hex
        refused, dialect = bodies.explained(refused, call.headers), call.dialect
        if dialect is not None and dialect.is_lenient:
            if refused.code == "invalid_payload" and call.pipeline is not None:
                return await self._lenient_answer(call, dialect, refused)
            refused = _as_commanders_act_has_it(call, refused)
        self._note(call, refused, call.body or call.wire_body)
        return answers.refusal(refused, call.caller.origin, self._methods(call.path))

    def _methods(self, path: str) -> list[str]:
        preparation = self._preparations.find(path)
        return [*(route(path) or (preparation.methods if preparation else ())), "OPTIONS"]

    async def _lenient_answer(self, call: Call, dialect: Dialect, refused: Refused) -> Answer:
        """200 for an event that cannot be used: so what it was is committed first."""
        try:
            self._admit(call, 1)
            await self._refusals.keep([call.refusal(refused, call.body, self._clock())])
        except StorageError as error:
            return answers.refusal(_unavailable(error), call.caller.origin)
        except Refused as limited:
            return await self._refusal(call, limited)
        self._tell_of(call, refused)
        if dialect.method == "GET":
            return answers.image(call.caller.origin)
        stored = Stored(0, 0, [_told(refused, 0)])
        return answers.success(stored, call.caller.origin, is_counted=True)

    def _note(self, call: Call, refused: Refused, body: bytes) -> None:
        if refused.code not in NOT_LISTED:
            self._refusals.note(call.refusal(refused, body, self._clock()))
        self._tell_of(call, refused)

    def _tell_of(self, call: Call, refused: Refused) -> None:
        self._metrics.refused(refused.code)
        if self._live.watchers:
            self._live.publish(
                Frame(
                    stage="refused",
                    timestamp=iso(self._clock()),
                    pipeline_id=call.pipeline.id if call.pipeline else None,
                    data={"code": refused.code, "message": refused.message},
                )
            )

    def _publish(self, pipeline: Pipeline, arrivals: list[Arrival]) -> None:
        for arrival in arrivals:
            event = arrival.event
            self._live.publish(
                Frame(
                    stage="received",
                    timestamp=event.received_at,
                    pipeline_id=pipeline.id,
                    message_id=event.message_id,
                    data=msgspec.to_builtins(event),
                )
            )


def _check_method(call: Call, methods: Iterable[str]) -> None:
    if call.method not in methods:
        raise Refused("method_not_allowed", f"{call.path} takes {' and '.join(methods)}")


def _told(refused: Refused, index: int) -> dict[str, Any]:
    return {"index": index, "code": refused.code, "message": refused.message}


def _unavailable(error: StorageError) -> Refused:
    code = "overloaded" if isinstance(error, StorageBusy) else "storage_unavailable"
    wait_s = error.retry_after_s if isinstance(error, StorageUnavailable) else BROKEN_RETRY_S
    return Refused(code, str(error), retry_after_s=wait_s)


def _as_commanders_act_has_it(call: Call, refused: Refused) -> Refused:
    """Too large is a 400 there (seed 003)."""
    if refused.code != "body_too_large":
        return refused
    return Refused("batch_too_large" if call.is_batch else "event_too_large", refused.message)


def _given_request_id(headers: Headers) -> str | None:
    given = headers.get(b"x-request-id")
    return given.decode("latin-1") if given is not None and REQUEST_ID.fullmatch(given) else None

"""One attempt: map, send, read the answer, decide what follows. It keeps nothing between two of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec
import structlog

from datafly_lite import consent
from datafly_lite.clock import Clock, iso, ms_of
from datafly_lite.configuration import Attachment
from datafly_lite.delivery.redaction import Redaction
from datafly_lite.delivery.sender import Sender
from datafly_lite.engine import Draft, Moment
from datafly_lite.errors import (
    AddressRefused,
    MappingError,
    ScriptEngineUnavailable,
    StepFailed,
    VendorUnreachable,
)
from datafly_lite.events import DeliveryStatus, DropReason, Event, Outcome, Verdict, decode_event
from datafly_lite.live import Frame, LiveStream, Stage
from datafly_lite.retry import DeadReason, Decision, RetryPolicy, decide
from datafly_lite.settings import Settings
from datafly_lite.store.deliveries import Attempted, Due
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.checking import check_filled
from datafly_lite.vendors.declaration import (
    Answer,
    Outgoing,
    Request,
    Vendor,
    outcome_of_status,
    with_defaults,
)

SHADOW = "shadow"
"""A mode, and the verdict of the attempts made in it."""

NOTHING_TO_SEND = "the vendor has no word for such an event, or a step of the integration dropped it"
ENGINE_WAIT_MS = 5_000
"""Until an event whose script cannot be run now is tried again: that is no attempt, and costs it none."""

NO_REQUEST = {"method": "", "url": "", "headers": {}, "body": ""}
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

decode_state = msgspec.json.Decoder(consent.State).decode

log = structlog.get_logger(__name__)


class Result(NamedTuple):
    """`outcome` is None where the vendor was not asked."""

    attempted: Attempted
    outcome: Outcome | None


class Attempts:
    """Makes attempts for all integrations. `chance` draws from 0 up to 1."""

    def __init__(
        self, sender: Sender, live: LiveStream, settings: Settings, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._sender = sender
        self._live = live
        self._settings = settings
        self._clock = clock
        self._chance = chance

    async def make(self, due: Due, attachment: Attachment, redaction: Redaction) -> Result:
        """Deliver one event. Whatever goes wrong is in the result: a poisonous event stops no other."""
        at_ms = self._clock()
        try:
            if refused := _refused(due, attachment):
                return Result(_dropped(due, DropReason.CONSENT, at_ms, ", ".join(refused)), None)
            request = await self._request(due, attachment, at_ms)
            if request is None:
                return Result(_dropped(due, DropReason.FILTER, at_ms, NOTHING_TO_SEND), None)
            if attachment.mode == SHADOW:
                return Result(self._shadowed(due, attachment, redaction, request, at_ms), None)
            return await self._send(due, attachment, redaction, request, at_ms)
        except ScriptEngineUnavailable as error:
            log.warning("a delivery waits for its script", attachment=attachment.id, error=str(error))
            return Result(_waiting(due, at_ms, str(error)), None)
        except MappingError as error:
            return self._unmappable(due, attachment, redaction.text(str(error)), at_ms)
        except Exception as error:
            log.exception("delivery failed on an event", attachment=attachment.id, delivery=due.id)
            return self._unmappable(due, attachment, type(error).__name__, at_ms)

    async def _request(self, due: Due, attachment: Attachment, at_ms: int) -> Request | None:
        """Off the event loop where it may take as long as a script may."""
        event = decode_event(due.body)
        if attachment.engine is not None and attachment.engine.has_scripts:
            return await anyio.to_thread.run_sync(request_for, event, attachment, at_ms)
        return request_for(event, attachment, at_ms)

    async def _send(
        self, due: Due, attachment: Attachment, redaction: Redaction, request: Request, at_ms: int
    ) -> Result:
        shown = redaction.request(request)
        self._show("request", due, attachment, {"attempt": due.attempts + 1, "request": shown})
        started_s, answer = time.monotonic(), None
        try:
            answer = await self._sender.send(request, self._timeout_s(attachment))
            outcome = read_answer(VENDORS[attachment.vendor], answer)
        except VendorUnreachable as error:
            outcome = Outcome(Verdict.RETRY, error=f"{error.word}: {redaction.text(str(error))}")
        except AddressRefused as error:
            outcome = Outcome(Verdict.GIVE_UP, error=redaction.text(str(error)))
        attempted = self._attempted(
            due,
            attachment,
            outcome,
            at_ms=at_ms,
            duration_ms=round((time.monotonic() - started_s) * 1000),
            request=shown,
            response=None if answer is None else redaction.answer(request, answer),
        )
        return Result(attempted, outcome)

    def _attempted(
        self,
        due: Due,
        attachment: Attachment,
        outcome: Outcome,
        *,
        at_ms: int,
        duration_ms: int,
        request: dict[str, Any],
        response: dict[str, Any] | None,
    ) -> Attempted:
        decision = self._decide(due, attachment, outcome, at_ms + duration_ms)
        attempted = Attempted(
            delivery_id=due.id,
            attempts=due.attempts + 1,
            status=decision.status,
            reason=decision.reason,
            next_attempt_at_ms=decision.next_attempt_at_ms,
            at_ms=at_ms,
            duration_ms=duration_ms,
            revision_id=attachment.revision_id,
            verdict=outcome.verdict,
            http_status=outcome.status,
            error=outcome.error,
            request=_json(request),
            response=None if response is None else _json(response),
        )
        self._show("response", due, attachment, _seen(attempted, response))
        return attempted

    def _decide(self, due: Due, attachment: Attachment, outcome: Outcome, now_ms: int) -> Decision:
        decision = decide(due.attempts + 1, outcome, now_ms, self._chance(), self._policy(attachment))
        if outcome.verdict is Verdict.GIVE_UP and outcome.status is None:
            return Decision(decision.status, decision.next_attempt_at_ms, DeadReason.ADDRESS_REFUSED)
        return decision

    def _policy(self, attachment: Attachment) -> RetryPolicy:
        retries = attachment.config.get("max_retries")
        return RetryPolicy(
            backoff_base=self._settings.retry_backoff_base,
            max_attempts=retries + 1 if isinstance(retries, int) else self._settings.retry_max_attempts,
            max_delay_s=self._settings.retry_max_delay_s,
        )

    def _timeout_s(self, attachment: Attachment) -> float:
        own_ms = attachment.config.get("timeout_ms")
        longest_s = self._settings.delivery_timeout_s
        return min(own_ms / 1000, longest_s) if isinstance(own_ms, int) and own_ms > 0 else longest_s

    def _shadowed(
        self, due: Due, attachment: Attachment, redaction: Redaction, request: Request, at_ms: int
    ) -> Attempted:
        """The request is kept and the delivery dropped: nothing was delivered, and a later change to `live`
        must not send old events unasked (a replay does)."""
        shown = redaction.request(request)
        self._show(
            "request", due, attachment, {"attempt": due.attempts + 1, "shadow": True, "request": shown}
        )
        return _dropped(due, DropReason.SHADOW, at_ms)._replace(
            attempts=due.attempts + 1,
            revision_id=attachment.revision_id,
            verdict=SHADOW,
            request=_json(shown),
        )

    def _unmappable(self, due: Due, attachment: Attachment, error: str, at_ms: int) -> Result:
        attempted = Attempted(
            delivery_id=due.id,
            attempts=due.attempts + 1,
            status=DeliveryStatus.DEAD,
            reason=DeadReason.MAPPING_FAILED,
            next_attempt_at_ms=at_ms,
            at_ms=at_ms,
            revision_id=attachment.revision_id,
            verdict=Verdict.GIVE_UP,
            error=error,
            request=_json(NO_REQUEST),
        )
        self._show("response", due, attachment, _seen(attempted, None))
        return Result(attempted, None)

    def _show(self, stage: Stage, due: Due, attachment: Attachment, data: dict[str, Any]) -> None:
        if not self._live.watchers:
            return
        frame = Frame(
            stage=stage,
            timestamp=iso(self._clock()),
            pipeline_id=attachment.pipeline_id,
            message_id=due.message_id,
            integration_id=attachment.integration_id,
            data={"pipeline_integration_id": attachment.id, "vendor": attachment.vendor, **data},
        )
        self._live.publish(frame)


def request_for(event: Event, attachment: Attachment, now_ms: int) -> Request | None:
    """What the vendor's file makes of the event as the integration's steps leave it; None: nothing is sent.

    Raises MappingError and ScriptEngineUnavailable.
    """
    vendor = VENDORS.get(attachment.vendor)
    if vendor is None:
        raise MappingError(f"this program has no vendor {attachment.vendor}")
    settings = with_defaults(vendor, attachment.config)
    check_filled(vendor, settings)
    outgoing = outgoing_of(event, attachment)
    request = None if outgoing is None else vendor.request_for([outgoing], settings, now_ms)
    for name, value in {} if request is None else request.headers.items():
        # A pipeline parameter can bring what the settings' patterns kept out.
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise MappingError(f"the header {name!r} has characters that no header may have")
    return request


def outgoing_of(event: Event, attachment: Attachment) -> Outgoing | None:
    """The event after the integration's own steps; None where they drop it.

    Raises StepFailed and ScriptEngineUnavailable.
    """
    if attachment.engine_error:
        raise StepFailed(attachment.engine_error)
    if attachment.engine is None:
        return Outgoing(event)
    draft = Draft(msgspec.structs.replace(event))
    for ran in attachment.engine.run(draft, Moment(ms_of(event.received_at), event.message_id)):
        if ran.outcome == "drop":
            return None
        if ran.outcome == "fail":
            raise StepFailed(ran.detail)
    return Outgoing(draft.event, draft.payload, draft.replaces)


def read_answer(vendor: Vendor, answer: Answer) -> Outcome:
    """The vendor's own reading; where that fails, the status decides, because the event has been sent."""
    try:
        return vendor.read_answer(answer)
    except Exception:
        log.exception("an answer could not be read", vendor=vendor.name, status=answer.status)
        return outcome_of_status(answer)


def _refused(due: Due, attachment: Attachment) -> tuple[str, ...]:
    """What the integration is for and the visitor says no to now, whatever was said when the event came
    (spec/datafly-signal.md, 7.3, stage 2).
    """
    if due.consent is None or not attachment.consent_categories:
        return ()
    return consent.refused(decode_state(due.consent).choices, attachment.consent_categories)


def _dropped(due: Due, reason: DropReason, at_ms: int, detail: str | None = None) -> Attempted:
    return Attempted(due.id, due.attempts, DeliveryStatus.DROPPED, reason, at_ms, at_ms, detail=detail)


def _waiting(due: Due, at_ms: int, detail: str) -> Attempted:
    return Attempted(
        due.id, due.attempts, DeliveryStatus.PENDING, None, at_ms + ENGINE_WAIT_MS, at_ms, detail=detail
    )


def _seen(attempted: Attempted, response: dict[str, Any] | None) -> dict[str, Any]:
    pending = attempted.status == DeliveryStatus.PENDING
    return {
        "attempt": attempted.attempts,
        "verdict": attempted.verdict,
        "status": attempted.http_status,
        "error": attempted.error,
        "duration_ms": attempted.duration_ms,
        "delivery_status": attempted.status,
        "reason": attempted.reason,
        "next_attempt_at": iso(attempted.next_attempt_at_ms) if pending else None,
        "response": response,
    }


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()

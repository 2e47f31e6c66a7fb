"""One change tried on one event after the other: both sides' steps, both requests, and what differs.

Pure but for what is handed in. Real events take the inputs that were recorded with them, so that identity,
consent and session are as they were then; given ones take what is known now, each with what those before it
said. Duplicates are found among the events of the run, and where they were recorded as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from datafly_lite.clock import iso
from datafly_lite.configuration import Attachment, Pipeline
from datafly_lite.data_layer import Rules
from datafly_lite.dry_run import IntegrationChange, Kind, Outcome, RulesChange, Summary, Tried
from datafly_lite.engine import Draft
from datafly_lite.errors import MappingError, ScriptEngineUnavailable
from datafly_lite.events import DropReason, Event, Record
from datafly_lite.processor.passage import Inputs, Passage
from datafly_lite.processor.runner import (
    DROP,
    FAIL,
    Passed,
    data_layer,
    integration,
    passage_of,
    settled,
    words,
)
from datafly_lite.processor.state import Locate, State, nowhere
from datafly_lite.sessions import Session
from datafly_lite.trace import Change

MOST_DIFFERENCES = 200
LONGEST_TEXT = 2_000
LONGEST_BODY = 16_384
"""Characters: as much of a request's body as deliveries keep."""

MAPPING_FAILED = "mapping_failed"
"""What delivery calls an event that no request can be made of (retry.DeadReason)."""

BESIDE = ("integrations", "makes")
"""What is compared of an outcome beside the event itself."""

ABSENT = object()

log = structlog.get_logger(__name__)


class Candidate(NamedTuple):
    """An event to try it on. `inputs` are the recorded ones of a real event."""

    record: Record
    inputs: Inputs | None


class Preview(Protocol):
    """Delivery's part: what it would send, as it may be shown."""

    def request(self, event: Event, attachment: Attachment, now_ms: int) -> dict[str, Any] | None:
        """`{"method", "url", "headers", "body"}`, whole; None where nothing is sent. Raises MappingError."""
        ...

    def text(self, value: str) -> str:
        """Any other text, without secrets."""
        ...


PreviewOf = Callable[[tuple[str, ...]], Preview]
"""Secrets -> what leaves them out."""


class Around(NamedTuple):
    """What both sides share: the live rules, the pipelines by id, places, and how requests are made."""

    rules: Rules
    pipelines: Mapping[str, Pipeline]
    locate: Locate
    preview_of: PreviewOf


class Side:
    """One set of rules, and what is known while its events pass."""

    def __init__(self, around: Around, rules: Rules, known: State) -> None:
        self._around = around
        self._rules = rules
        self._known = known.copy()

    def pass_on(self, candidate: Candidate) -> tuple[Passage | None, list[Passed]]:
        """The event after the data layer's steps, and what they said."""
        record = candidate.record
        if record.event is None:
            return None, [Passed("read", DROP + DropReason.SCHEMA, record.error)]
        passage = passage_of(record, record.event, self._inputs(candidate), self._rules)
        passed: list[Passed] = []
        try:
            passed.extend(data_layer(passage))
        except ScriptEngineUnavailable:
            raise
        except Exception as error:  # as the processor does: one event must not end the run
            log.exception("a step failed in a dry run", pipeline=record.pipeline_id)
            return None, [Passed("step", DROP + DropReason.SCHEMA, f"a step failed: {type(error).__name__}")]
        self._known.take(record, passage, settled(passage, passed)[0])
        return passage, passed

    def _inputs(self, candidate: Candidate) -> Inputs:
        record, recorded = candidate.record, candidate.inputs
        pipeline = self._around.pipelines.get(record.pipeline_id)
        name = pipeline.name if pipeline else ""
        if recorded is None:
            return self._known.inputs_of(record, self._rules, name, self._around.locate)
        found = self._known.inputs_of(record, self._rules, name, nowhere)
        return msgspec.structs.replace(
            recorded,
            duplicate_of=found.duplicate_of or self._recorded(record, recorded),
            session=_started(recorded.session, found.session),
        )

    def _recorded(self, record: Record, recorded: Inputs) -> int | None:
        """A duplicate of what came before the run stays one while its key is asked for."""
        if recorded.duplicate_of is None or record.event is None:
            return None
        live, own = (
            rules.idempotency_keys(record.event, record.pipeline_id)
            for rules in (self._around.rules, self._rules)
        )
        return recorded.duplicate_of if {*live} & {*own} else None


class IntegrationTrial:
    """An integration's two configurations, over the live data layer."""

    def __init__(self, around: Around, change: IntegrationChange, known: State) -> None:
        self._side = Side(around, around.rules, known)
        self._before, self._after = change.before, change.after
        sides = [one for one in (change.before, change.after) if one is not None]
        self._preview = around.preview_of(tuple(secret for one in sides for secret in one.secrets))

    def of(self, candidate: Candidate) -> Tried:
        """One event on both sides."""
        passage, passed = self._side.pass_on(candidate)
        before = None if self._before is None else self._outcome(passage, passed, self._before)
        after = self._outcome(passage, passed, self._after)
        difference = differences(_read(before), _read(after))
        return _tried(candidate, _cut(before), _cut(after) or after, difference)

    def _outcome(self, passage: Passage | None, passed: list[Passed], attachment: Attachment) -> Outcome:
        request, own = None, list(passed)
        if passage is not None and _ended(passed) is None:
            try:
                own.extend(integration(passage, attachment, _draft(passage)))
                if _ended(own) is None:
                    request = self._request(passage, attachment)
                    own += [] if request else [Passed("request", DROP + DropReason.FILTER)]
            except MappingError as error:
                own.append(Passed("request", FAIL, str(error)))
            except ScriptEngineUnavailable:
                raise
            except Exception as error:  # as delivery does: a poisonous event stops no other
                log.exception("a dry run failed on an event", integration=attachment.integration_id)
                own.append(Passed("request", FAIL, type(error).__name__))
        return self._redacted(_ended(own) or _said(own, outcome="sent", request=request))

    def _request(self, passage: Passage, attachment: Attachment) -> dict[str, Any] | None:
        """As if it were sent when it came in."""
        event = msgspec.structs.replace(passage.event)
        return self._preview.request(event, attachment, passage.envelope.received_at_ms)

    def _redacted(self, outcome: Outcome) -> Outcome:
        return msgspec.structs.replace(
            outcome,
            detail=outcome.detail and self._preview.text(outcome.detail),
            remarks=[self._preview.text(one) for one in outcome.remarks],
        )


class RulesTrial:
    """The live rules for all events, and others in their place."""

    def __init__(self, around: Around, change: RulesChange, known: State) -> None:
        self._around = around
        self._before = Side(around, around.rules, known)
        self._after = Side(around, change.after, known)

    def of(self, candidate: Candidate) -> Tried:
        """One event on both sides."""
        before, after = (self._outcome(side, candidate) for side in (self._before, self._after))
        difference: list[Change] = []
        if before.outcome == after.outcome == "passed":
            beside = [(name, getattr(before, name), getattr(after, name)) for name in BESIDE]
            difference = [
                *differences(before.event, after.event),
                *(Change(*one) for one in beside if one[1] != one[2]),
            ]
        return _tried(candidate, before, after, difference)

    def _outcome(self, side: Side, candidate: Candidate) -> Outcome:
        passage, passed = side.pass_on(candidate)
        ended = _ended(passed)
        if passage is None or ended is not None:
            return ended or Outcome(outcome="failed")
        gets = [one.integration_name for one in self._attachments(passage) if _gets(passage, one)]
        return _said(
            passed,
            outcome="passed",
            event=msgspec.to_builtins(passage.event),
            integrations=sorted(gets),
            makes=[body["event"] for _, body in passage.generated],
        )

    def _attachments(self, passage: Passage) -> Iterator[Attachment]:
        """Those that are enabled; these rules may have another name for what one asks consent to."""
        pipeline = self._around.pipelines.get(passage.pipeline_id)
        for one in pipeline.attachments if pipeline else ():
            if one.enabled:
                meant = tuple(map(passage.rules.consent.category_of, one.consent_categories))
                yield msgspec.structs.replace(one, consent_categories=meant)


def _gets(passage: Passage, attachment: Attachment) -> bool:
    try:
        passed = list(integration(passage, attachment, _draft(passage)))
    except ScriptEngineUnavailable:
        raise
    except Exception:
        log.exception("a dry run failed on an event", integration=attachment.integration_id)
        return False
    return _ended(passed) is None


def _draft(passage: Passage) -> Draft:
    return Draft(event=msgspec.structs.replace(passage.event))


# ── What is said of one event ────────────────────────────────────────────────────────────────


def _ended(passed: list[Passed]) -> Outcome | None:
    """Where the last step ended its way; None where none did."""
    last = passed[-1] if passed else Passed("", "")
    if last.outcome == FAIL:
        return _said(
            passed, outcome="failed", step=last.name, reason=MAPPING_FAILED, detail=last.detail or None
        )
    if not last.outcome.startswith(DROP):
        return None
    reason = last.outcome.removeprefix(DROP)
    return _said(passed, outcome="dropped", step=last.name, reason=reason, detail=last.detail or None)


def _said(passed: list[Passed], **more: Any) -> Outcome:
    ending = more.get("step")
    remarks = [f"{one.name}: {one.detail}" for one in passed if one.detail and one.name != ending]
    return Outcome(steps=words(passed), remarks=remarks, **more)


def _tried(candidate: Candidate, before: Outcome | None, after: Outcome, difference: list[Change]) -> Tried:
    record = candidate.record
    event, envelope = record.event, record.envelope
    return Tried(
        pipeline_id=record.pipeline_id or None,
        message_id=envelope.message_id,
        type=event.type if event else envelope.type or "unknown",
        event=(event.event or event.name) if event else None,
        received_at=iso(envelope.received_at_ms),
        is_real=candidate.inputs is not None,
        change=_kind(before, after, bool(difference)),
        before=before,
        after=after,
        difference=difference[:MOST_DIFFERENCES],
    )


def _kind(before: Outcome | None, after: Outcome, differs: bool) -> Kind:
    if before is None or before.outcome != after.outcome:
        kinds: dict[str, Kind] = {"dropped": "newly_dropped", "failed": "newly_failed"}
        return kinds.get(after.outcome, "newly_sent")
    ends = [(one.step, one.reason, one.detail) for one in (before, after)]
    return "changed" if differs or ends[0] != ends[1] else "unchanged"


def summed(all_tried: list[Tried]) -> Summary:
    """How many there are of each kind."""
    counts = {name: 0 for name in Summary.__struct_fields__ if name != "events"}
    for one in all_tried:
        counts[one.change] += 1
    return Summary(events=len(all_tried), **counts)


# ── What differs ─────────────────────────────────────────────────────────────────────────────


def differences(before: Any, after: Any) -> list[Change]:
    """Each value that is another one, by its path, `body.items[0].price`; None stands for absent, and for a
    null, also where one takes the place of the other.

    Where only one side has anything there is nothing to compare.
    """
    if before is None or after is None:
        return []
    return [Change(path, _short(one), _short(other)) for path, one, other in _differing(before, after, "")]


def _differing(before: Any, after: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            inner = f"{path}.{name}" if path else str(name)
            yield from _differing(before.get(name, ABSENT), after.get(name, ABSENT), inner)
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            one, other = (side[index] if index < len(side) else ABSENT for side in (before, after))
            yield from _differing(one, other, f"{path}[{index}]")
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):  # Python: True == 1
        yield path, before, after


def _short(value: Any) -> Any:
    if value is ABSENT:
        return None
    text = value if isinstance(value, str) else None
    if text is None or len(text) <= LONGEST_TEXT:
        return value
    return f"{text[:LONGEST_TEXT]}… ({len(text) - LONGEST_TEXT} more characters)"


def _read(outcome: Outcome | None) -> dict[str, Any] | None:
    """The request with its body as JSON, where it is some, to be compared value by value."""
    if outcome is None or outcome.request is None:
        return None
    return {**outcome.request, "body": _decoded(outcome.request["body"])}


def _decoded(body: str) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return body


def _cut(outcome: Outcome | None) -> Outcome | None:
    """As much of the request's body as is shown."""
    body = outcome.request["body"] if outcome is not None and outcome.request else ""
    left_out = len(body) - LONGEST_BODY
    if outcome is None or left_out <= 0:
        return outcome
    shown = f"{body[:LONGEST_BODY]}… ({left_out} more characters)"
    return msgspec.structs.replace(outcome, request={**(outcome.request or {}), "body": shown})


def _started(recorded: Session | None, known: Session | None) -> Session | None:
    """As it was then; but the run itself may have made its session_start already."""
    if recorded is None or known is None or recorded.id != known.id:
        return recorded
    return msgspec.structs.replace(recorded, has_start=known.has_start)

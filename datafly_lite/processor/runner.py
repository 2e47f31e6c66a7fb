"""Runs the steps over one event, and says of each in a word what it did."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import structlog

from datafly_lite.clock import ms_of
from datafly_lite.configuration import Attachment, Pipeline
from datafly_lite.data_layer import Rules
from datafly_lite.engine import Draft, Moment
from datafly_lite.events import DropReason, Event, Record
from datafly_lite.processor.passage import Inputs, Passage
from datafly_lite.processor.steps import DATA_LAYER, INTEGRATION

OK = "ok"
CHANGED = "changed"
DROP = "drop:"
FAIL = "fail"

log = structlog.get_logger(__name__)


class Passed(msgspec.Struct, frozen=True):
    """One step that ran: its name, its outcome `ok`, `changed`, `skip`, `fail` or `drop:<reason>`, and what
    more there is to say of it.
    """

    name: str
    outcome: str
    detail: str = ""


class Fanout(msgspec.Struct, frozen=True):
    """What the integration's own steps say of one attachment."""

    attachment: Attachment
    reason: DropReason | None
    detail: str
    steps: str


class Processed(msgspec.Struct, frozen=True):
    """An event after its steps. `steps` has a word a step: `put_page:changed put_identity:ok`.

    `passage` has the event as it goes to the integrations; None where it could not be read.
    """

    record: Record
    rules: Rules
    passage: Passage | None
    inputs: Inputs
    reason: DropReason | None
    detail: str
    steps: str
    fanouts: tuple[Fanout, ...]

    @property
    def event(self) -> Event | None:
        """As it goes to the integrations."""
        return self.passage.event if self.passage else None


def process(record: Record, inputs: Inputs, rules: Rules, pipeline: Pipeline | None) -> Processed:
    """All steps, then each integration's. Pure: the same arguments give the same result."""
    if record.event is None:
        return unreadable(record, rules, inputs, "read", record.error)
    passage = passage_of(record, record.event, inputs, rules)
    passed = list(data_layer(passage))
    reason, detail = settled(passage, passed)
    attachments = pipeline.attachments if pipeline is not None and reason is None else ()
    fanouts = tuple(_fanout(passage, one) for one in attachments if one.enabled)
    return Processed(record, rules, passage, inputs, reason, detail, words(passed), fanouts)


def settled(passage: Passage, passed: list[Passed]) -> tuple[DropReason | None, str]:
    """As `end_of`; and a session_start follows from the first event of a session that reaches anybody."""
    reason, detail = end_of(passed)
    if reason is None and passage.start is not None and passage.session is not None:
        passage.session = msgspec.structs.replace(passage.session, has_start=True)
        passage.generated = (*passage.generated, (passage.session, passage.start))
    return reason, detail


def passage_of(record: Record, event: Event, inputs: Inputs, rules: Rules) -> Passage:
    """The beginning of an event's way, with a copy of the event that the steps may change."""
    return Passage(
        event=msgspec.structs.replace(event),
        envelope=record.envelope,
        inputs=inputs,
        rules=rules,
        pipeline_id=record.pipeline_id,
        at_ms=happened_at_ms(record),
        known=inputs.known,
        consent=inputs.consent,
        session=inputs.session,
    )


def happened_at_ms(record: Record) -> int:
    """The event's own time, but none after its arrival: a clock that is ahead must not make it the newest
    of all for years.
    """
    received_at_ms = record.envelope.received_at_ms
    return received_at_ms if record.event is None else min(ms_of(record.event.timestamp), received_at_ms)


def unreadable(record: Record, rules: Rules, inputs: Inputs, where: str, detail: str) -> Processed:
    """The event stays in the log and goes nowhere; `where` says what could not be done with it."""
    reason = DropReason.SCHEMA
    return Processed(record, rules, None, inputs, reason, detail, f"{where}:{DROP}{reason}", ())


def data_layer(passage: Passage) -> Iterator[Passed]:
    """Run the data layer's steps on the passage's event, in place, up to the first drop."""
    for step in DATA_LAYER:
        passage.detail = ""
        result = step(passage)
        yield _passed(step.__name__, result, passage.detail)
        if isinstance(result, DropReason):
            return


def integration(
    passage: Passage, attachment: Attachment, draft: Draft, *, with_scripts: bool = True
) -> Iterator[Passed]:
    """Run one integration's steps, and those of its revision on `draft`, up to the first drop or failure.

    Without scripts it ends before the first of its JavaScript, which delivery runs: one integration's slow
    script must not keep the events of all others waiting.
    """
    for step in INTEGRATION:
        passage.detail = ""
        result = step(passage, attachment)
        yield _passed(step.__name__, result, passage.detail)
        if isinstance(result, DropReason):
            return
    if attachment.engine_error:
        yield Passed("steps", FAIL, attachment.engine_error)
    elif attachment.engine is not None:
        for ran in attachment.engine.run(draft, moment_of(passage.event), with_scripts=with_scripts):
            outcome = DROP + DropReason.FILTER if ran.outcome == "drop" else ran.outcome
            yield Passed(ran.name, outcome, ran.detail)


def moment_of(event: Event) -> Moment:
    """What stands for clock and chance in an integration's steps, now and whenever they run again."""
    return Moment(now_ms=ms_of(event.received_at), seed=event.message_id)


def words(passed: list[Passed]) -> str:
    """What the store keeps of the steps."""
    return " ".join(f"{one.name}:{one.outcome}" for one in passed)


def _fanout(passage: Passage, attachment: Attachment) -> Fanout:
    """An integration that stumbles hurts no other: its delivery stumbles too, and is parked and explained."""
    draft = Draft(event=msgspec.structs.replace(passage.event))
    passed: list[Passed] = []
    try:
        passed.extend(integration(passage, attachment, draft, with_scripts=False))
    except Exception:
        log.exception("an integration's steps failed on an event", attachment=attachment.id)
        passed.append(Passed("steps", FAIL))
    reason, detail = end_of(passed)
    return Fanout(attachment, reason, detail, words(passed))


def _passed(name: str, result: bool | DropReason, detail: str) -> Passed:
    if isinstance(result, DropReason):
        return Passed(name, DROP + result, detail)
    return Passed(name, CHANGED if result else OK, detail)


def end_of(passed: list[Passed]) -> tuple[DropReason | None, str]:
    """Why the last step ended the way, and more of it; None and nothing where none did."""
    last = passed[-1] if passed else Passed("", OK)
    if not last.outcome.startswith(DROP):
        return None, ""
    return DropReason(last.outcome.removeprefix(DROP)), last.detail

"""Finds the events of a dry run, and runs it in a thread: it changes nothing and sends nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import anyio.from_thread
import anyio.to_thread
import msgspec

from datafly_lite import scripting
from datafly_lite.clock import ms_of
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.data_layer import Rules
from datafly_lite.dry_run import DryRun, IntegrationChange, RulesChange, Sample, Tried
from datafly_lite.errors import AdminError
from datafly_lite.events import Envelope, Record, encode_envelope
from datafly_lite.processor import state
from datafly_lite.processor.dry_run import (
    Around,
    Candidate,
    IntegrationTrial,
    PreviewOf,
    RulesTrial,
    summed,
)
from datafly_lite.processor.explaining import RecordOf, decode_inputs
from datafly_lite.processor.generating import DIALECT
from datafly_lite.processor.state import Locate, State
from datafly_lite.store import Store, recent_events
from datafly_lite.store.recent_events import Recent

LONGEST_S = 15.0
MOST_WAITING = 3
"""Runs beside the one that runs: each holds what it was given, and the last one waits for all before it."""
LARGEST_SAMPLE_BYTES = 16 * 1024 * 1024
LARGEST_ANSWER_BYTES = 8 * 1024 * 1024

BREATH_S = 0.0005
"""After each event: a thread that computes holds the interpreter's lock for 5 ms at a time, and the door
would wait for it."""

encode = msgspec.json.Encoder(order="deterministic").encode


class DryRunner:
    """One run at a time: a few others wait, so that the machine is left to the events that come in."""

    def __init__(
        self,
        store: Store,
        live: LiveConfiguration,
        record_of: RecordOf,
        preview_of: PreviewOf,
        locate: Locate,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._live = live
        self._record_of = record_of
        self._preview_of = preview_of
        self._locate = locate
        self._monotonic = monotonic
        self._one = anyio.CapacityLimiter(1)

    async def run(self, sample: Sample, change: IntegrationChange | RulesChange) -> DryRun:
        """What the change makes of the sample's events. A caller who goes away is to cancel it.

        Raises AdminError (RATE_LIMITED) where too many wait.
        """
        if self._one.statistics().tasks_waiting >= MOST_WAITING:
            raise AdminError(
                "RATE_LIMITED",
                "other dry runs wait for their turn already: try it again in a moment",
                retry_after_s=round(LONGEST_S),
            )
        async with self._one:
            return await self._run_now(sample, change)

    async def _run_now(self, sample: Sample, change: IntegrationChange | RulesChange) -> DryRun:
        """Nothing is read before its turn: many waiting samples would be many times 16 MB."""
        current = self._live.current
        around = Around(current.rules, current.by_id, self._locate, self._preview_of)
        if sample.last:
            recent = await self._store.read(
                recent_events.newest, sample.pipeline_id, sample.last, LARGEST_SAMPLE_BYTES
            )
            return await anyio.to_thread.run_sync(self._run_recent, around, change, recent)
        records = [self._given(body, number, sample) for number, body in enumerate(sample.events, 1)]
        known = State()
        if not sample.is_fresh:
            known = await self._store.read(_known_of, records, around.rules)
        candidates = [Candidate(record, None) for record in records]
        return await anyio.to_thread.run_sync(self._run, around, change, known, candidates)

    def _run_recent(self, around: Around, change: IntegrationChange | RulesChange, recent: Recent) -> DryRun:
        """The oldest first, because a duplicate is what comes later; shown the newest first."""
        candidates = [
            Candidate(
                self._record_of(raw["offset"], raw["pipeline_id"], raw["envelope"], raw["raw"]),
                decode_inputs(inputs),
            )
            for raw, inputs in reversed(recent.events)
        ]
        done = self._run(around, change, State(), candidates)
        return msgspec.structs.replace(done, events=done.events[::-1], not_run=done.not_run + recent.left_out)

    def _run(
        self,
        around: Around,
        change: IntegrationChange | RulesChange,
        known: State,
        candidates: list[Candidate],
    ) -> DryRun:
        trial: IntegrationTrial | RulesTrial
        if isinstance(change, IntegrationChange):
            trial = IntegrationTrial(around, change, known)
        else:
            trial = RulesTrial(around, change, known)
        until_s, tried = self._monotonic() + LONGEST_S, list[Tried]()
        for candidate in candidates:
            anyio.from_thread.check_cancelled()  # nobody waits for it any more
            if self._monotonic() > until_s:
                break
            with scripting.asking(scripting.TRIALS):
                tried.append(trial.of(candidate))
            time.sleep(BREATH_S)
        shown = _fitting(tried)
        return DryRun(
            summary=summed(tried),
            events=shown,
            not_run=len(candidates) - len(tried),
            not_shown=len(tried) - len(shown),
        )

    def _given(self, body: dict[str, Any], number: int, sample: Sample) -> Record:
        """Read as the door would read it. What it has not of its own follows from it."""
        raw = encode(body)
        digest = blake2b(raw, digest_size=16).hexdigest()
        visitor = body.get("anonymousId")
        envelope = Envelope(
            dialect=DIALECT,
            message_id=str(body.get("messageId") or f"dry-run-{digest}"),
            received_at_ms=max(sample.now_ms, _own_time_ms(body)),
            anonymous_id=None if visitor in (None, "") else str(visitor),
        )
        return self._record_of(number, sample.pipeline_id or "", encode_envelope(envelope), raw)


def _own_time_ms(body: dict[str, Any]) -> int:
    """No event is from the time after it came."""
    try:
        return ms_of(str(body.get("timestamp")).replace("z", "Z"))
    except (ValueError, OverflowError):
        return 0


def _known_of(connection: sqlite3.Connection, records: list[Record], rules: Rules) -> State:
    """Of visitors and users. Not of idempotency keys: a real event that is tried again is no duplicate."""
    known = state.load(connection, records, rules)
    known.keys = {}
    return known


def _fitting(tried: Iterable[Tried]) -> list[Tried]:
    """As many as the answer has room for, in their order; those with a change are taken first."""
    everyone = list(tried)
    by_need = sorted(range(len(everyone)), key=lambda place: everyone[place].change == "unchanged")
    left_bytes, kept = LARGEST_ANSWER_BYTES, set[int]()
    for place in by_need:
        left_bytes -= len(msgspec.json.encode(everyone[place]))
        if left_bytes < 0:
            break
        kept.add(place)
    return [one for place, one in enumerate(everyone) if place in kept]

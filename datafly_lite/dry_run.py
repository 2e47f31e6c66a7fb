"""A change of the configuration, tried on events: what is asked, and what it would have made of each.

Nothing is changed and nothing sent. The same asked twice gives the same bytes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from datafly_lite.configuration import Attachment
from datafly_lite.data_layer import Rules
from datafly_lite.trace import Change

MOST_EVENTS = 1_000
NOW_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: when given events arrive, unless the request says otherwise. It is fixed, because the
same request is to give the same bytes."""

Kind = Literal["unchanged", "changed", "newly_sent", "newly_dropped", "newly_failed"]
"""What becomes of one event by the change."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The events to try it on: the `last` real ones, of one pipeline or of all, or bodies that are given.

    `now_ms` is when given events arrive; `is_fresh`: of their visitors nothing is known.
    """

    pipeline_id: str | None = None
    last: int = 0
    events: tuple[dict[str, Any], ...] = ()
    now_ms: int = NOW_MS
    is_fresh: bool = False


class IntegrationChange(msgspec.Struct, frozen=True):
    """Another configuration of an integration. `before` is what the pipeline has, None where it has none."""

    before: Attachment | None
    after: Attachment


class RulesChange(msgspec.Struct, frozen=True):
    """Other rules for all events, in the place of the live ones."""

    after: Rules


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one event on one side.

    An integration's: `sent` with the `request`, secrets as `***`. A data layer's: `passed` with the `event`
    as it goes to the integrations, the names of these, and of the session events that it makes. Both:
    `dropped` or `failed`, with the step that said so. `steps` has a word a step; `remarks` are what single
    steps say beside.
    """

    outcome: Literal["sent", "passed", "dropped", "failed"]
    step: str | None = None
    reason: str | None = None
    detail: str | None = None
    steps: str = ""
    remarks: list[str] = []
    request: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    integrations: list[str] = []
    makes: list[str] = []


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One event on both sides. `before` is None where the pipeline does not have the integration.

    `is_real` events have a trace. `difference` has each value of the request, or of the event, that is
    another one; long texts are cut.
    """

    pipeline_id: str | None
    message_id: str
    type: str
    event: str | None
    received_at: str
    is_real: bool
    change: Kind
    before: Outcome | None
    after: Outcome
    difference: list[Change]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How many events were tried, and how many of them each kind of change met."""

    events: int = 0
    unchanged: int = 0
    changed: int = 0
    newly_sent: int = 0
    newly_dropped: int = 0
    newly_failed: int = 0


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """`events` are the newest first, or as they were given.

    `not_run` were left out because it took too long or they are too large together, `not_shown` were tried,
    and counted, but the answer would have been too large: unchanged ones are left out first.
    """

    summary: Summary
    events: list[Tried]
    not_run: int = 0
    not_shown: int = 0

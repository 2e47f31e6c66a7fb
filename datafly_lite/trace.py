"""One event end to end: the raw body, the canonical event, each step, each request and answer."""

from __future__ import annotations

from typing import Any

import msgspec


class Change(msgspec.Struct, frozen=True):
    """A value that a step changed. `path` is dotted; None stands for absent."""

    path: str
    before: Any
    after: Any


class StepTrace(msgspec.Struct, frozen=True):
    """What one step did. `outcome` is `ok`, `changed`, `skip`, `fail` or `drop:<reason>`, and `detail` says
    more of it; `recorded` is what the log says.
    """

    name: str
    outcome: str
    recorded: str | None
    changes: tuple[Change, ...]
    detail: str = ""


class ConsentChange(msgspec.Struct, frozen=True):
    """What the event changed of its visitor's kept choices, and how many deliveries that cancelled."""

    before: dict[str, bool]
    after: dict[str, bool]
    cancelled_deliveries: int


class AttemptTrace(msgspec.Struct, frozen=True):
    """One request to a vendor and its answer; both bounded and with secrets redacted.

    `request` is {"method", "url", "headers", "body"}, `response` {"headers", "body"} or None.
    """

    attempt: int
    at: str
    duration_ms: int
    verdict: str
    status: int | None
    error: str | None
    request: dict[str, Any]
    response: dict[str, Any] | None


class DeliveryTrace(msgspec.Struct, frozen=True):
    """The event's way to one integration."""

    delivery_id: int
    pipeline_integration_id: str
    integration_name: str
    vendor: str
    revision_id: str
    revision_number: int | None
    status: str
    reason: str | None
    detail: str | None
    attempts: int
    next_attempt_at: str | None
    steps: tuple[StepTrace, ...]
    history: tuple[AttemptTrace, ...]


class Trace(msgspec.Struct, frozen=True):
    """All of it. `processed` is False while the event waits for the processor.

    `recomputed_alike` is False when today's program takes another way than the one recorded. `inputs` is
    what the steps took from state: identity, consent, session, place. Versions are 0 for the defaults.
    """

    pipeline_id: str
    message_id: str
    offset: int
    received_at: str
    raw: str
    envelope: dict[str, Any]
    canonical: dict[str, Any] | None
    final: dict[str, Any] | None
    processed: bool
    processed_at: str | None
    program: str | None
    recomputed_alike: bool
    drop_reason: str | None
    detail: str | None
    data_layer_version: int | None
    consent_settings_version: int | None
    inputs: dict[str, Any]
    consent_change: ConsentChange | None
    steps: tuple[StepTrace, ...]
    deliveries: tuple[DeliveryTrace, ...]

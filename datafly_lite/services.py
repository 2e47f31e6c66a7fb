"""What the management API and the UI are given: the parts that the composition root made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from datafly_lite.auth import Authority
from datafly_lite.clock import Clock
from datafly_lite.collector.builder import CollectorBuilder
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.dry_run import DryRun, IntegrationChange, RulesChange, Sample
from datafly_lite.keyring import Keyring
from datafly_lite.live import LiveStream
from datafly_lite.settings import Settings
from datafly_lite.store import Store
from datafly_lite.trace import Trace


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """One of each, shared by all requests."""

    settings: Settings
    store: Store
    keyring: Keyring
    clock: Clock
    configuration: LiveConfiguration
    authority: Authority
    builder: CollectorBuilder
    live: LiveStream
    trace: Callable[[str, str], Awaitable[Trace | None]]
    """(pipeline_id, message_id) -> what happened to the event, step by step."""
    alone: Callable[..., Awaitable[Any]]
    """As `store.write`, between two batches of the processor: for what is known of visitors."""
    dry_run: Callable[[Sample, IntegrationChange | RulesChange], Awaitable[DryRun]]
    """What a change would make of these events; nothing is changed and nothing sent."""
    wake_delivery: Callable[[Iterable[str]], None]
    """Tell the workers of these attachments that there is something to send."""
    readiness: Callable[[], Awaitable[list[dict[str, Any]]]]
    """Each check of /readyz: {"name", "ok", "detail"}."""

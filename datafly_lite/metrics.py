"""Figures for Prometheus. No label ever comes from an event (reliability.md, case 118)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from datafly_lite import __version__

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """The product's counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._received = self._counter("datafly_events_received", "Events taken at the door.", "pipeline")
        self._received_by_pipeline: dict[str, Counter] = {}
        self._duplicates = self._counter(
            "datafly_events_duplicate", "Events that were there before.", "pipeline"
        )
        self._refused = self._counter("datafly_events_rejected", "Requests and events refused.", "reason")
        self._processed = self._counter("datafly_events_processed", "Events through the steps.", "outcome")
        build = Gauge("datafly_build_info", "The program's version.", ["version"], registry=self._registry)
        build.labels(__version__).set(1)

    def _counter(self, name: str, help_: str, label: str) -> Counter:
        return Counter(name, help_, [label], registry=self._registry)

    def gauge(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(name, help_, registry=self._registry).set_function(read)

    def received(self, pipeline_id: str, events: int, duplicates: int) -> None:
        """Events of one request that are in the store, and how many of them were before."""
        received = self._received_by_pipeline.get(pipeline_id)
        if received is None:  # `labels` takes a lock and joins strings: too much for each event
            received = self._received_by_pipeline[pipeline_id] = self._received.labels(pipeline_id)
        received.inc(events)
        if duplicates:
            self._duplicates.labels(pipeline_id).inc(duplicates)

    def refused(self, code: str) -> None:
        """One request, or one event of a batch."""
        self._refused.labels(code).inc()

    def processed(self, passed: int, dropped: int) -> None:
        """Events of one processor's transaction."""
        self._processed.labels("passed").inc(passed)
        self._processed.labels("dropped").inc(dropped)

    def page(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)

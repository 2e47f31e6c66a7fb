"""Delivery as a whole: a worker for each attachment of the configuration, started and stopped with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import anyio
from aiohttp.abc import AbstractResolver
from anyio.abc import TaskGroup

from datafly_lite.clock import Clock, system_clock
from datafly_lite.configuration import Attachment, Configuration, LiveConfiguration
from datafly_lite.delivery.attachment import Worker, monotonic_ms
from datafly_lite.delivery.attempt import Attempts
from datafly_lite.delivery.sender import Sender
from datafly_lite.live import LiveStream
from datafly_lite.settings import Settings, networks
from datafly_lite.store import Store

DRAIN_SHARE = 0.75
"""Of shutdown_timeout_s, for requests under way; the rest is for recording what came of them."""


class Delivery:
    """The stage after the processor. `chance` draws from 0 up to 1; `monotonic` and `resolver` are seams."""

    def __init__(
        self,
        store: Store,
        configuration: LiveConfiguration,
        live: LiveStream,
        settings: Settings,
        clock: Clock = system_clock,
        chance: Callable[[], float] = random.random,
        *,
        monotonic: Clock = monotonic_ms,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._live = live
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._monotonic = monotonic
        self._resolver = resolver
        self._allowed = networks(settings.delivery_allow_networks, setting="delivery_allow_networks")
        self._workers: dict[str, Worker] = {}
        self._running: set[Worker] = set()
        self._tasks: TaskGroup | None = None
        self._attempts: Attempts | None = None
        self._stop = anyio.Event()
        self._idle = anyio.Event()
        configuration.on_change(self._take_up)

    async def run(self) -> None:
        """Deliver until `stop`. Raises StorageBroken, and SettingsError at construction."""
        async with Sender.open(self._allowed, dev=self._settings.dev, resolver=self._resolver) as sender:
            self._attempts = Attempts(sender, self._live, self._settings, self._clock, self._chance)
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._take_up(self._configuration.current)
                await self._stop.wait()
                self._tasks = None
                await self._drain()

    def wake(self, pipeline_integration_ids: Iterable[str]) -> None:
        """There is something new for these attachments."""
        for one in pipeline_integration_ids:
            if worker := self._workers.get(one):
                worker.wake()

    def look_again(self, pipeline_integration_ids: Iterable[str]) -> None:
        """Deliveries of these attachments were cancelled."""
        for one in pipeline_integration_ids:
            if worker := self._workers.get(one):
                worker.look_again()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is under way is recorded, within shutdown_timeout_s."""
        self._stop.set()

    def _take_up(self, configuration: Configuration) -> None:
        if self._tasks is None or self._attempts is None:
            return
        for gone in [self._workers.pop(one) for one in set(self._workers) - set(configuration.attachments)]:
            gone.stop()
        for attachment in configuration.attachments.values():
            if worker := self._workers.get(attachment.id):
                worker.update(attachment)
            else:
                self._start(self._tasks, self._attempts, attachment)

    def _start(self, tasks: TaskGroup, attempts: Attempts, attachment: Attachment) -> None:
        worker = Worker(
            attachment,
            attempts,
            self._store,
            self._configuration,
            self._settings,
            self._clock,
            self._monotonic,
        )
        self._workers[attachment.id] = worker
        self._running.add(worker)
        tasks.start_soon(self._run, worker)

    async def _run(self, worker: Worker) -> None:
        await worker.run()
        self._running.discard(worker)
        if not self._running:
            self._idle.set()

    async def _drain(self) -> None:
        """Let the workers end by themselves, then cut short those that did not."""
        for worker in self._running:
            worker.stop()
        if not self._running:
            return
        self._idle = anyio.Event()
        with anyio.move_on_after(self._settings.shutdown_timeout_s * DRAIN_SHARE):
            await self._idle.wait()
        for worker in self._running:
            worker.cut_short()

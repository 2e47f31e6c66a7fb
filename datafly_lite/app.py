"""The composition root: opens the store, hands each stage the next one, serves, stops in flow order."""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datafly_lite import dev, health, server, site
from datafly_lite.auth import Authority
from datafly_lite.clock import system_clock
from datafly_lite.collector.builder import CollectorBuilder
from datafly_lite.collector.serving import routes as collector_routes
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.delivery.preview import Preview
from datafly_lite.delivery.worker import Delivery
from datafly_lite.errors import SettingsError, StorageBroken, StorageError
from datafly_lite.events import Arrival
from datafly_lite.gateway import event_of, limits
from datafly_lite.gateway.challenges import Challenges
from datafly_lite.gateway.door import Door
from datafly_lite.gateway.handovers import Handovers
from datafly_lite.gateway.rates import RateLimit
from datafly_lite.gateway.recognising import Recognition
from datafly_lite.gateway.refusals import Refusals
from datafly_lite.geo import Places
from datafly_lite.health import Health
from datafly_lite.keyring import Keyring
from datafly_lite.live import LiveStream
from datafly_lite.log import Log
from datafly_lite.management.routes import routes as management_routes
from datafly_lite.metrics import CONTENT_TYPE_LATEST, Metrics
from datafly_lite.processor.dry_runner import DryRunner
from datafly_lite.processor.explaining import Tracer
from datafly_lite.processor.processor import Processor
from datafly_lite.services import Services
from datafly_lite.settings import Settings
from datafly_lite.store import Store
from datafly_lite.store.raw_events import Appended
from datafly_lite.ui.demo import demo_routes
from datafly_lite.ui.routes import routes as ui_routes

PLACES_S = 60.0
"""How often the geo database is looked at for a newer file."""

STOP_GRACE_S = 2.0
"""Beyond the graceful time-out, before a server that does not end is cut off."""

GC_THRESHOLD = (50_000, 20, 20)
"""Events leave no cycles: Python's own 700 cost 3 to 4 % of an event, and its pauses the p99."""

log_ = structlog.get_logger(__name__)


class Appliance(msgspec.Struct, frozen=True, kw_only=True):
    """The open parts, in the order an event meets them."""

    settings: Settings
    store: Store
    configuration: LiveConfiguration
    health: Health
    log: Log
    refusals: Refusals
    door: Door
    places: Places
    processor: Processor
    delivery: Delivery
    builder: CollectorBuilder
    services: Services
    metrics: Metrics


async def open_store(settings: Settings) -> tuple[Store, Keyring]:
    """The store and its key. Raises StorageRefused with what to do."""
    # The key comes before the database: a crash between them must not leave a store that lacks its key.
    keyring = Keyring.open(settings.data_dir / "secret.key", create=not settings.database.exists())
    store = await Store.open(
        settings.database,
        synchronous=settings.synchronous,
        readers=settings.readers,
        queue_limit=settings.log_queue_events,
    )
    return store, keyring


async def build(settings: Settings, store: Store, keyring: Keyring) -> Appliance:
    """Make every part and hand each the next one."""
    live, metrics, clock = LiveStream(), Metrics(), system_clock
    configuration = LiveConfiguration(store, keyring)
    within = limits(settings)
    log = Log(
        store,
        lambda envelope, raw: event_of(envelope, raw, within),
        tail_events=settings.log_tail_events,
        window_days=settings.dedup_window_days,
    )
    delivery = Delivery(store, configuration, live, settings, clock, random.SystemRandom().random)
    places = Places(settings.geo_database)
    processor = Processor(
        *(store, log, configuration, delivery.wake, delivery.look_again),
        *(live, metrics, clock, places.lookup),
    )
    state = Health(
        store, settings.data_dir, settings.min_free_disk_bytes, lambda: log.end - processor.position
    )

    async def append(arrivals: Sequence[Arrival]) -> list[Appended]:
        state.admit()
        return await log.append(arrivals)

    rates, challenges, refusals = RateLimit(time.monotonic), Challenges(store, clock), Refusals(store, clock)
    handovers = Handovers(store, keyring, clock)
    recognition = Recognition(store, handovers, lambda: configuration.current.rules.consent)
    door = Door(
        *(settings, configuration, append, challenges, handovers, recognition, rates, refusals),
        *(live, metrics, clock),
    )
    builder = CollectorBuilder(store, live, clock)
    services = Services(
        settings=settings,
        store=store,
        keyring=keyring,
        clock=clock,
        configuration=configuration,
        authority=Authority(store, settings, clock),
        builder=builder,
        live=live,
        trace=Tracer(store, configuration, log.record).trace,
        dry_run=DryRunner(store, configuration, log.record, Preview, places.lookup).run,
        alone=processor.alone,
        wake_delivery=delivery.wake,
        readiness=state.checks,
    )
    _watch(metrics, store, log, processor, state)
    await configuration.reload()
    await log.open()
    await processor.open()
    return Appliance(
        settings=settings,
        store=store,
        configuration=configuration,
        health=state,
        log=log,
        refusals=refusals,
        door=door,
        places=places,
        processor=processor,
        delivery=delivery,
        builder=builder,
        services=services,
        metrics=metrics,
    )


def _watch(metrics: Metrics, store: Store, log: Log, processor: Processor, state: Health) -> None:
    metrics.gauge("datafly_log_end_offset", "Events ever stored.", lambda: log.end)
    metrics.gauge(
        "datafly_processor_backlog",
        "Events that wait for the processor.",
        lambda: log.end - processor.position,
    )
    metrics.gauge(
        "datafly_writer_waiting", "Changes that wait for their commit.", lambda: store.writer.waiting
    )
    metrics.gauge("datafly_commits", "Transactions since the start.", lambda: store.writer.commits)
    metrics.gauge("datafly_commit_seconds", "Time spent in them.", lambda: store.writer.commit_seconds)
    metrics.gauge("datafly_disk_free_bytes", "Free disk where the store lies.", lambda: state.free_bytes)


async def run(settings: Settings, announce: Callable[[Appliance, str | None], Awaitable[None]]) -> None:
    """Serve until SIGTERM or SIGINT.

    `announce(appliance, demo_key)` is called when all but the listeners is up. Raises SettingsError
    and StorageRefused at the start, StorageBroken when the store failed while running.
    """
    stop = anyio.Event()
    listeners = _listeners(settings)
    store, keyring = await open_store(settings)
    try:
        async with writing(store, stop):
            appliance = await build(settings, store, keyring)
            await _first_owner(appliance)
            demo_key = await dev.ensure_demo(appliance.services) if settings.dev else None
            await announce(appliance, demo_key)
            async with dev.twins(settings), stages(appliance, stop):
                await _serve(appliance, listeners, demo_key, stop)
    finally:
        await store.close()
    if store.writer.broken is not None:
        raise store.writer.broken


async def _first_owner(appliance: Appliance) -> None:
    settings = appliance.settings
    password = await _admin_password(settings)
    if settings.admin_email and password:
        await appliance.services.authority.ensure_owner(settings.admin_email, password)


async def _admin_password(settings: Settings) -> str:
    if not settings.admin_password_file:
        return settings.admin_password
    try:
        return (await anyio.Path(settings.admin_password_file).read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"admin_password_file: {error}") from None


@asynccontextmanager
async def writing(store: Store, stop: anyio.Event | None = None) -> AsyncIterator[None]:
    """The writer runs inside; at the end it commits what still waits. `stop` is set when it broke."""

    async def write() -> None:
        try:
            await store.writer.run()
        except StorageBroken:
            if stop is not None:
                stop.set()  # the answer to an I/O error is a clean end and a restart (design.md, 4.4)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        try:
            yield
        finally:
            store.writer.stop()


@asynccontextmanager
async def stages(appliance: Appliance, stop: anyio.Event) -> AsyncIterator[None]:
    """Processor, delivery, builder and the pollers run inside, and end in the order events flow."""
    async with anyio.create_task_group() as behind, anyio.create_task_group() as path:
        for task in (appliance.delivery.run, appliance.builder.run):
            behind.start_soon(_until_broken, task, stop)
        path.start_soon(_until_broken, appliance.processor.run, stop)
        path.start_soon(appliance.configuration.run, anyio.sleep)
        path.start_soon(appliance.health.run, anyio.sleep)
        path.start_soon(appliance.refusals.run, anyio.sleep)
        path.start_soon(_refresh, appliance.places)
        try:
            yield
        finally:
            path.cancel_scope.cancel()
            await _flush(appliance.refusals)
            appliance.log.close()
            appliance.delivery.stop()
            behind.cancel_scope.deadline = anyio.current_time() + appliance.settings.shutdown_timeout_s
            appliance.builder.stop()


async def _refresh(places: Places) -> None:
    """Operators get a newer database every month or so, and want no restart for it."""
    while True:
        await anyio.sleep(PLACES_S)
        if problem := await anyio.to_thread.run_sync(places.refresh):
            log_.warning("the newer geo database is not taken up", problem=problem)


async def _flush(refusals: Refusals) -> None:
    """A stop must not wait for a store that takes nothing: what it lists was refused, not acknowledged."""
    with anyio.move_on_after(STOP_GRACE_S, shield=True), contextlib.suppress(StorageError):
        await refusals.flush()


async def _until_broken(task: Callable[[], Awaitable[None]], stop: anyio.Event) -> None:
    try:
        await task()
    except StorageBroken:
        stop.set()


def _listeners(settings: Settings) -> list[server.Listener]:
    """Take the addresses first: a busy port must not cost a migration."""
    binds = [f"{settings.host}:{settings.port}", *([settings.admin_bind] if settings.admin_bind else [])]
    return [
        server.Listener(server.config(bind, shutdown_timeout_s=settings.shutdown_timeout_s)) for bind in binds
    ]


async def _serve(
    appliance: Appliance, listeners: Sequence[server.Listener], demo_key: str | None, stop: anyio.Event
) -> None:
    settings, services = appliance.settings, appliance.services
    public = [
        *health.routes(appliance.health),
        *collector_routes(appliance.store, appliance.configuration, appliance.builder),
        *(demo_routes(demo_key) if demo_key else []),
    ]
    private = [_metrics(appliance.metrics), *management_routes(services), *ui_routes(services)]
    applications = site.applications(settings, appliance.door, public, private)
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    gc.set_threshold(*GC_THRESHOLD)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_at_signal, stop)
        with anyio.CancelScope() as serving:
            tasks.start_soon(_wind_down, appliance, stop, serving)
            async with anyio.create_task_group() as servers:
                for listener, application in zip(listeners, applications, strict=True):
                    servers.start_soon(listener.serve, application, stop.wait)
        tasks.cancel_scope.cancel()


async def _wind_down(appliance: Appliance, stop: anyio.Event, serving: anyio.CancelScope) -> None:
    """At the signal streams end and delivery begins nothing more; requests under way get their time."""
    await stop.wait()
    appliance.services.live.close()
    appliance.delivery.stop()
    serving.deadline = anyio.current_time() + appliance.settings.shutdown_timeout_s + STOP_GRACE_S


async def _stop_at_signal(stop: anyio.Event) -> None:
    """The first SIGTERM or SIGINT asks for the end in order, the second one ends at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if stop.is_set():
                raise SystemExit(128 + number)
            log_.info("stopping", signal=signal.Signals(number).name)
            stop.set()


def _metrics(metrics: Metrics) -> Route:
    async def page(_: Request) -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", page)

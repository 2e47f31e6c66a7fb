"""Events a second, latency, CPU and memory, beside a null handler on the same server, in one run.

Take the ratios: the absolute figures are those of the machine. The server has one core, the load another,
where there are two. Rounds are interleaved and the medians printed. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import bench_processing
from bench_fill import fill, fill_speeds
from crash import SETTINGS, count_pending
from kit import Management, Server, request, running_server, send_event, wait_until
from load import Result, Shot, batches, events, new_message_ids, send

TESTS = Path(__file__).parent
CONNECTIONS = 64
PACED_RPS = 300.0
BATCH_EVENTS = 100
WARM_UP_S = 1.0
DRAIN_TIMEOUT_S = 600.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
PIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


class Figures(NamedTuple):
    """What one round of one scenario gave; None where it does not apply."""

    accepted_per_s: float | None = None
    stored_per_s: float | None = None
    delivered_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    paced_p50_ms: float | None = None
    paced_p99_ms: float | None = None
    cpu_us_an_event: float | None = None
    rss_idle_mib: float | None = None
    rss_after_mib: float | None = None
    start_s: float | None = None


TITLES = {
    "accepted_per_s": "accepted, events/s",
    "stored_per_s": "stored, events/s",
    "delivered_per_s": "delivered meanwhile, events/s",
    "p50_ms": f"p50 at saturation, {CONNECTIONS} connections, ms",
    "p99_ms": "p99 at saturation, ms",
    "paced_p50_ms": f"p50 at {PACED_RPS:.0f}/s, ms",
    "paced_p99_ms": f"p99 at {PACED_RPS:.0f}/s, ms",
    "cpu_us_an_event": "CPU, us an event, until all is processed",
    "rss_idle_mib": "RSS idle, MiB",
    "rss_after_mib": "RSS after, MiB",
    "start_s": "start to first 200, s",
}
AIMS = {
    "accepted_per_s": "durable >= 0.75 of null",
    "paced_p99_ms": "< 15 ms, all steps <= 2x",
    "rss_idle_mib": "< 100 MiB",
    "start_s": "< 1.5 s",
}


def pinned(core: int, *command: str) -> tuple[str, ...]:
    """The command on one core, its threads too, where that can be asked for."""
    if len(CORES) < 2:
        return command
    return (sys.executable, "-c", PIN, str(CORES[core]), *command)


def server_command(*command: str) -> tuple[str, ...]:
    return pinned(0, sys.executable, *command)


# ── What is measured ─────────────────────────────────────────────────────────────────────────


class Scenario(NamedTuple):
    """`shots(key)` is the load; `prepare` gives the pipeline's key, once a folder."""

    name: str
    command: tuple[str, ...]
    shots: Callable[[str], Iterator[Shot]]
    prepare: Callable[[Server], str]
    is_durable: bool = True
    is_paced: bool = True


def one_event_each(key: str) -> Iterator[Shot]:
    return events(new_message_ids(), key)


def hundred_events_each(key: str) -> Iterator[Shot]:
    return batches(new_message_ids(), key, BATCH_EVENTS)


def a_pipeline(server: Server) -> str:
    return Management(server.base_url).create_pipeline("Bench").key


def with_all_steps(server: Server) -> str:
    management = Management(server.base_url)
    management.call("PUT", "data-layer", {"config": bench_processing.ALL_ON})
    return management.create_pipeline("Bench").key


def with_webhook(url: str) -> Callable[[Server], str]:
    def prepare(server: Server) -> str:
        management = Management(server.base_url)
        pipeline = management.create_pipeline("Bench")
        management.attach(pipeline.id, "webhook", {"url": url})
        return pipeline.key

    return prepare


def scenarios(receiver_url: str) -> list[Scenario]:
    product = server_command("-m", "datafly_lite")
    null = server_command(str(TESTS / "bench_servers.py"), "null")
    return [
        Scenario("null handler", null, one_event_each, lambda server: "dk_none", is_durable=False),
        Scenario("/v1/t durable", product, one_event_each, a_pipeline),
        Scenario("/v1/t, all steps on", product, one_event_each, with_all_steps),
        Scenario("/v1/t, one webhook", product, one_event_each, with_webhook(receiver_url)),
        Scenario(f"/v1/batch of {BATCH_EVENTS}", product, hundred_events_each, a_pipeline, is_paced=False),
    ]


# ── Measuring ────────────────────────────────────────────────────────────────────────────────


def cpu_s(pid: int) -> float:
    """User and system time of the process and its threads (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def rss_mib(pid: int) -> float:
    line = next(
        one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def count(database: Path, table: str, where: str = "1") -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA query_only = ON")
        found: int = connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]
        return found


def measure(scenario: Scenario, folder: Path, duration_s: float) -> Figures:
    """One round on a fresh folder."""
    key = make_pipeline(scenario, folder)
    started_s = time.perf_counter()
    with running_server(folder, env=SETTINGS, command=scenario.command) as server:
        first = send_event(server, key, {"type": "track", "event": "First"})
        assert first.status == 200, first.body
        start_s = time.perf_counter() - started_s
        idle_mib = rss_mib(server.pid)
        saturated = saturate(scenario, server, key, folder / "datafly.db", duration_s)
        if scenario.is_paced:
            paced = load(server, scenario.shots(key), duration_s, PACED_RPS)
            saturated = saturated._replace(
                paced_p50_ms=paced.percentile_ms(50), paced_p99_ms=paced.percentile_ms(99)
            )
        return saturated._replace(start_s=start_s, rss_idle_mib=idle_mib, rss_after_mib=rss_mib(server.pid))


def saturate(scenario: Scenario, server: Server, key: str, database: Path, duration_s: float) -> Figures:
    """As much as it takes for `duration_s`, then wait until it has worked all off."""
    load(server, scenario.shots(key), WARM_UP_S)
    before = Counts.of(scenario, database)
    cpu_before_s = cpu_s(server.pid)
    result = load(server, scenario.shots(key), duration_s)
    meanwhile = Counts.of(scenario, database)
    if scenario.is_durable:
        wait_until(lambda: count_pending(database) == 0, "all processed and delivered", DRAIN_TIMEOUT_S)
    accepted = len(result.acknowledged)
    return Figures(
        accepted_per_s=accepted / result.elapsed_s,
        stored_per_s=(meanwhile.stored - before.stored) / result.elapsed_s if scenario.is_durable else None,
        delivered_per_s=(meanwhile.delivered - before.delivered) / result.elapsed_s or None,
        p50_ms=result.percentile_ms(50),
        p99_ms=result.percentile_ms(99),
        cpu_us_an_event=(cpu_s(server.pid) - cpu_before_s) / accepted * 1e6,
    )


class Counts(NamedTuple):
    """Rows at one moment."""

    stored: int = 0
    delivered: int = 0

    @classmethod
    def of(cls, scenario: Scenario, database: Path) -> Counts:
        if not scenario.is_durable:
            return cls()
        return cls(count(database, "raw_events"), count(database, "deliveries", "status = 'delivered'"))


def load(server: Server, shots: Iterator[Shot], duration_s: float, rate_rps: float | None = None) -> Result:
    result = asyncio.run(
        send(server.port, shots, connections=CONNECTIONS, duration_s=duration_s, rate_rps=rate_rps)
    )
    assert not result.refused, f"refused: {dict(result.refused)}"
    assert not result.unanswered, f"{len(result.unanswered)} events unanswered"
    return result


@contextmanager
def receiver() -> Iterator[str]:
    """A cheap webhook receiver in a process of its own, on the core of the load; its address."""
    command = pinned(1, sys.executable, str(TESTS / "bench_servers.py"), "receiver")
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder), command=command) as server:
        yield server.base_url


def has_batch_endpoint(folder: Path) -> bool:
    with running_server(folder) as server:
        key = a_pipeline(server)
        shot = next(batches(new_message_ids(), key, 1))
        body = shot.data.partition(b"\r\n\r\n")[2]
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return request(f"{server.base_url}/v1/batch", "POST", body, headers).status == 200


# ── Printing ─────────────────────────────────────────────────────────────────────────────────


def median(rounds: list[Figures]) -> dict[str, float | None]:
    """The median of each figure over the rounds."""
    columns = {name: [getattr(one, name) for one in rounds] for name in Figures._fields}
    return {
        name: statistics.median(values) if None not in values else None for name, values in columns.items()
    }


def cell(value: float | None, null: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{text} ({value / null:.2f})" if null else text


def table(found: dict[str, dict[str, float | None]]) -> Iterator[str]:
    """A line a figure, a column a scenario, with the ratio to the null handler in brackets."""
    null = next(iter(found.values()))
    yield f"{'':44}" + "".join(f"{name:>22}" for name in found) + "   aim"
    for name, title in TITLES.items():
        cells = "".join(f"{cell(figures[name], null[name]):>22}" for figures in found.values())
        yield f"{title:44}{cells}   {AIMS.get(name, '')}"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(arguments: Any, folder: Path) -> None:
    if len(CORES) >= 2:
        os.sched_setaffinity(0, {CORES[1]})
    with receiver() as url:
        chosen = scenarios(url)
        if not has_batch_endpoint(folder / "batch"):
            say("there is no /v1/batch yet")
            chosen = [one for one in chosen if one.is_paced]
        rounds: dict[str, list[Figures]] = {scenario.name: [] for scenario in chosen}
        for number in range(arguments.rounds):
            for place, scenario in enumerate(chosen):
                data_dir = folder / f"{number}-{place}"
                rounds[scenario.name].append(measure(scenario, data_dir, arguments.duration))
                say(f"round {number + 1}, {scenario.name}: {rounds[scenario.name][-1].accepted_per_s:,.0f}/s")
    for line in table({name: median(figures) for name, figures in rounds.items()}):
        say(line)


def run_filled(arguments: Any, folder: Path) -> None:
    """The same inserts with nothing stored and with much."""
    empty, full = fill_speeds(folder / "fill", arguments.fill)
    say_ratio("inserts through the store", arguments.fill, empty, full)
    scenario = Scenario("filled", server_command("-m", "datafly_lite"), one_event_each, a_pipeline)
    folders = [folder / "without", folder / "with"]
    keys = [make_pipeline(scenario, one) for one in folders]
    fill(folders[1] / "datafly.db", arguments.fill)
    rates: list[list[float]] = [[], []]
    for _ in range(max(1, arguments.rounds)):
        for place, one in enumerate(folders):
            rates[place].append(accepted_rate(scenario, one, keys[place], arguments.duration))
    say_ratio("/v1/t", arguments.fill, statistics.median(rates[0]), statistics.median(rates[1]))


def make_pipeline(scenario: Scenario, folder: Path) -> str:
    with running_server(folder, env=SETTINGS, command=scenario.command) as server:
        return scenario.prepare(server)


def accepted_rate(scenario: Scenario, folder: Path, key: str, duration_s: float) -> float:
    with running_server(folder, env=SETTINGS, command=scenario.command) as server:
        load(server, scenario.shots(key), WARM_UP_S)
        result = load(server, scenario.shots(key), duration_s)
        return len(result.acknowledged) / result.elapsed_s


def say_ratio(what: str, events: int, empty: float, full: float) -> None:
    ratio = f"{full / empty:.2f} of it"
    say(f"{what}: {empty:,.0f}/s with nothing stored, {full:,.0f}/s with {events:,}: {ratio}   aim >= 0.80")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the product beside a null handler.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of each load")
    parser.add_argument("--fill", type=int, default=1_000_000, help="events stored before the second insert")
    parser.add_argument(
        "--processed", type=int, default=bench_processing.EVENTS, help="events through the steps alone"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.rounds:
            run(arguments, Path(folder))
        if arguments.processed:
            bench_processing.run(Path(folder) / "processed", arguments.processed)
        if arguments.fill:
            run_filled(arguments, Path(folder))


if __name__ == "__main__":
    main()

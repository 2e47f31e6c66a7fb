"""Acknowledged means committed: through kill -9, a failing disk, and SIGTERM under load."""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from pathlib import Path

import pytest

from crash import SETTINGS, Ledger, complaints, read_stored, run, set_up, wait_until_drained
from kit import RecordingVendor, Server, running_server
from load import Result, events, new_message_ids, send


@pytest.mark.timeout(300)
def test_twenty_crashes_lose_and_double_nothing(data_dir: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"to repeat: python tests/crash.py --rounds 20 --seed {seed}")  # noqa: T201 - shown when it fails
    run(data_dir, 20, random.Random(seed))


async def load_until_stopped(server: Server, key: str) -> Result:
    """SIGTERM half a second into a load that would go on."""
    asyncio.get_running_loop().call_later(0.5, server.process.terminate)
    return await send(server.port, events(new_message_ids(), key), connections=16, duration_s=5.0)


def test_a_graceful_stop_answers_what_it_accepted(data_dir: Path, vendor: RecordingVendor) -> None:
    pipeline = set_up(data_dir, vendor)
    ledger = Ledger()
    with running_server(data_dir, env=SETTINGS) as server:
        ledger.take(asyncio.run(load_until_stopped(server, pipeline.key)))
        assert server.process.wait(30) == 0, server.output()
    database = data_dir / "datafly.db"
    assert ledger.acknowledged
    assert set(read_stored(database).raw) == ledger.acknowledged
    with running_server(data_dir, env=SETTINGS) as server:
        wait_until_drained(server, database)
    assert list(complaints(ledger, read_stored(database), set(vendor.message_ids))) == []


def test_a_failed_sync_ends_the_process_and_loses_nothing(data_dir: Path, vendor: RecordingVendor) -> None:
    """A later sync would succeed and hide the loss: so the process stops (design.md, 4.4)."""
    pipeline, database, ledger = set_up(data_dir, vendor), data_dir / "datafly.db", Ledger()
    failing = ("strace", "-D", "-f", "-qq", "-o", str(data_dir / "trace"), "-e", "trace=fsync,fdatasync")
    inject = ("-e", "inject=fsync,fdatasync:error=EIO:when=60")
    command = (*failing, *inject, sys.executable, "-m", "datafly_lite")
    with running_server(data_dir, env=SETTINGS, command=command) as server:
        shots = events(new_message_ids(), pipeline.key)
        ledger.take(asyncio.run(send(server.port, shots, duration_s=10.0, rate_rps=200.0)))
        assert server.process.wait(30) == 1, server.output()
        assert "the store failed" in server.output()
    assert ledger.acknowledged
    with running_server(data_dir, env=SETTINGS) as server:
        wait_until_drained(server, database)
    assert list(complaints(ledger, read_stored(database), set(vendor.message_ids))) == []

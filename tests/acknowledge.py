"""Write numbered notes one by one and print each number after its commit, until the store breaks.

`python acknowledge.py DATABASE COUNT [SYNCHRONOUS]`: test_store_faults.py runs it under injected I/O
errors, test_store_power.py under a trace from which it cuts the power.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import anyio

from datafly_lite.errors import StorageBroken
from kit import open_store

BROKEN_EXIT_CODE = 3
TEXT = "x" * 600
CHECKPOINT_PAGES = 40
"""So few that a run of a hundred notes meets several checkpoints."""


def create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")


def add(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("INSERT INTO notes VALUES (?, ?)", (number, TEXT))


def checkpoint_often(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchone()


async def main(path: Path, count: int, synchronous: str) -> None:
    async with open_store(path, synchronous=synchronous) as store:
        await store.write(create)
        await store.write(checkpoint_often)
        for number in range(count):
            await store.write(add, number)
            sys.stdout.write(f"acknowledged {number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    try:
        anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or ["FULL"])[0])
    except* StorageBroken:
        sys.exit(BROKEN_EXIT_CODE)

"""Write numbered notes one by one and print each number after its commit, until the store breaks.

`python acknowledge.py DATABASE COUNT`; test_store_faults.py runs it under injected I/O errors.
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


def create(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")


def add(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("INSERT INTO notes VALUES (?, ?)", (number, TEXT))


async def main(path: Path, count: int) -> None:
    async with open_store(path) as store:
        await store.write(create)
        for number in range(count):
            await store.write(add, number)
            sys.stdout.write(f"acknowledged {number}\n")


if __name__ == "__main__":
    try:
        anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
    except* StorageBroken:
        sys.exit(BROKEN_EXIT_CODE)
    finally:
        sys.stdout.flush()

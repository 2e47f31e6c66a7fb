"""Opening: what is refused, what is kept before an upgrade, and that both ways to a schema meet."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from datafly_lite.assets import asset
from datafly_lite.errors import StorageRefused
from datafly_lite.store import Store
from datafly_lite.store.migrations import APPLICATION_ID, STEPS, migrate
from kit import open_store

FIRST_SCHEMA = Path(__file__).parent / "schema-1.sql"

HOLD = """
import sys, anyio
from pathlib import Path
from datafly_lite.store import Store

async def main():
    await Store.open(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.read()

anyio.run(main)
"""


def open_and_close(path: Path) -> None:
    async def both() -> None:
        async with open_store(path):
            pass

    anyio.run(both)


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def sqlite_schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
    ).fetchall()


# ── What is refused ──────────────────────────────────────────────────────────────────────────


def test_a_file_of_an_earlier_development_build_is_refused_with_what_to_do(data_dir: Path) -> None:
    path = data_dir / "datafly.db"
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE sessions")
    with pytest.raises(StorageRefused, match=r"earlier development build.*--data-dir"):
        open_and_close(path)


def test_a_table_of_the_operators_own_is_no_concern(data_dir: Path) -> None:
    path = data_dir / "datafly.db"
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    open_and_close(path)


def test_a_second_process_is_refused_until_the_first_is_gone(data_dir: Path) -> None:
    path = data_dir / "datafly.db"
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(StorageRefused, match="another datafly-lite is running"):
            anyio.run(Store.open, path)
        first.kill()
    open_and_close(path)


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()


def newer_database(path: Path) -> None:
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


def text_file(path: Path) -> None:
    path.write_text("dear diary, " * 1_000)


def damaged_header(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8_192)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (foreign_database, "another program's database"),
        (newer_database, "schema 999"),
        (text_file, "is it a database of this program"),
        (damaged_header, "is it a database of this program"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(
    data_dir: Path, make: Callable[[Path], None], words: str
) -> None:
    data_dir.mkdir()
    path = data_dir / "datafly.db"
    make(path)
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(StorageRefused, match=words):
        anyio.run(Store.open, path)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert sorted(one.name for one in data_dir.iterdir()) == ["datafly.db", "datafly.lock"]


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(StorageRefused, match="cannot be used"):
        anyio.run(Store.open, tmp_path / "data" / "datafly.db")


def test_a_refusal_frees_the_lock(data_dir: Path) -> None:
    data_dir.mkdir()
    text_file(data_dir / "datafly.db")
    with pytest.raises(StorageRefused):
        anyio.run(Store.open, data_dir / "datafly.db")
    (data_dir / "datafly.db").unlink()
    open_and_close(data_dir / "datafly.db")


# ── What a file is opened with ───────────────────────────────────────────────────────────────


def test_a_commit_is_synced_and_only_the_writer_writes(data_dir: Path) -> None:
    def settings(connection: sqlite3.Connection) -> dict[str, object]:
        names = (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "query_only",
            "mmap_size",
            "wal_autocheckpoint",
        )
        found = {name: connection.execute(f"PRAGMA {name}").fetchone() for name in names}
        return {name: row[0] for name, row in found.items() if row is not None}

    async def look() -> tuple[dict[str, object], dict[str, object]]:
        async with open_store(data_dir / "datafly.db") as store:
            return await store.write(settings), await store.read(settings)

    writer, reader = anyio.run(look)
    assert writer["journal_mode"] == reader["journal_mode"] == "wal"
    assert (writer["synchronous"], writer["foreign_keys"], writer["query_only"]) == (2, 1, 0)
    assert (reader["query_only"], reader["wal_autocheckpoint"]) == (1, 0)
    assert not writer["mmap_size"]
    assert not reader["mmap_size"]


def test_closing_leaves_one_file_of_data(data_dir: Path) -> None:
    open_and_close(data_dir / "datafly.db")
    assert sorted(one.name for one in data_dir.iterdir()) == ["datafly.db", "datafly.lock"]
    assert pragma(data_dir / "datafly.db", "application_id") == APPLICATION_ID


# ── From an older schema ─────────────────────────────────────────────────────────────────────

OLD = "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT;"
STEP_2 = "ALTER TABLE notes ADD COLUMN text TEXT; INSERT INTO notes (text) VALUES ('by step 2');"
STEP_3 = "CREATE INDEX notes_by_text ON notes (text);"
BROKEN_STEP = "CREATE TABLE half (id INTEGER); INSERT INTO nowhere VALUES (1);"


def migrated(path: Path, *, steps: dict[int, str]) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, schema=OLD, steps=steps)
        return sqlite_schema(connection)


def test_an_older_file_goes_up_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "datafly.db"
    migrated(path, steps={})
    assert pragma(path, "user_version") == 1
    migrated(path, steps={2: STEP_2})
    assert pragma(path, "user_version") == 2
    schema = migrated(path, steps={2: STEP_2, 3: STEP_3})
    assert pragma(path, "user_version") == 3
    assert [name for _, name, *_ in schema] == ["notes_by_text", "notes"]


def test_a_snapshot_is_taken_before_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "datafly.db"
    migrated(path, steps={})
    migrated(path, steps={2: STEP_2})
    snapshot = tmp_path / "datafly.schema-1.db"
    assert pragma(snapshot, "integrity_check") == "ok"
    assert pragma(snapshot, "user_version") == 1
    assert pragma(snapshot, "application_id") == APPLICATION_ID
    with closing(sqlite3.connect(snapshot)) as connection:
        assert sqlite_schema(connection) == [("table", "notes", "notes", OLD.rstrip(";"))]
    assert sorted(one.name for one in tmp_path.glob("*.db")) == ["datafly.db", "datafly.schema-1.db"]


def test_a_step_that_fails_leaves_the_schema_before_it(tmp_path: Path) -> None:
    path = tmp_path / "datafly.db"
    before = migrated(path, steps={})
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrated(path, steps={2: BROKEN_STEP})
    assert pragma(path, "user_version") == 1
    assert migrated(path, steps={}) == before
    assert migrated(path, steps={2: STEP_2}) != before


def test_schema_sql_and_the_steps_meet(tmp_path: Path) -> None:
    """A released schema changes by a new entry in STEPS; tests/schema-1.sql is that of the first release."""
    with closing(sqlite3.connect(tmp_path / "new.db", isolation_level=None)) as connection:
        migrate(connection, tmp_path / "new.db")
        new = sqlite_schema(connection)
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as connection:
        migrate(connection, tmp_path / "old.db", schema=FIRST_SCHEMA.read_text(), steps={})
        migrate(connection, tmp_path / "old.db")
        old = sqlite_schema(connection)
    assert old == new, "schema.sql changed: add a step to STEPS that makes the same change"
    assert sorted(STEPS) == list(range(2, 2 + len(STEPS)))
    assert pragma(tmp_path / "old.db", "user_version") == pragma(tmp_path / "new.db", "user_version")


def test_every_table_is_strict() -> None:
    """Without STRICT SQLite stores text in a number's column, and the error comes at the reader."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(asset("schema.sql").read_text())
        loose = [
            name
            for kind, name, _, sql in sqlite_schema(connection)
            if kind == "table" and "STRICT" not in sql
        ]
    assert [name for name in loose if not name.startswith("sqlite_")] == []

"""From an older schema to schema.sql, one numbered step and one transaction each.

`PRAGMA user_version` says which schema a file has. A new file gets schema.sql as it is; a test
builds one both ways and compares `sqlite_schema` byte for byte. A released step is never edited.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from datafly_lite.assets import asset
from datafly_lite.errors import StorageRefused

APPLICATION_ID = 0x64666C79  # "dfly"
STEPS: dict[int, str] = {}
"""Target version -> SQL. Version 1 is schema.sql of the first release."""


def migrate(
    connection: sqlite3.Connection, path: Path, *, schema: str | None = None, steps: Mapping[int, str] = STEPS
) -> None:
    """Bring an open, locked database to version 1 + len(steps); `schema` is the text of that version.

    Raises StorageRefused for a newer or foreign file, which is left as it was.
    """
    newest = 1 + len(steps)
    version = _version(connection, path)
    schema = schema or asset("schema.sql").read_text(encoding="utf-8")
    if version == 0:
        _run(connection, schema, newest)
        return
    if version == newest and not steps:
        _check_same(connection, path, schema)
    if version > newest:
        raise StorageRefused(
            f"{path} has schema {version}, this program knows up to {newest}: install the newer program again"
        )
    if version < newest:
        _snapshot(connection, path, version)
    for target in range(version + 1, newest + 1):
        _run(connection, steps[target], target)


def _check_same(connection: sqlite3.Connection, path: Path, schema: str) -> None:
    """Before its first release a schema changes without a number: say so at the start, not at some event."""
    made = sqlite3.connect(":memory:")
    try:
        made.executescript(schema)
        if _objects(made) - _objects(connection):  # whatever an operator added is no concern of ours
            raise StorageRefused(
                f"{path} was made by an earlier development build, whose tables were others:"
                " name an empty folder with --data-dir, or move this one away"
            )
    finally:
        made.close()


def _objects(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StorageRefused(f"{path} is another program's database; name an empty folder with --data-dir")
    return version


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    # executescript commits what is open, so the transaction is part of the script.
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};"
        f"\nPRAGMA user_version = {version};\nCOMMIT;"
    )


def _snapshot(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """A whole copy beside the file, so that a failed upgrade can be undone by hand."""
    copy = path.with_suffix(f".schema-{version}.db")
    copy.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(copy),))

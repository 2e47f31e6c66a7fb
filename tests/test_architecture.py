"""The arrows of docs and design, held by reading the source: who imports whom, and who may touch what.

An event goes from gateway to log to processor to delivery, and these do not know one another; `app`
hands each the next one. A part that is not in the table has no arrows: give it a row.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "datafly_lite"
WEB = ROOT / "web"
LONGEST_FILE_LINES = 400
LONGEST_FUNCTION_LINES = 70

PURE = {"errors", "events", "clock"}
"""What everything may import: values, errors, and the seams of time and chance."""

FRAME = {"settings", "configuration", "live", "metrics", "trace", "store", "keyring"}
"""What the stages and the API stand on."""

ARROWS: dict[str, set[str]] = {
    # values
    "errors": set(),
    "events": set(),
    "clock": set(),
    "assets": set(),
    "live": set(),
    "trace": set(),
    "metrics": set(),
    "logs": set(),
    "settings": {"errors"},
    "addresses": {"errors"},
    "proxies": set(),
    "keyring": {"errors"},
    # pure rules
    "retry": PURE,
    "event_names": set(),
    "cross_domain": set(),
    "consent": PURE,
    "vendor_ids": PURE,
    "identity": PURE | {"vendor_ids"},
    "profiles": PURE,
    "jsonpaths": PURE,
    "scripting": PURE,
    "bots": PURE,
    "pii": PURE | {"paths"},
    "devices": PURE,
    "geo": PURE,
    "paths": PURE,
    "expressions": PURE | {"paths"},
    "engine": PURE | {"event_names", "expressions", "paths", "scripting"},
    "sessions": PURE,
    "data_layer": PURE
    | {"bots", "consent", "event_names", "expressions", "paths", "pii", "scripting", "sessions"},
    "vendors.declaration": PURE,
    "vendors": PURE | {"consent", "engine", "event_names", "scripting", "vendors.declaration"},
    # the store, and the snapshot of it that the path goes by
    "store": PURE | {"assets"},
    "configuration": {
        "consent",
        "data_layer",
        "engine",
        "errors",
        "keyring",
        "store",
        "vendors",
        "vendors.declaration",
    },
    # the way of an event, in its order
    "gateway": PURE | FRAME | {"consent", "cross_domain", "identity", "jsonpaths", "proxies", "vendor_ids"},
    "log": PURE | {"store"},
    "processor": PURE
    | FRAME
    | {
        "bots",
        "consent",
        "cross_domain",
        "data_layer",
        "devices",
        "dry_run",
        "engine",
        "expressions",
        "identity",
        "pii",
        "profiles",
        "scripting",
        "sessions",
        "vendor_ids",
        "vendors",
        "vendors.declaration",
    },
    "delivery": PURE | FRAME | {"consent", "engine", "retry", "addresses", "vendors", "vendors.declaration"},
    # beside the way
    "audit": PURE | {"store"},
    "auth": PURE | {"audit", "settings", "store", "keyring"},
    "collector": PURE | {"assets", "configuration", "store", "live"},
    "dry_run": {"configuration", "data_layer", "trace"},
    "services": {
        "auth",
        "clock",
        "collector",
        "configuration",
        "dry_run",
        "keyring",
        "live",
        "settings",
        "store",
        "trace",
    },
    "management": PURE
    | FRAME
    | {
        "addresses",
        "audit",
        "auth",
        "collector",
        "consent",
        "data_layer",
        "dry_run",
        "expressions",
        "jsonpaths",
        "proxies",
        "vendor_ids",
        "vendors",
        "vendors.declaration",
        "services",
    },
    "ui": PURE
    | FRAME
    | {
        "assets",
        "audit",
        "auth",
        "collector",
        "consent",
        "dry_run",
        "engine",
        "expressions",
        "management",
        "services",
        "vendors",
        "vendors.declaration",
    },
    "twins": PURE | {"assets"},
    "health": {"errors", "store"},
    "server": {"errors"},
    "site": {"gateway", "server", "settings"},
}

COMPOSITION = {"app", "announcing", "dev", "cli", "__main__"}
"""These put the parts together and are imported by no part."""

ONLY = {
    "aiosqlite": {"store"},
    "aiohttp": {"delivery"},
    "httpx": set(),
    "requests": set(),
    "urllib.request": {"cli"},
    "http.client": {"cli"},
    "hypercorn": {"app", "server", "twins"},
    "esbuild_py": {"collector"},
    "minify": {"collector"},
}
"""A library -> the parts that may import it: files are the store's, outgoing HTTP is delivery's."""

SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|REPLACE\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\s",
    re.DOTALL,
)
SQL_CALLS = {"execute", "executemany", "executescript"}


class Import(NamedTuple):
    """`importer` and `imported` are module names; a line for the message."""

    path: Path
    line: int
    importer: str
    imported: str


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """`datafly_lite/store/db.py` -> `store.db`; a package's `__init__` is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in sources()}


def part_of(module: str) -> str:
    """`store.db` -> `store`, `auth_limits` -> `auth`; a row with a longer name wins."""
    while module and module not in ARROWS and module not in COMPOSITION:
        shorter = module.rpartition(".")[0] or (module.rpartition("_")[0] if "." not in module else "")
        if not shorter:
            return module
        module = shorter
    return module


def imports(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, module_name(path), alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write imports in full"
            for alias in node.names:
                yield Import(path, node.lineno, module_name(path), f"{node.module}.{alias.name}")


def own_module(imported: str) -> str | None:
    """`datafly_lite.store.db.Store` -> `store.db`; None where it is not this program's."""
    package, _, name = imported.partition(".")
    if package != PACKAGE.name:
        return None
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def allowed(importer: str, imported: str) -> bool:
    here, there = part_of(importer), part_of(imported)
    if not imported or here == there or here in COMPOSITION:
        return True
    return bool({there, imported} & ARROWS.get(here, set()))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_import_follows_an_arrow() -> None:
    wrong = [
        f"{place(one.path, one.line)}: {part_of(one.importer)} -> {module}"
        for path in sources()
        for one in imports(path)
        if (module := own_module(one.imported)) is not None and not allowed(one.importer, module)
    ]
    assert sorted(set(wrong)) == []


def test_every_part_has_a_row() -> None:
    parts = {part_of(module) for module in MODULES if module}
    assert sorted(parts - set(ARROWS) - COMPOSITION) == []


def test_the_stages_do_not_know_one_another() -> None:
    stages = {"gateway", "log", "processor", "delivery"}
    assert {stage: ARROWS[stage] & stages for stage in stages} == {stage: set() for stage in stages}


def test_the_arrows_have_no_circle() -> None:
    done: set[str] = set()
    waiting = dict(ARROWS)
    while waiting:
        free = {part for part, targets in waiting.items() if {part_of(one) for one in targets} <= done}
        assert free, f"a circle among {sorted(waiting)}"
        done |= free
        waiting = {part: targets for part, targets in waiting.items() if part not in free}


def test_only_one_part_uses_each_library_that_reaches_outside() -> None:
    wrong = [
        f"{place(one.path, one.line)}: {one.imported}"
        for path in sources()
        for one in imports(path)
        for library, parts in ONLY.items()
        if f"{one.imported}.".startswith(f"{library}.") and part_of(one.importer) not in parts
    ]
    assert wrong == []


def test_no_sql_outside_the_store() -> None:
    wrong = [
        f"{place(path, node.lineno)}: {node.value[:60]!r}"
        for path in sources()
        if part_of(module_name(path)) != "store"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert wrong == []


def test_no_statement_is_run_outside_the_store() -> None:
    wrong = [
        f"{place(path, node.lineno)}: {node.func.attr}"
        for path in sources()
        if part_of(module_name(path)) != "store"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SQL_CALLS
    ]
    assert wrong == []


def test_files_stay_short() -> None:
    files = [*sources(), *(path for path in WEB.rglob("*") if path.suffix in {".js", ".html", ".css"})]
    long = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    long = [
        f"{place(path, node.lineno)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("gateway.door", "processor.steps", False),
        ("delivery.worker", "gateway.door", False),
        ("store.db", "management.users", False),
        ("retry", "store", False),
        ("gateway.door", "gateway.bodies", True),
        ("app", "gateway.door", True),
        ("processor.steps", "vendors.declaration", True),
        ("gateway.door", "app", False),
    ],
)
def test_the_table_is_read_as_meant(importer: str, imported: str, expected: bool) -> None:
    assert allowed(importer, imported) is expected

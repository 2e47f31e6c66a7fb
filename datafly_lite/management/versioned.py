"""Rules of the organisation that are kept version by version: no version ever changes, because an event
says by which it was processed. Version 0 is the program's defaults, which nobody saved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from anyio import to_thread

from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.paging import check_limit, decode_cursor, page
from datafly_lite.management.typed import decoded, differing, is_within
from datafly_lite.services import Services
from datafly_lite.store import accounts, data_layers

LARGEST_VERSION = 2**53
READ_ONLY = ("org_id", "updated_at", "updated_by")


class Rules(NamedTuple):
    """One kind: its table, the Struct of its configuration, (field, message) of what is wrong inside."""

    table: data_layers.Table
    config: type[msgspec.Struct]
    problems: Callable[[Any], Iterable[tuple[str, str]]]
    audited: Audited


def _as_it_is(value: Any) -> Any:
    return value


CHECKS: dict[str, f.Check] = {"config": _as_it_is, "version": f.whole(0, LARGEST_VERSION)}


async def newest(services: Services, rules: Rules) -> dict[str, Any]:
    """`{"org_id", "version", "config", "updated_at", "updated_by"}`, all of the configuration."""
    return await services.store.read(_newest, rules)


async def at(services: Services, rules: Rules, version: int) -> dict[str, Any]:
    """The same of one version. Raises NOT_FOUND."""
    return await services.store.read(_at, rules, version)


async def versions(
    services: Services, rules: Rules, *, cursor: str | None = None, limit: int = 50
) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, newest first: who saved each, when, and which fields that
    changed.
    """
    return await services.store.read(_page, rules, decode_cursor(cursor), check_limit(limit))


async def replace(
    services: Services, rules: Rules, fields: dict[str, Any], updated_by: str | None
) -> dict[str, Any]:
    """From `{config, version?}`: a new version of all of it, in force at once. What is left out of the
    configuration has its default; the same as before makes no version.

    Raises VALIDATION_ERROR with all that is wrong, and CONFLICT where `version` is given and another one
    was saved since.
    """
    present = await newest(services, rules)
    given = f.checked(_without_unchanged(fields, present), CHECKS, required=("config",))
    config = await checked_config(rules, given["config"])
    text = msgspec.json.encode(config).decode()
    now_ms = services.clock()
    saved = await auditing.write(
        services, rules.audited, _add, rules, text, given.get("version"), updated_by, now_ms
    )
    await services.configuration.reload()
    return saved


async def checked_config(rules: Rules, value: Any) -> msgspec.Struct:
    """The configuration as its Struct. Raises VALIDATION_ERROR with all that is wrong.

    In a thread: a script is read by running it.
    """
    return await to_thread.run_sync(_checked, rules, value)


# ── Checks ───────────────────────────────────────────────────────────────────────────────────


def _checked(rules: Rules, value: Any) -> msgspec.Struct:
    config, wrong = decoded(value, rules.config, "config")
    places = [one["field"] for one in wrong]
    for field, message in rules.problems(config):
        if not is_within(f"config.{field}", places):
            wrong.append({"field": f"config.{field}"[:200], "message": message})
    if wrong:
        raise f.invalid(wrong)
    return config


def _without_unchanged(fields: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """So that a client may PUT back the whole object that it got."""
    _check_version(fields.get("version"), present["version"])
    same = [name for name in READ_ONLY if name in fields and fields[name] == present[name]]
    return {name: value for name, value in fields.items() if name not in same}


def _check_version(expected: Any, present: int) -> None:
    """Anything but a number is for the checks."""
    if type(expected) is int and expected != present:
        words = f"version {present} was saved meanwhile" if expected < present else "there is no such version"
        raise AdminError("CONFLICT", f"version: {words}", details=[{"field": "version", "message": words}])


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def _add(
    connection: sqlite3.Connection,
    rules: Rules,
    text: str,
    expected: int | None,
    updated_by: str | None,
    now_ms: int,
) -> Changed[dict[str, Any]]:
    before = _newest(connection, rules)
    _check_version(expected, before["version"])
    if _built_in(rules, text) == before["config"]:
        return Changed(before)
    org_id = accounts.ensure_organisation(connection, new_id("org"), now_ms)
    data_layers.add(connection, rules.table, text, updated_by, now_ms)
    after = _newest(connection, rules)
    changes = auditing.differences(
        {"version": before["version"], **before["config"]}, {"version": after["version"], **after["config"]}
    )
    return Changed(after, org_id, changes)


def _newest(connection: sqlite3.Connection, rules: Rules) -> dict[str, Any]:
    return _shown(connection, rules, data_layers.newest(connection, rules.table))


def _at(connection: sqlite3.Connection, rules: Rules, version: int) -> dict[str, Any]:
    row = data_layers.at(connection, rules.table, version)
    if row is None and version != 0:
        raise AdminError("NOT_FOUND", "there is no such version")
    return _shown(connection, rules, row)


def _page(connection: sqlite3.Connection, rules: Rules, before: int | None, limit: int) -> dict[str, Any]:
    """Versions are counted up from 1 without a gap, and none is ever deleted."""
    top = data_layers.newest(connection, rules.table)
    last = 0 if top is None else top["version"]
    first = last if before is None else min(last, before - 1)
    wanted = range(first, max(first - limit, 0), -1)
    configs = [_at(connection, rules, version) for version in (*wanted, first - len(wanted)) if version >= 0]
    rows = [_summary(new, old) for new, old in pairwise(configs)]
    return page(rows, wanted[-1] if wanted and wanted[-1] > 1 else None)


# ── What is shown ────────────────────────────────────────────────────────────────────────────


def _shown(connection: sqlite3.Connection, rules: Rules, row: sqlite3.Row | None) -> dict[str, Any]:
    return {
        "org_id": accounts.organisation_id(connection),
        "version": row["version"] if row else 0,
        "config": _built_in(rules, row["config"] if row else "{}"),
        "updated_at": iso_s(row["created_at_ms"]) if row else None,
        "updated_by": row["created_by"] if row else None,
    }


def _built_in(rules: Rules, text: str) -> Any:
    """With the defaults of what an older program did not know."""
    config = msgspec.json.decode(text, type=rules.config)
    return msgspec.json.decode(msgspec.json.encode(config))


def _summary(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": new["version"],
        "updated_at": new["updated_at"],
        "updated_by": new["updated_by"],
        "changed": [field for field, _, _ in differing(old["config"], new["config"])],
    }

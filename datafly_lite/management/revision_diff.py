"""What is different between two revisions of an integration, without a secret in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from datafly_lite.keyring import Keyring
from datafly_lite.management.integrations import found_revision
from datafly_lite.services import Services
from datafly_lite.vendors.declaration import MASK

ChangeKind = Literal["added", "removed", "changed"]


class FieldChange(msgspec.Struct, kw_only=True, frozen=True):
    """`field` is dotted: `headers.X-Key`. A secret is "***" on both sides, and `changed` where it differs."""

    field: str
    change: ChangeKind
    old: Any
    new: Any


class RevisionDiff(msgspec.Struct, kw_only=True, frozen=True):
    """From the revision with the number `old_revision` to `new_revision`, by the names of the fields."""

    integration_id: str
    old_revision: int
    new_revision: int
    changes: list[FieldChange]


async def diff(services: Services, integration_id: str, old: int, new: int) -> RevisionDiff:
    """Raises NOT_FOUND."""
    return await services.store.read(_diff, integration_id, old, new, services.keyring)


def _diff(
    connection: sqlite3.Connection, integration_id: str, old: int, new: int, keyring: Keyring
) -> RevisionDiff:
    before, after = (_Side(found_revision(connection, integration_id, one), keyring) for one in (old, new))
    changes = [*_changes(before.config, after.config), *_changed_secrets(before, after)]
    return RevisionDiff(
        integration_id=integration_id,
        old_revision=old,
        new_revision=new,
        changes=sorted(changes, key=lambda one: one.field),
    )


class _Side:
    """A revision's configuration with masks, and the secrets behind them."""

    def __init__(self, row: sqlite3.Row, keyring: Keyring) -> None:
        self.config: dict[str, Any] = msgspec.json.decode(row["config"])
        self.secrets: dict[str, str] = msgspec.json.decode(keyring.decrypt(row["secrets_ciphertext"]))


def _changed_secrets(before: _Side, after: _Side) -> Iterator[FieldChange]:
    for name in before.secrets.keys() & after.secrets.keys():
        if before.secrets[name] != after.secrets[name]:
            yield FieldChange(field=name, change="changed", old=MASK, new=MASK)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[FieldChange]:
    """Objects are compared by their fields, everything else as a whole."""
    for name in old.keys() | new.keys():
        field, one, other = prefix + name, old.get(name), new.get(name)
        if name not in new:
            yield FieldChange(field=field, change="removed", old=one, new=None)
        elif name not in old:
            yield FieldChange(field=field, change="added", old=None, new=other)
        elif isinstance(one, dict) and isinstance(other, dict):
            yield from _changes(one, other, f"{field}.")
        elif not _is_same(one, other):
            yield FieldChange(field=field, change="changed", old=one, new=other)


def _is_same(one: Any, other: Any) -> bool:
    """As JSON has it: there 1, 1.0 and true are not the same."""
    return msgspec.json.encode(one) == msgspec.json.encode(other)

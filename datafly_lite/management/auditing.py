"""Changes with their entry in the audit log: what every resource's changes go through.

A change is one function of a transaction that says what it did:

    async def create_thing(services: Services, fields: dict[str, Any]) -> dict[str, Any]:
        ...
        return await auditing.write(services, Audited("thing.created", "thing"), _create, columns)

    def _create(connection, columns) -> Changed[dict[str, Any]]:
        rows.insert(connection, columns)
        return created(_get(connection, columns["id"]))         # the object as the API shows it

    def _update(connection, thing_id, given) -> Changed[dict[str, Any]]:
        before = _get(connection, thing_id)
        rows.update(connection, ...)
        return updated(before, _get(connection, thing_id))       # no entry where nothing is different

    def _delete(connection, thing_id) -> Changed[None]:
        before = _get(connection, thing_id)
        rows.delete(connection, thing_id)
        return deleted(before)

Secrets never go in: only what the API shows, "***". `updated(before, after, secrets=["api_secret"])` says
that the value behind a mask is another one. Anything else is `Changed(result, resource_id, changes)` with
`changes` as `{"field": {"old": ..., "new": ...}}`, `{}` where there is nothing to tell beside the action.
Who did it needs no argument (audit.py); a change that raises leaves no entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from datafly_lite import audit
from datafly_lite.audit import (
    SECRET_CHANGED,
    Audited,
    Change,
    Changed,
    created,
    deleted,
    differences,
    updated,
)
from datafly_lite.services import Services

__all__ = [
    "SECRET_CHANGED",
    "Audited",
    "Change",
    "Changed",
    "created",
    "deleted",
    "differences",
    "updated",
    "write",
    "write_alone",
]

T = TypeVar("T")


async def write(services: Services, audited: Audited, change: Callable[..., Changed[T]], *args: Any) -> T:
    """Run `change(connection, *args)` and add its entry in one transaction; the change's result.

    Raises what `change` raises, with nothing changed and no entry.
    """
    return await audit.write(services.store, services.clock, audited, change, *args)


async def write_alone(
    services: Services, audited: Audited, change: Callable[..., Changed[T]], *args: Any
) -> T:
    """As `write`, of what the processor reads before a batch and writes after it: between two of them."""
    return await audit.write_through(services.alone, services.clock, audited, change, *args)

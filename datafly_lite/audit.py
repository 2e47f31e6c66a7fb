"""The audit log: who acts, what a change was, and the entry that goes with it (spec/datafly-signal.md, 9.5).

Who acts is known where a request comes in (`acting`) and read where a change is handed to the store
(`write`), so that nothing between them needs to pass it on. The entry is part of the change's own
transaction: neither is there without the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from datafly_lite.clock import Clock, new_id
from datafly_lite.store import Store, audit_logs

T = TypeVar("T")

Writer = Callable[..., Awaitable[Any]]
"""`Store.write`, or what comes to it in the end."""

Change = Mapping[str, Any]
"""`{"old": value, "new": value}`, as the API shows them; null where there was none."""

SECRET_CHANGED: Change = {"old": "***", "new": "*** (changed)"}
"""All that is told of a new value behind a mask."""

LARGEST_VALUE_BYTES = 65_536
"""Of one old or new value as JSON; what is larger is told by its size."""

LONGEST_EMAIL = 300
LONGEST_USER_AGENT = 500
LONGEST_ADDRESS = 100

UNTOLD = frozenset({"id", "org_id", "created_at", "updated_at"})
"""Fields of every object that an entry need not repeat: it has its own id and time."""


class Actor(NamedTuple):
    """Who acts, and from where. All None: the program itself, or its operator at the machine."""

    user_id: str | None = None
    user_email: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None


NOBODY = Actor()

_actor: ContextVar[Actor] = ContextVar("actor", default=NOBODY)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Whatever is changed inside, in this task and those that it starts, is this actor's doing."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


class Audited(NamedTuple):
    """What an entry says was done, such as `pipeline.created`, to what kind of thing."""

    action: str
    resource_type: str


class Changed(NamedTuple, Generic[T]):
    """What a change did: its result, and what its entry says. `changes` of None: nothing, so no entry.

    `by` is (user_id, user_email) of a change that itself finds out who acts, such as a log-in.
    """

    result: T
    resource_id: str | None = None
    changes: Mapping[str, Change] | None = None
    by: tuple[str | None, str | None] | None = None


def created(new: dict[str, Any]) -> Changed[dict[str, Any]]:
    """Of an object as the API shows it, with its `id`; the object is the result."""
    return Changed(new, str(new["id"]), differences({}, new))


def updated(
    old: Mapping[str, Any], new: dict[str, Any], secrets: Iterable[str] = ()
) -> Changed[dict[str, Any]]:
    """Of the object before and after; the latter is the result. `secrets` are the masked fields whose value
    behind the mask is another one. No entry where nothing is different.
    """
    changes = {**differences(old, new), **dict.fromkeys(secrets, SECRET_CHANGED)}
    return Changed(new, str(new["id"]), changes or None)


def deleted(old: Mapping[str, Any]) -> Changed[None]:
    """Of the object before."""
    return Changed(None, str(old["id"]), differences(old, {}))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Change]:
    """The fields that are not the same; a field that is not there counts as null."""
    names = [name for name in {**old, **new} if name not in UNTOLD]
    return {
        name: {"old": old.get(name), "new": new.get(name)} for name in names if old.get(name) != new.get(name)
    }


async def write(
    store: Store, clock: Clock, audited: Audited, change: Callable[..., Changed[T]], *args: Any
) -> T:
    """Run `change(connection, *args)` in a transaction, with the entry that it asks for; its result.

    Raises what `change` raises, with nothing changed and no entry.
    """
    return await write_through(store.write, clock, audited, change, *args)


async def write_through(
    writer: Writer, clock: Clock, audited: Audited, change: Callable[..., Changed[T]], *args: Any
) -> T:
    """As `write`, by a writer that waits for its turn, such as `Processor.alone`."""
    result: T = await writer(_perform, audited, _actor.get(), clock(), change, args)
    return result


def _perform(
    connection: sqlite3.Connection,
    audited: Audited,
    actor: Actor,
    now_ms: int,
    change: Callable[..., Changed[T]],
    args: tuple[Any, ...],
) -> T:
    changed = change(connection, *args)
    if changed.changes is not None:
        audit_logs.insert(connection, _entry(audited, actor, changed, changed.changes, now_ms))
    return changed.result


def _entry(
    audited: Audited, actor: Actor, changed: Changed[Any], changes: Mapping[str, Change], now_ms: int
) -> audit_logs.Entry:
    user_id, user_email = changed.by or (actor.user_id, actor.user_email)
    bounded = {
        name: {side: _bounded(one) for side, one in change.items()} for name, change in changes.items()
    }
    return audit_logs.Entry(
        id=new_id("log"),
        action=audited.action,
        user_id=user_id,
        user_email=_cut(user_email, LONGEST_EMAIL),
        resource_type=audited.resource_type,
        resource_id=changed.resource_id,
        changes=msgspec.json.encode(bounded).decode(),
        ip_address=_cut(actor.ip_address, LONGEST_ADDRESS),
        user_agent=_cut(actor.user_agent, LONGEST_USER_AGENT),
        at_ms=now_ms,
    )


def _bounded(value: Any) -> Any:
    size_bytes = len(msgspec.json.encode(value))
    return f"({size_bytes:,} bytes, too long to keep here)" if size_bytes > LARGEST_VALUE_BYTES else value


def _cut(text: str | None, longest: int) -> str | None:
    """Strangers choose it: half characters, which no store takes, are replaced."""
    return text and text[:longest].encode("utf-8", "replace").decode()

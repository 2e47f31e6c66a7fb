"""What is known before a batch, carried from event to event, and what of it has changed at the end.

It is read once a batch. The processor is the only one who writes it while it runs, but for a person who
unlinks a visitor: that waits for the batch (Processor.alone).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from datafly_lite import consent, identity, pii, profiles
from datafly_lite.data_layer import Rules
from datafly_lite.events import DropReason, Event, Record
from datafly_lite.identity import Known
from datafly_lite.processor.passage import Inputs, Passage, address_of
from datafly_lite.profiles import Profile
from datafly_lite.sessions import Session
from datafly_lite.store import visitors as rows
from datafly_lite.vendor_ids import VendorId

decode_consent = msgspec.json.Decoder(consent.State).decode
decode_vendor_ids = msgspec.json.Decoder(dict[str, VendorId]).decode

Locate = Callable[[str], dict[str, Any]]
"""An address -> country, region, city and timezone, as far as they are known."""


def nowhere(_: str) -> dict[str, Any]:
    """Where the operator has no database of places."""
    return {}


SessionKey = tuple[str, str]
"""(pipeline_id, anonymous_id)."""

ProfileKey = tuple[str, str]
"""('user' or 'group', id)."""


class Link(NamedTuple):
    """A visitor that turned out to be a user, by the event at `offset`."""

    anonymous_id: str
    user_id: str
    offset: int
    at_ms: int


class Visitor(msgspec.Struct, frozen=True):
    """What is known of one, and when it was seen, in milliseconds."""

    known: Known = Known()
    consent: consent.State = consent.State()
    first_seen_at_ms: int = 0
    last_seen_at_ms: int = 0


class State(msgspec.Struct):
    """By anonymous id, by pipeline and anonymous id, by kind and id, by digest (-> offset, time); and the
    links that were made since it was read.
    """

    visitors: dict[str, Visitor] = {}
    sessions: dict[SessionKey, Session] = {}
    profiles: dict[ProfileKey, Profile] = {}
    keys: dict[bytes, tuple[int, int]] = {}
    links: list[Link] = []

    def copy(self) -> State:
        """One that takes up what a batch changes; the values themselves never change."""
        return State(
            dict(self.visitors), dict(self.sessions), dict(self.profiles), dict(self.keys), list(self.links)
        )

    def inputs_of(self, record: Record, rules: Rules, pipeline: str, locate: Locate) -> Inputs:
        """What the steps of one event are given."""
        event = record.event
        if event is None:
            return Inputs()
        visitor = self.visitors.get(event.anonymous_id or "", Visitor())
        own = _ids(event, rules)[0]
        user_id = own if identity.is_user_id(own) else visitor.known.user_id
        profile = self.profiles.get(("user", user_id)) if user_id else None
        return Inputs(
            known=visitor.known,
            traits=profiles.attached(profile) if profile else {},
            consent=visitor.consent,
            session=self.sessions.get((record.pipeline_id, event.anonymous_id or "")),
            geo=locate(address) if (address := address_of(record.envelope, event)) else {},
            duplicate_of=self._first_with_its_key(record, event, rules),
            pipeline=pipeline,
        )

    def _first_with_its_key(self, record: Record, event: Event, rules: Rules) -> int | None:
        since_ms = record.envelope.received_at_ms - rules.data_layer.deduplication.window_hours * 3_600_000
        for key in rules.idempotency_keys(event, record.pipeline_id):
            offset, at_ms = self.keys.get(key, (0, 0))
            if offset and at_ms > since_ms:
                return offset
        return None

    def take(self, record: Record, passage: Passage, reason: DropReason | None) -> None:
        """What is known after one event, which was dropped for all integrations if there is a `reason`."""
        if reason is None:  # what reached nobody must not stand in the way of what is sent again
            self._take_keys(record, passage)
        if passage.said is not None:
            self._take_traits(record, passage.said, passage)
            self._take_alias(record, passage.said, passage)
        visitor = visitor_of(record)
        if not visitor:
            return
        before, at_ms = self.visitors.get(visitor), passage.at_ms
        self._link(visitor, passage.inputs.known, passage.known, record.offset, at_ms)
        self.visitors[visitor] = Visitor(
            passage.known,
            passage.consent,
            min(before.first_seen_at_ms, at_ms) if before else at_ms,
            max(before.last_seen_at_ms, at_ms) if before else at_ms,
        )
        if passage.session is not None:
            self.sessions[record.pipeline_id, visitor] = passage.session

    def _take_alias(self, record: Record, said: Event, passage: Passage) -> None:
        """An alias can be about a visitor that did not send it, but about none that was never seen.

        It speaks of the user that it names itself: where that is nobody, the known one is not meant.
        """
        other = identity.other_visitor(record.event) if record.event else None
        before = self.visitors.get(other) if other else None
        if other and before is not None and other == identity.other_visitor(said):
            known = identity.after_alias(said, before.known)
            self._link(other, before.known, known, record.offset, passage.at_ms)
            self.visitors[other] = msgspec.structs.replace(before, known=known)

    def _link(self, visitor: str, before: Known, after: Known, offset: int, at_ms: int) -> None:
        if after.user_id is not None and after.user_id != before.user_id:
            self.links.append(Link(visitor, after.user_id, offset, at_ms))

    def _take_keys(self, record: Record, passage: Passage) -> None:
        if record.event is not None and passage.inputs.duplicate_of is None:
            for key in passage.rules.idempotency_keys(record.event, record.pipeline_id):
                self.keys[key] = (record.offset, record.envelope.received_at_ms)

    def _take_traits(self, record: Record, said: Event, passage: Passage) -> None:
        """Of the user or the group that the event describes."""
        if said.type not in ("identify", "group"):
            return
        kind, owner = ("user", said.user_id)
        if said.type == "group":  # a group of nobody is not the one that is known of the visitor
            own = record.event.group_id if record.event else None
            kind, owner = "group", None if own is None or identity.is_nonsense(own) else said.group_id
        if owner and not identity.is_nonsense(owner):
            before = self.profiles.get((kind, owner), Profile())
            self.profiles[kind, owner] = profiles.merged(before, passage.traits, passage.at_ms)


def load(connection: sqlite3.Connection, records: Sequence[Record], rules: Rules) -> State:
    """What is known of the visitors and users of a batch."""
    found = rows.read(connection, wanted_of(records, rules))
    return State(
        {row["anonymous_id"]: _visitor(row) for row in found.identities},
        {(row["pipeline_id"], row["anonymous_id"]): _session(row) for row in found.sessions},
        {(row["kind"], row["id"]): _profile(row) for row in found.profiles},
        {row["digest"]: (row["offset"], row["at_ms"]) for row in found.keys},
    )


def wanted_of(records: Sequence[Record], rules: Rules) -> rows.Wanted:
    """What a batch's events name."""
    named = [(record, record.event) for record in records if record.event is not None]
    ids = [_ids(event, rules) for _, event in named]
    return rows.Wanted(
        anonymous_ids={
            visitor
            for _, event in named
            for visitor in (event.anonymous_id, identity.other_visitor(event))
            if visitor
        },
        pipeline_ids={record.pipeline_id for record in records},
        user_ids={user_id for user_id, _ in ids if user_id},
        group_ids={group_id for _, group_id in ids if group_id},
        digests={key for record, event in named for key in rules.idempotency_keys(event, record.pipeline_id)},
    )


def visitor_of(record: Record) -> str | None:
    """Whose event it is: whatever a script makes of it, what is known and agreed to is this visitor's."""
    return record.event.anonymous_id if record.event else None


def _ids(event: Event, rules: Rules) -> tuple[str | None, str | None]:
    """userId and groupId as the data layer leaves them: it may hash both, and traits are kept by those."""
    pii_rules = rules.data_layer.pii_rules
    if not any("userId" in path or "groupId" in path for path in pii_rules.hash_fields):
        return event.user_id, event.group_id
    bare = Event(
        type=event.type,
        message_id="",
        timestamp="",
        received_at="",
        user_id=event.user_id if identity.is_user_id(event.user_id) else None,
        group_id=event.group_id,
    )
    pii.protect(bare, pii_rules)
    return bare.user_id, bare.group_id


def _visitor(row: sqlite3.Row) -> Visitor:
    known = Known(row["user_id"], row["group_id"], decode_vendor_ids(row["vendor_ids"]), row["linked_at_ms"])
    return Visitor(known, decode_consent(row["consent"]), row["first_seen_at_ms"], row["last_seen_at_ms"])


def _session(row: sqlite3.Row) -> Session:
    return Session(
        row["id"],
        row["number"],
        row["started_at_ms"],
        row["last_at_ms"],
        row["ends_at_ms"],
        bool(row["has_start"]),
    )


def _profile(row: sqlite3.Row) -> Profile:
    return Profile(msgspec.json.decode(row["traits"]), msgspec.json.decode(row["set_at_ms"]))

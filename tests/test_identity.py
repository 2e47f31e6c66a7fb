"""Who a visitor is: what links, what never does, and that two known users stay two."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from datafly_lite import identity
from datafly_lite.events import Event, EventType
from datafly_lite.identity import Known
from datafly_lite.vendor_ids import VendorId

VISITOR = "0e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
NOBODY = Known()
DAY_MS = 86_400_000


def event(type: EventType, **fields: Any) -> Event:
    own = {"anonymous_id": VISITOR, **fields}
    return Event(type=type, message_id="m", timestamp="", received_at="", **own)


def test_identify_links_the_visitor_to_its_user() -> None:
    known = identity.after(event("identify", user_id="u-1"), NOBODY)
    assert known == Known("u-1")
    assert identity.after(event("identify", user_id="u-1"), known) is known


@pytest.mark.parametrize("type", ["track", "page", "screen", "group"])
def test_two_ids_on_another_event_link_nobody(type: EventType) -> None:
    """A server that sends all its users' events with one anonymousId would make one person of them."""
    assert identity.after(event(type, user_id="u-1"), NOBODY) is NOBODY


def test_an_identify_without_a_user_links_nobody() -> None:
    """Segment's browser SDK sends the traits of people who are not logged in so."""
    assert identity.after(event("identify", traits={"newsletter": True}), NOBODY) is NOBODY
    known = Known("u-1", "g-1")
    assert identity.after(event("identify", traits={"newsletter": True}), known) is known


def test_a_later_identify_hands_the_visitor_over_and_leaves_the_group_behind() -> None:
    known = Known("u-1", "g-1")
    assert identity.after(event("identify", user_id="u-1"), known) is known
    assert identity.after(event("identify", user_id="u-2"), known) == Known("u-2")
    assert identity.after(event("identify", user_id="u-1"), Known(None, "g-1")) == known


def test_a_group_is_the_visitors_and_so_its_users() -> None:
    known = identity.after(event("group", group_id="g-1"), Known("u-1"))
    assert known == Known("u-1", "g-1")
    assert identity.after(event("track", group_id="g-2"), known) is known
    assert identity.after(event("group", group_id="g-2"), known) == Known("u-1", "g-2")


@pytest.mark.parametrize(
    ("fields", "known", "expected"),
    [
        ({}, NOBODY, (None, None)),
        ({}, Known("u-1", "g-1"), ("u-1", "g-1")),
        ({"user_id": "u-1"}, Known("u-1", "g-1"), ("u-1", "g-1")),
        ({"user_id": "u-2"}, Known("u-1", "g-1"), ("u-2", None)),
        ({"user_id": "u-2", "group_id": "g-2"}, Known("u-1", "g-1"), ("u-2", "g-2")),
        ({"user_id": "u-2"}, Known(None, "g-1"), ("u-2", "g-1")),
        ({"user_id": "undefined", "group_id": "null"}, Known("u-1", "g-1"), ("u-1", "g-1")),
        ({"user_id": "undefined", "group_id": "null"}, NOBODY, (None, None)),
    ],
)
def test_later_events_carry_what_is_known_of_their_visitor(
    fields: dict[str, Any], known: Known, expected: tuple[str | None, str | None]
) -> None:
    assert identity.carried(event("track", **fields), known) == expected


# ── PostHog's failures, by the number of their issue ─────────────────────────────────────────


def test_posthog_5527_who_logs_in_as_another_does_not_join_the_two() -> None:
    """`identify` of a known user to another known user merged them, and the data could not be taken apart."""
    first = identity.after(event("identify", user_id="alice"), NOBODY)
    second = identity.after(event("identify", user_id="bob"), first)
    elsewhere = identity.after(event("identify", user_id="alice", anonymous_id="other"), NOBODY)
    assert (second.user_id, elsewhere.user_id) == ("bob", "alice")


def test_posthog_11873_alias_does_not_join_two_known_users() -> None:
    known = Known("alice")
    assert identity.after(event("alias", user_id="bob", previous_id="alice"), known) is known
    assert identity.after(event("alias", user_id="bob", previous_id=VISITOR), known) is known
    assert identity.after_alias(event("alias", user_id="bob", previous_id="anon"), known) is known


NONSENSE = ("undefined", "null", "[object Object]", "0", "NaN", " None ", "true", "", " ", "anonymous", "-1")


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize(
    "wrap", [str, str.upper, json.dumps, "'{}'".format, lambda text: json.dumps(json.dumps(text))]
)
def test_posthog_12008_an_id_of_nobody_links_nobody(text: str, wrap: Any) -> None:
    """`undefined` and `[object Object]` as ids joined thousands of visitors into one user, also in quotes."""
    assert identity.is_nonsense(wrap(text))
    assert identity.after(event("identify", user_id=wrap(text)), Known("u-1")) == Known("u-1")
    assert identity.after(event("group", group_id=wrap(text)), Known("u-1", "g-1")) == Known("u-1", "g-1")
    assert identity.other_visitor(event("alias", user_id="u-1", previous_id=wrap(text))) is None


@pytest.mark.parametrize(
    "text",
    [
        "00000000-0000-0000-0000-000000000000",
        "{{ user.id }}",
        "${userId}",
        "*|UNIQID|*",
        "%%subscriber%%",
        "{}",
        "[object Undefined]",
        "\u200b",
    ],
)
def test_what_nobody_filled_in_is_an_id_of_nobody(text: str) -> None:
    assert identity.is_nonsense(text)


@pytest.mark.parametrize(
    "text",
    ["u-1", "7", "10", "test@example.com", "nullable", "O'Null", "guest-7", "{x}", "id-1", "é", VISITOR],
)
def test_an_id_that_only_looks_odd_is_somebodys(text: str) -> None:
    assert not identity.is_nonsense(text)
    assert identity.after(event("identify", user_id=text), NOBODY).user_id == text


def test_posthog_5102_the_visit_before_the_login_is_the_users_too() -> None:
    """There the anonymous id stayed alone after identify; here the visitor is linked with all it had."""
    ids = {"fbp": VendorId("fb.1.1596403881668.1116446470", 5)}
    known = identity.after(event("page"), Known(vendor_ids=ids))
    assert identity.after(event("identify", user_id="u-1"), known) == Known("u-1", None, ids)


# ── alias ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_id": VISITOR},
        {},
        {"previous_id": "the-sdks-own", "original": {"anonymousId": "the-sdks-own"}},
    ],
    ids=["cookie", "none", "client"],
)
def test_an_alias_of_its_own_visitor_links_like_an_identify(fields: dict[str, Any]) -> None:
    alias = event("alias", user_id="u-1", **fields)
    assert identity.after(alias, NOBODY) == Known("u-1")
    assert identity.other_visitor(alias) is None


def test_an_alias_of_another_visitor_leaves_its_own_alone() -> None:
    alias = event("alias", user_id="u-1", previous_id="another")
    assert identity.after(alias, NOBODY) is NOBODY
    assert identity.other_visitor(alias) == "another"
    assert identity.after_alias(alias, Known(None, "g-1")) == Known("u-1", "g-1")


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "u-1", "previous_id": "u-1"},
        {"user_id": "null", "previous_id": "another"},
        {"user_id": None, "previous_id": "another"},
    ],
)
def test_an_alias_that_names_no_two_speaks_of_nobody_else(fields: dict[str, Any]) -> None:
    """analytics-next sends a user's id in both places (captures, segment-analytics-next)."""
    assert identity.other_visitor(event("alias", **fields)) is None
    assert identity.after(event("alias", **fields), NOBODY) is NOBODY


# ── Vendors' ids ─────────────────────────────────────────────────────────────────────────────


def test_vendors_ids_are_known_with_the_visitor() -> None:
    found = {"gclid": VendorId("Cj0KCQiA-click-1", 5), "ga4_client_id": VendorId("1.2", 5)}
    known = identity.after(event("page"), Known("u-1", "g-1"), found, 5)
    assert known == Known("u-1", "g-1", found)
    assert identity.after(event("page"), known, found, 5) is known
    assert identity.after(event("page"), known, {}, 5, names={"gclid"}).vendor_ids.keys() == {"gclid"}


# ── Any sequence ─────────────────────────────────────────────────────────────────────────────

VISITORS = st.sampled_from(["a", "b", "c"])
USERS = st.sampled_from(["u-1", "u-2", "undefined", "", None])


class Links(RuleBasedStateMachine):
    """Events of three visitors in any order, as the processor takes them."""

    @initialize()
    def begin(self) -> None:
        self.known = {visitor: NOBODY for visitor in "abc"}
        self.said: dict[str, set[str]] = {visitor: set() for visitor in "abc"}

    @rule(visitor=VISITORS, user=USERS)
    def identify(self, visitor: str, user: str | None) -> None:
        before = dict(self.known)
        self._take(event("identify", anonymous_id=visitor, user_id=user))
        if user in ("u-1", "u-2"):
            self.said[visitor].add(user)
            assert self.known[visitor].user_id == user
        assert all(self.known[other] == before[other] for other in "abc" if other != visitor)

    @rule(visitor=VISITORS, user=USERS, previous=VISITORS | USERS)
    def alias(self, visitor: str, user: str | None, previous: str | None) -> None:
        before = dict(self.known)
        self._take(event("alias", anonymous_id=visitor, user_id=user, previous_id=previous))
        for name, was in before.items():
            if was.user_id is not None:
                assert self.known[name].user_id == was.user_id
            elif self.known[name].user_id is not None:
                assert name in (visitor, previous)
                self.said[name].add(self.known[name].user_id or "")

    @rule(visitor=VISITORS, user=USERS, group=st.sampled_from(["g-1", "null", None]))
    def others(self, visitor: str, user: str | None, group: str | None) -> None:
        before = {name: one.user_id for name, one in self.known.items()}
        self._take(event("track", anonymous_id=visitor, user_id=user))
        self._take(event("group", anonymous_id=visitor, user_id=user, group_id=group))
        assert {name: one.user_id for name, one in self.known.items()} == before

    def _take(self, one: Event) -> None:
        visitor = one.anonymous_id or ""
        self.known[visitor] = identity.after(one, self.known[visitor])
        other = identity.other_visitor(one)
        if other in self.known:
            self.known[other] = identity.after_alias(one, self.known[other])

    @invariant()
    def a_visitor_is_only_who_it_was_said_to_be(self) -> None:
        for visitor, known in getattr(self, "known", {}).items():
            assert known.user_id is None or known.user_id in self.said[visitor]
            assert known.group_id in (None, "g-1")


TestLinks = Links.TestCase


@given(st.text(max_size=30))
def test_whitespace_and_quotes_around_an_id_change_nothing_of_what_it_is(text: str) -> None:
    assert identity.is_nonsense(f' "{text}" ') == identity.is_nonsense(text)


def test_an_identify_that_comes_late_does_not_take_the_visitor_back() -> None:
    now = identity.after(event("identify", user_id="new"), Known(), at_ms=2_000)
    late = identity.after(event("identify", user_id="old"), now, at_ms=1_000)
    assert late.user_id == "new"
    assert identity.after(event("identify", user_id="next"), late, at_ms=3_000).user_id == "next"

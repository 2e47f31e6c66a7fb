"""Sessions by the time of events: pauses, limits, lateness, and the events that begin and end them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from datafly_lite import sessions
from datafly_lite.sessions import HOUR_MS, MINUTE_MS, Session, SessionRules

NOON_MS = 1_772_020_800_000
RULES = SessionRules()
TRACKED = SessionRules(track_session_start=True, track_session_end=True)


def seen(*minutes: float, rules: SessionRules = RULES) -> Session:
    session: Session | None = None
    for minute in minutes:
        session = sessions.after(session, NOON_MS + round(minute * MINUTE_MS), rules)
    assert session is not None
    return session


def test_a_session_goes_on_through_pauses_of_30_minutes_and_no_longer() -> None:
    assert seen(0, 30, 60) == Session(str(NOON_MS), 1, NOON_MS, NOON_MS + HOUR_MS)
    again = seen(0, 30.001)
    assert (again.number, again.started_at_ms) == (2, NOON_MS + round(30.001 * MINUTE_MS))
    assert again.id == str(again.started_at_ms)


def test_a_session_is_no_longer_than_24_hours_however_busy() -> None:
    assert seen(*range(0, 24 * 60 + 1, 20)).number == 1
    assert seen(*range(0, 24 * 60 + 21, 20)).number == 2


def test_an_event_that_comes_late_moves_nothing() -> None:
    session = seen(0, 20)
    assert sessions.after(session, NOON_MS + MINUTE_MS, RULES) is session
    assert sessions.after(session, NOON_MS - 5 * HOUR_MS, RULES) is session


def test_an_event_from_before_the_session_is_not_of_it_but_together_is_in_any_order() -> None:
    session = seen(0)
    assert sessions.holds(session, NOON_MS - MINUTE_MS)
    assert not sessions.holds(session, NOON_MS - MINUTE_MS - 1)


def test_the_end_is_due_after_the_pause_or_the_longest_time_whichever_comes_first() -> None:
    assert seen(0, 10, rules=TRACKED).ends_at_ms == NOON_MS + 40 * MINUTE_MS
    long = seen(*range(0, 24 * 60, 20), rules=TRACKED)
    assert long.ends_at_ms == NOON_MS + 24 * HOUR_MS
    assert seen(0, 10).ends_at_ms is None


def test_an_end_that_was_made_stays_made_when_a_late_event_comes() -> None:
    ended = Session("1", 1, NOON_MS, NOON_MS)
    assert sessions.after(ended, NOON_MS + MINUTE_MS, TRACKED).ends_at_ms is None


def test_the_events_of_a_session_have_ids_that_follow_from_it() -> None:
    session = seen(0, 10)
    start, end = (
        sessions.moment_of(moment, session, "pip_1", "visitor") for moment in ("session_start", "session_end")
    )
    assert start["messageId"] != end["messageId"]
    assert start == sessions.moment_of("session_start", session, "pip_1", "visitor")
    assert (start["timestamp"], end["timestamp"]) == ("2026-02-25T12:00:00.000Z", "2026-02-25T12:10:00.000Z")
    assert end["properties"] == {"session_id": session.id, "session_number": 1, "duration_s": 600}


@given(st.lists(st.integers(0, 3 * 24 * 60), min_size=1, max_size=40))
def test_no_session_has_a_pause_or_a_length_beyond_its_limits(minutes: list[int]) -> None:
    session: Session | None = None
    times: dict[str, list[int]] = {}
    for minute in sorted(minutes):
        at_ms = NOON_MS + minute * MINUTE_MS
        session = sessions.after(session, at_ms, RULES)
        times.setdefault(session.id, []).append(at_ms)
    for of_one in times.values():
        assert of_one[-1] - of_one[0] <= RULES.max_duration_ms
        assert all(after - before <= RULES.timeout_ms for before, after in itertools.pairwise(of_one))
    assert session is not None
    assert session.number == len(times)

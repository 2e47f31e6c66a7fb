"""What a visitor agreed to: every way of saying it, what is kept of it, and what follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite import consent
from datafly_lite.consent import CANONICAL, MAX_FOREIGN, REFUSABLE, ConsentSettings, State
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway import event_of, limits
from datafly_lite.settings import Settings

WITHIN = limits(Settings())
UNSET = ConsentSettings()
NUMBERS = ConsentSettings(mapping={"1": "analytics", "2": "marketing", "3": "functional", "9": "ignore"})
STRICT = ConsentSettings(default_policy=dict.fromkeys(REFUSABLE, False))
NO_TO_ALL = dict.fromkeys(REFUSABLE, False)


def event(context: dict[str, Any]) -> Event:
    return Event(type="track", event="x", message_id="m", timestamp="", received_at="", context=context)


def sent(dialect: str, body: dict[str, Any]) -> Event:
    """An event as the door reads it."""
    envelope = Envelope(dialect=dialect, message_id="m", received_at_ms=1, anonymous_id="a")
    return event_of(envelope, msgspec.json.encode(body), WITHIN)


# ── What an event says ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "context",
    [
        {"consent": {"categoryPreferences": {"Advertising": False, "Analytics": True, "DataSharing": False}}},
        {"consent": {"categories": {"Marketing": False}}},
        {"consent": {"categories": {"C0004": False, "C0002": True}}},
        {"consent": {"canonical": {"advertising": False}}},
        {"consent": {"marketing": "false", "analytics": "granted"}},
        {"consent": {"ad_storage": "denied", "analytics_storage": "granted"}},
        {"consent": {" Marketing ": False}},
        {"consentManagement": {"deniedConsentIds": ["Marketing"], "allowedConsentIds": ["analytics"]}},
    ],
)
def test_a_no_is_a_no_in_any_vocabulary(context: dict[str, Any]) -> None:
    choices = consent.stated(event(context), UNSET)
    assert choices["marketing"] is False
    assert choices.get("analytics", True) is True
    assert consent.refused(choices, ["advertising", "analytics"]) == ("advertising",)
    assert consent.is_refused(context, ["advertising"])
    assert not consent.is_refused(context, ["analytics"])


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, {}),
        ("yes", {}),
        ({"analytics": True, "advertising": False}, {"analytics": True, "marketing": False}),
        ({"categories": {"statistics": False, "analytics": True}}, {"analytics": True}),
        ({"categoryPreferences": {"marketing": False}}, {"marketing": False}),
        ({"categories": {"marketing": False}, "canonical": {"marketing": True}}, {"marketing": True}),
        ({"categories": {"marketing": True}, "canonical": {"marketing": False}}, {"marketing": False}),
        ({"canonical": {"advertising": True, "marketing": False}}, {"marketing": False}),
        ({"marketing": True, "categories": {"C0004": False}}, {"marketing": True}),
        ({"marketing": False, "categories": {"C0004": True}}, {"marketing": True}),
        ({"analytics": "no", "marketing": 0}, {}),
        ({"x" * 101: False}, {}),
    ],
)
def test_consent_in_the_products_own_words(stated: Any, expected: dict[str, bool]) -> None:
    assert consent.canonical({"consent": stated}) == expected


def test_the_organisations_codes_go_before_the_products() -> None:
    settings = ConsentSettings(mapping={"STATISTICS": "marketing", "dataSharing": "personalization"})
    said = {"consent": {"categories": {"statistics": False, "DataSharing": True, "C0002": True}}}
    assert consent.stated(event(said), settings) == {
        "marketing": False,
        "personalization": True,
        "analytics": True,
    }


def test_of_several_codes_for_one_category_either_grant_is_enough() -> None:
    settings = ConsentSettings(mapping={"measuring": "analytics", "testing": "analytics"})
    for first, second in ((True, False), (False, True)):
        said = {"consent": {"categories": {"measuring": first, "testing": second}}}
        assert consent.stated(event(said), settings) == {"analytics": True}


def test_a_code_to_ignore_says_nothing_and_an_unknown_one_stands_for_itself() -> None:
    said = event({"consent": {"categories": {"9": False, "DataSharing": False}}})
    choices = consent.stated(said, NUMBERS)
    assert choices == {"DataSharing": False}
    assert consent.refused(choices, ["DataSharing"], NUMBERS) == ("DataSharing",)


@pytest.mark.parametrize(
    "event",
    [
        sent(
            "commanders_act", {"event_name": "x", "user": {"consent_categories": ["1", "3"]}, "context": {}}
        ),
        sent("commanders_act", {"event_name": "x", "user": {"consent_categories": [1, 3]}}),
        sent("commanders_act", {"event_name": "x", "properties": {"user": {"consent_categories": [1, 3]}}}),
        sent("commanders_act", {"event_name": "x", "properties": {"user": {"consent_categories": "1,3"}}}),
        sent("datafly", {"type": "track", "event": "x", "user": {"consent_categories": [1, 3]}}),
    ],
    ids=["texts", "numbers", "version 1", "one text", "another dialect"],
)
def test_what_a_commanders_act_list_leaves_out_was_refused(event: Event) -> None:
    assert consent.stated(event, NUMBERS) == {"analytics": True, "functional": True, "marketing": False}


@pytest.mark.parametrize("listed", [[], "", [None, {}]])
@pytest.mark.parametrize("dialect", ["commanders_act", "datafly"])
def test_an_empty_list_is_a_no_to_everything(dialect: str, listed: Any) -> None:
    body = {"event_name": "x", "user": {"consent_categories": listed}}
    body |= {"type": "track", "event": "x"} if dialect == "datafly" else {}
    for settings in (UNSET, NUMBERS):
        assert consent.stated(sent(dialect, body), settings) == NO_TO_ALL


def test_numbers_mean_nothing_until_the_organisation_says_what() -> None:
    body = {"event_name": "x", "user": {"consent_categories": ["1"]}}
    assert consent.stated(sent("commanders_act", body), UNSET) == {"1": True}


def test_all_vendors_refused_goes_before_what_is_listed() -> None:
    body = {"event_name": "x", "user": {"consent_categories": ["1"], "rejected_vendors": "ALL"}}
    choices = consent.stated(sent("commanders_act", body), NUMBERS)
    assert {name: choices[name] for name in REFUSABLE} == NO_TO_ALL


@pytest.mark.parametrize("listed", [None, True, {"1": True}, 1.5])
def test_what_is_no_list_leaves_nothing_out(listed: Any) -> None:
    body = {"event_name": "x", "user": {"consent_categories": listed}}
    assert False not in consent.stated(sent("commanders_act", body), NUMBERS).values()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["granted", "denied", "1,2", "marketing"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["canonical", "categories", "marketing", "C0002", "user", "consent_categories"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(JSON, JSON, JSON)
def test_whatever_stands_there_choices_are_booleans(said: Any, managed: Any, user: Any) -> None:
    odd = event({"consent": said, "consentManagement": managed})
    odd.original = {"user": user, "properties": user}
    for settings in (UNSET, NUMBERS):
        assert {type(choice) for choice in consent.stated(odd, settings).values()} <= {bool}


# ── What holds for an event ──────────────────────────────────────────────────────────────────


def test_the_events_own_word_goes_before_the_visitors_and_that_before_the_default() -> None:
    kept = State({"marketing": True, "functional": True}, 1)
    assert consent.effective({"marketing": False}, kept, STRICT, has_gpc=False) == {
        "marketing": False,
        "functional": True,
        "analytics": False,
        "personalization": False,
    }


def test_unknown_is_not_a_no_unless_the_default_policy_says_so() -> None:
    nothing = consent.effective({}, State(), UNSET, has_gpc=False)
    assert consent.refused(nothing, REFUSABLE) == ()
    assert consent.refused(consent.effective({}, State(), STRICT, has_gpc=False), REFUSABLE) == REFUSABLE


def test_essential_is_always_granted() -> None:
    assert consent.effective({"essential": False}, State(), UNSET, has_gpc=False) == {"essential": True}
    assert consent.refused({"essential": False, "necessary": False}, ["essential", "C0001"]) == ()
    assert consent.withdrawn(State(), State({"essential": False}, 1)) == frozenset()


def test_global_privacy_control_has_the_last_word() -> None:
    stated = dict.fromkeys(REFUSABLE, True)
    refused = {**stated, "marketing": False, "personalization": False}
    assert consent.effective(stated, State(), UNSET, has_gpc=True) == refused
    assert consent.with_gpc(stated, UNSET, has_gpc=True) == refused
    assert consent.effective(stated, State(), UNSET, has_gpc=False) == stated
    deaf = ConsentSettings(respect_gpc=False)
    assert consent.effective(stated, State(), deaf, has_gpc=True) == stated


@pytest.mark.parametrize("on_refused", ["drop", "strip", "allow"])
def test_a_refused_required_category_decides_for_all_integrations(on_refused: Any) -> None:
    settings = ConsentSettings(required_categories=["analytics", "marketing"], on_refused=on_refused)
    assert consent.outcome({"analytics": False}, settings) == (on_refused, "refused: analytics")
    assert consent.outcome({"analytics": True}, settings) == ("allow", "")
    assert consent.outcome({}, settings) == ("allow", "")


def test_an_integrations_category_may_be_the_organisations_own_code() -> None:
    assert consent.refused({"marketing": False}, ["2"], NUMBERS) == ("2",)
    renamed = ConsentSettings(mapping={"marketing": "analytics"})
    assert consent.refused({"marketing": False, "analytics": True}, ["marketing"], renamed) == ("marketing",)
    assert consent.refused({"marketing": True, "analytics": False}, ["Marketing"], renamed) == ()
    assert renamed.category_of("marketing") == "analytics"
    assert [NUMBERS.category_meant(name) for name in ("2", "advertising", "own")] == ["marketing"] * 2 + [
        "own"
    ]


def test_googles_signals_follow_the_choices_and_say_nothing_of_the_unknown() -> None:
    assert consent.google_consent_mode({}) == {}
    assert consent.google_consent_mode({"analytics": True}) == {"analytics_storage": "granted"}
    assert consent.google_consent_mode({"marketing": True, "analytics": False}) == {
        "ad_storage": "granted",
        "ad_user_data": "granted",
        "ad_personalization": "granted",
        "analytics_storage": "denied",
    }
    assert consent.google_consent_mode({"personalization": False})["ad_personalization"] == "denied"
    assert "ad_personalization" not in consent.google_consent_mode({"personalization": True})
    choices = {"marketing": True, "personalization": False, "functional": True}
    signals = consent.google_consent_mode(choices)
    assert signals["ad_storage"] == signals["functionality_storage"] == "granted"
    assert signals["ad_personalization"] == signals["personalization_storage"] == "denied"


# ── What is kept of a visitor ────────────────────────────────────────────────────────────────

CHOICES = st.dictionaries(st.sampled_from([*sorted(CANONICAL), "own", "other"]), st.booleans())
HISTORY = st.lists(st.tuples(st.integers(-5, 2**41), CHOICES), max_size=8, unique_by=lambda one: one[0])


def kept(history: list[tuple[int, dict[str, bool]]]) -> State:
    state = State()
    for at_ms, stated in history:
        state = consent.after(state, stated, at_ms)
    return state


@given(HISTORY.flatmap(lambda history: st.tuples(st.just(history), st.permutations(history))))
def test_any_order_of_arrival_gives_the_same_consent(histories: Any) -> None:
    ordered, shuffled = histories
    newest_last = kept(sorted(ordered, key=lambda one: one[0]))
    assert msgspec.json.encode(kept(shuffled)) == msgspec.json.encode(newest_last)
    expected: dict[str, bool] = {}
    for _, stated in sorted(ordered, key=lambda one: one[0]):
        expected |= stated
    assert newest_last.choices == expected


@given(HISTORY, CHOICES, st.integers(0, 2**41))
def test_the_same_event_again_changes_nothing(history: Any, stated: dict[str, bool], at_ms: int) -> None:
    once = consent.after(kept(history), stated, at_ms)
    assert consent.after(once, stated, at_ms) is once


@given(HISTORY)
def test_what_is_kept_is_read_again_as_it_was_written(history: Any) -> None:
    state = kept(history)
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state


def test_nothing_said_leaves_the_same_object() -> None:
    state = State({"marketing": True}, 5)
    assert consent.after(state, {}, 9) is state
    assert consent.after(state, {"marketing": False}, 4) is state


def test_of_two_words_at_one_time_the_later_arrival_stands() -> None:
    state = consent.after(State({"marketing": True}, 5), {"marketing": False}, 5)
    assert state.choices == {"marketing": False}


def test_a_grant_from_before_a_second_no_does_not_come_back() -> None:
    state = kept([(1, {"marketing": False}), (9, {"marketing": False}), (5, {"marketing": True})])
    assert state.choices == {"marketing": False}


def test_a_category_is_withdrawn_when_it_becomes_a_no() -> None:
    before = State({"marketing": True, "analytics": True, "functional": False}, 1)
    now = consent.after(before, {"marketing": False, "functional": False, "personalization": False}, 2)
    assert consent.withdrawn(before, now) == {"marketing", "personalization"}
    assert consent.withdrawn(now, before) == frozenset()


def test_made_up_categories_cannot_fill_the_store() -> None:
    history = [(n, {f"made up {n:03}": True, "marketing": False}) for n in range(3 * MAX_FOREIGN)]
    first = {f"made up {n:03}" for n in range(MAX_FOREIGN)}
    assert kept(history).choices.keys() == {*first, "marketing"}
    assert kept(history).choices == kept(history[::-1]).choices
    assert kept(history).choices["marketing"] is False


# ── Settings ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (UNSET, []),
        (NUMBERS, []),
        (STRICT, []),
        (ConsentSettings(required_categories=["analytics"], on_refused="strip"), []),
        (ConsentSettings(mapping={"1": "ads"}), ["mapping.1"]),
        (ConsentSettings(mapping={"1": ""}), ["mapping.1"]),
        (ConsentSettings(mapping={" ": "marketing"}), ["mapping. "]),
        (ConsentSettings(mapping={"A": "marketing", "a": "marketing"}), ["mapping.a"]),
        (ConsentSettings(mapping={str(n): "ignore" for n in range(501)}), ["mapping"]),
        (ConsentSettings(default_policy={"essential": False}), ["default_policy.essential"]),
        (ConsentSettings(default_policy={"advertising": False}), ["default_policy.advertising"]),
        (ConsentSettings(required_categories=["analytics", "x"]), ["required_categories[1]"]),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: ConsentSettings, fields: list[str]) -> None:
    assert [field for field, _ in consent.problems(settings)] == fields


@pytest.mark.parametrize(
    "body", [b'{"on_refused": "keep"}', b'{"mapping": {"1": 7}}', b'{"opt_in": true}', b'{"respect_gpc": 1}']
)
def test_settings_of_a_wrong_type_are_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=ConsentSettings)


def test_settings_are_shown_as_they_were_written() -> None:
    body = {"mapping": {"C0002 ": "analytics"}, "default_policy": {"marketing": False}}
    settings = msgspec.convert(body, ConsentSettings)
    assert settings.category_of("c0002") == "analytics"
    shown = msgspec.to_builtins(settings)
    assert {name: shown[name] for name in body} == body
    assert msgspec.convert(shown, ConsentSettings) == settings

"""The traits of users and groups: the newest of each, whatever the order, within bounds."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite import profiles
from datafly_lite.profiles import MAX_SIZE_BYTES, MAX_TRAITS, Profile

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([1.0, 0.5, "", "gold"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=3,
)
TRAITS = st.dictionaries(st.sampled_from(["email", "plan", "address", "age"]), VALUES, max_size=4)
HISTORY = st.lists(st.tuples(st.integers(-5, 2**41), TRAITS), max_size=7, unique_by=lambda one: one[0])


def kept(history: Any) -> Profile:
    profile = Profile()
    for at_ms, traits in history:
        profile = profiles.merged(profile, traits, at_ms)
    return profile


@given(HISTORY.flatmap(lambda history: st.tuples(st.just(history), st.permutations(history))))
def test_any_order_of_arrival_gives_the_same_traits(orders: Any) -> None:
    ordered, shuffled = (sorted(orders[0], key=lambda one: one[0]), orders[1])
    assert msgspec.json.encode(kept(shuffled)) == msgspec.json.encode(kept(ordered))
    expected: dict[str, Any] = {}
    for _, traits in ordered:
        expected |= traits
    assert kept(ordered).traits == expected
    assert profiles.attached(kept(ordered)) == {
        n: value for n, value in expected.items() if value is not None
    }


@given(HISTORY, TRAITS, st.integers(0, 2**41))
def test_the_same_event_again_changes_nothing(history: Any, traits: dict[str, Any], at_ms: int) -> None:
    once = profiles.merged(kept(history), traits, at_ms)
    assert profiles.merged(once, traits, at_ms) is once


@given(HISTORY)
def test_what_is_kept_is_read_again_as_it_was_written(history: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(kept(history)), type=Profile) == kept(history)


def test_of_two_values_at_one_time_the_later_arrival_stands() -> None:
    assert kept([(5, {"plan": "free"}), (5, {"plan": "gold"})]).traits == {"plan": "gold"}
    assert kept([(5, {"plan": True}), (5, {"plan": 1})]).traits["plan"] is not True


def test_null_takes_a_trait_back_and_nothing_older_revives_it() -> None:
    profile = kept([(1, {"plan": "free", "age": 7}), (9, {"plan": None}), (5, {"plan": "gold"})])
    assert profiles.attached(profile) == {"age": 7}
    assert profiles.attached(profiles.merged(profile, {"plan": "gold"}, 10)) == {"plan": "gold", "age": 7}


def test_the_profile_before_is_left_as_it_was() -> None:
    before = kept([(1, {"plan": "free"})])
    profiles.merged(before, {"plan": "gold", "age": 7}, 2)
    assert before == Profile({"plan": "free"}, {"plan": 1})


def test_no_more_than_so_many_traits_are_kept() -> None:
    full = kept([(1, {f"t{n:03}": n for n in range(MAX_TRAITS)})])
    more = {"t000": "changed", "one more": 1}
    after = profiles.merged(full, more, 2)
    assert len(after.traits) == MAX_TRAITS
    assert after.traits["t000"] == "changed"


def test_no_more_than_so_many_bytes_are_kept() -> None:
    profile = kept([(1, {"a": "x" * (MAX_SIZE_BYTES - 100), "b": "small"})])
    more = {"b": "y" * 200, "c": 1}
    after = profiles.merged(profile, more, 2)
    assert (after.traits["b"], after.traits["c"]) == ("small", 1)
    smaller = profiles.merged(after, {"a": "x"}, 3)
    assert profiles.merged(smaller, more, 4).traits == {"a": "x", **more}


def test_a_trait_makes_room_for_its_successor() -> None:
    large = {"a": "x" * 20_000, "b": 1}
    assert kept([(1, large), (2, {"a": "y" * 20_000})]).traits["a"][0] == "y"


def test_a_profile_from_before_the_bounds_can_shrink() -> None:
    oversize = Profile({"a": "x" * MAX_SIZE_BYTES, "b": "x" * MAX_SIZE_BYTES}, {"a": 1, "b": 1})
    assert profiles.merged(oversize, {"a": None, "c": 1}, 2).traits == {"a": None, "b": oversize.traits["b"]}


SIZES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 20_000))


@given(st.lists(SIZES, max_size=4))
def test_a_profile_never_outgrows_its_bounds(history: list[dict[str, int]]) -> None:
    said = [{name: "é" * size for name, size in sizes.items()} for sizes in history]
    profile = kept(enumerate(said))
    assert len(msgspec.json.encode(profile.traits)) <= MAX_SIZE_BYTES + 1


def test_an_event_gets_no_more_than_four_kilobytes_of_traits() -> None:
    many = {f"trait{number:03}": "x" * 100 for number in range(150)}
    profile = profiles.merged(Profile(), many, 1)
    attached = profiles.attached(profile)
    assert 30 < len(attached) < 40
    assert len(msgspec.json.encode(attached)) <= profiles.MAX_ATTACHED_BYTES
    assert list(attached) == sorted(many)[: len(attached)]

"""Query strings as nested objects: PHP's brackets, dots, conflicts, caps. Pure functions."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.errors import Refused
from datafly_lite.gateway.query_objects import MAX_DEPTH, nested, pairs_of


def read(query: str, *, dots: bool = False, brackets: bool = True) -> dict[str, Any]:
    return nested(pairs_of(query.encode())[0], dots=dots, brackets=brackets)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a", {"a": ""}),
        ("=1", {"": "1"}),
        ("&&a=1&", {"a": "1"}),
        ("a=b=c", {"a": "b=c"}),
        ("user[id]=12&user[email]=t%40d.fr", {"user": {"id": "12", "email": "t@d.fr"}}),
        ("user%5Bid%5D=12", {"user": {"id": "12"}}),
        ("u[c][]=1&u[c][]=3", {"u": {"c": ["1", "3"]}}),
        ("items[0][id]=A&items[1][id]=B", {"items": [{"id": "A"}, {"id": "B"}]}),
        ("items[1][id]=B&items[0][id]=A", {"items": [{"id": "A"}, {"id": "B"}]}),
        ("items[][id]=A&items[][id]=B", {"items": [{"id": "A"}, {"id": "B"}]}),
        ("a[5]=x&a[]=y", {"a": {"5": "x", "6": "y"}}),
        ("a[01]=x", {"a": {"01": "x"}}),
        ("a[1]=x&a[3]=y", {"a": {"1": "x", "3": "y"}}),
        ("a[b]=1&a[]=2", {"a": {"b": "1", "0": "2"}}),
        ("a[999999999999999999999]=x&a[]=y", {"a": {"999999999999999999999": "x", "0": "y"}}),
    ],
)
def test_names_and_brackets(query: str, expected: dict[str, Any]) -> None:
    assert read(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=1&a=2", {"a": ["1", "2"]}),
        ("a=1&a[b]=2", {"a": ["1", {"b": "2"}]}),
        ("a[b]=2&a=1", {"a": ["1", {"b": "2"}]}),
        ("a=1&a[]=2&a=3", {"a": ["1", "3", "2"]}),
        ("a[b]=1&a[b]=2", {"a": {"b": ["1", "2"]}}),
        ("a[b]=1&a[b][c]=2", {"a": {"b": ["1", {"c": "2"}]}}),
        ("a[0]=1&a[0]=2", {"a": [["1", "2"]]}),
    ],
)
def test_what_is_said_twice_is_kept_twice(query: str, expected: dict[str, Any]) -> None:
    assert read(query) == expected


@pytest.mark.parametrize("name", ["a[b", "a]b", "[a]", "a[b]c", "a[[b]]", "a[b]]", "[", "]", "[]", "a["])
def test_brackets_that_do_not_pair_are_part_of_the_name(name: str) -> None:
    assert read(f"{name}=1") == {name: "1"}


def test_dots_are_read_where_they_are_asked_for() -> None:
    query = "user.id=1&user.tags[]=x&user[a.b]=2&items.0.id=A&.a=3&b.=4&c..d=5"
    assert read(query, dots=True) == {
        "user": {"id": "1", "tags": ["x"], "a.b": "2"},
        "items": [{"id": "A"}],
        ".a": "3",
        "b.": "4",
        "c..d": "5",
    }
    assert read("user.id=1") == {"user.id": "1"}


def test_brackets_can_be_left_alone() -> None:
    assert read("a[b]=1&a.b=2", brackets=False) == {"a[b]": "1", "a.b": "2"}
    assert read("a[b]=1&a.b=2", brackets=False, dots=True) == {"a[b]": "1", "a": {"b": "2"}}


def test_values_are_decoded_as_forms_are() -> None:
    pairs, repaired = pairs_of("q=a+b%2Bc%20d&%C3%A9=%C3%A9&raw=é".encode())
    assert pairs == [("q", "a b+c d"), ("é", "é"), ("raw", "é")]
    assert not repaired


@pytest.mark.parametrize("query", [b"a=%ff", b"%ff=a", b"a=\xff", b"ok=1&a=%C3"])
def test_bytes_that_are_no_text_are_replaced_and_said(query: bytes) -> None:
    pairs, repaired = pairs_of(query)
    assert repaired
    assert any("\ufffd" in text for text in pairs[-1])


def test_a_broken_percent_stays() -> None:
    assert pairs_of(b"a=100%&b=%zz") == ([("a", "100%"), ("b", "%zz")], False)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(one) for one in value.values()), default=0)
    return 1 + max((depth_of(one) for one in value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize("levels", [1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 5_000])
def test_depth_is_capped_and_nothing_lost(levels: int) -> None:
    found = read("a" + "[b]" * (levels - 1) + "=1")
    assert depth_of(found) == min(levels, MAX_DEPTH)
    names = []
    value: Any = found
    while isinstance(value, dict):
        [(name, value)] = value.items()
        names.append(name)
    assert value == "1"
    assert "".join(names).count("b") == levels - 1


def test_dots_are_capped_too() -> None:
    assert depth_of(read("a" + ".b" * 5_000 + "=1", dots=True)) == MAX_DEPTH


def test_the_number_of_parameters_is_capped() -> None:
    assert len(read("&".join(f"a{n}=1" for n in range(1_000)))) == 1_000
    with pytest.raises(Refused) as found:
        read("a[]=1&" * 1_001)
    assert found.value.code == "invalid_payload"
    assert len(nested([("a", "1")] * 3, dots=False, max_pairs=3)["a"]) == 3


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    return [leaf for one in value for leaf in leaves(one)] if isinstance(value, list) else [value]


NAMES = st.text(alphabet="ab01[].é", max_size=12)


@given(st.lists(st.tuples(NAMES, st.text(max_size=4)), max_size=30), st.booleans(), st.booleans())
def test_every_value_is_found_again(pairs: list[tuple[str, str]], dots: bool, brackets: bool) -> None:
    found = nested(pairs, dots=dots, brackets=brackets)
    assert sorted(leaves(found)) == sorted(value for _, value in pairs)
    assert found == nested(pairs, dots=dots, brackets=brackets)


OBJECTS = st.recursive(
    st.text(max_size=5),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(
            st.text(alphabet="abcdé ._+&=%", min_size=1, max_size=4), inner, min_size=1, max_size=3
        )
    ),
    max_leaves=12,
)


def written(prefix: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [pair for name, one in value.items() for pair in written(f"{prefix}[{quote(name)}]", one)]
    if isinstance(value, list):
        return [pair for index, one in enumerate(value) for pair in written(f"{prefix}[{index}]", one)]
    return [f"{prefix}={quote(value)}"]


@given(OBJECTS)
def test_an_object_written_in_brackets_is_read_again(value: Any) -> None:
    if depth_of(value) < MAX_DEPTH:
        assert read("&".join(written("x", value))) == {"x": value}

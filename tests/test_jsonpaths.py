"""JSONPath over what strangers send: what it selects, what is refused at save, and what it may cost."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from datafly_lite.jsonpaths import Budget, parse

ORDER: Any = {
    "id": 7,
    "customer": {"id": 42, "first-name": "Zoë"},
    "line_items": [{"sku": "A", "price": 2}, {"sku": "B", "price": 10, "gift": None}],
    "note_attributes": [{"name": "_ga", "value": "GA1.2.3.4"}, {"name": "colour", "value": "red"}],
    "is_test": True,
}


def found(text: str, document: Any = ORDER, size_bytes: int = 10_000) -> list[Any]:
    return parse(text).find(document, Budget(size_bytes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$.id", [7]),
        ("$.customer['first-name']", ["Zoë"]),
        ("$.nothing.here", []),
        ("$.id.inside", []),
        ("$.line_items[0].sku", ["A"]),
        ("$.line_items[-1].sku", ["B"]),
        ("$.line_items[2].sku", []),
        ("$.line_items[*].sku", ["A", "B"]),
        ("$.line_items[0:1].sku", ["A"]),
        ("$.line_items[::-1].sku", ["B", "A"]),
        ("$.line_items[::0].sku", []),
        ("$.customer[0]", []),
        ("$.customer.*", [42, "Zoë"]),
        ("$..sku", ["A", "B"]),
        ("$..id", [7, 42]),
        ("$.note_attributes[?@.name == '_ga'].value", ["GA1.2.3.4"]),
        ("$.line_items[?@.price > 5].sku", ["B"]),
        ("$.line_items[?@.price <= 2 || @.sku == 'B'].sku", ["A", "B"]),
        ("$.line_items[?@.price < 5 && @.gift].sku", []),
        ("$.line_items[?@.gift].sku", ["B"]),
        ("$.line_items[?!@.gift].sku", ["A"]),
        ("$.line_items[?@.gift == null].sku", ["B"]),
        ("$.line_items[?@.gift != 1].sku", ["A", "B"]),
        ("$[?@ == true]", [True]),
        ("'identify'", ["identify"]),
    ],
)
def test_what_an_expression_selects(text: str, expected: list[Any]) -> None:
    assert found(text) == expected


def test_the_whole_document() -> None:
    assert found("$") == [ORDER]
    assert found("$", [1]) == [[1]]


@pytest.mark.parametrize(
    "text",
    [
        *("", "id", "$.", "$..", "$.a ", " $.a", "$[", "$.a b", "$.\x00", "'", "'it's'", "$$", "^.a", "$.a~"),
        *("$.a | $.b", "$['a','b']", "$[0,1]", "$[*,*]", "$[99999999999999999999]", "$.a" * 200),
        *("$[?match(@.a, '(a+)+$')]", "$[?search(@.a, 'a')]", "$[?length(@.a) > 1]", "$[?count(@.*) > 1]"),
        *("$[?@.a =~ /(a+)+$/]", "$[?@.a in ['b']]", "$[?_.a]", "$[?# == 'a']", "$[?@.a == undefined]"),
        *("$[?$.a]", "$[?@.a == $.b]", "$[?@..a]", "$[?@.*]", "$[?@[?@.a]]", "$[?@[0:1]]"),
        "$[?" + "(" * 240 + "@.a" + ")" * 240 + "]x",
    ],
)
def test_what_is_not_taken(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse(text)
    words = str(caught.value)
    assert "\n" not in words
    assert "TOKEN" not in words


@pytest.mark.parametrize(
    "document",
    [
        [1] * 200_000,
        {"k" * 100_000: [1] * 100_000},
        [[1] * 10] * 20_000,
        [{"a": {"b": {"c": 1}}}] * 20_000,
    ],
    ids=["flat", "below a long name", "wide", "deep"],
)
@pytest.mark.parametrize("text", ["$..*..*..*", "$..[?@.a.b.c == 1 || @.a.b.d]..*"])
def test_an_expression_costs_no_more_than_its_body_allows(document: Any, text: str) -> None:
    """Counted, not timed: each look at a node is a step of the budget."""
    taken: list[int] = []

    class Counted(Budget):
        def spend(self, steps: int) -> None:
            taken.append(steps)
            super().spend(steps)

    size_bytes = len(json.dumps(document))
    with contextlib.suppress(ValueError):
        parse(text).find(document, Counted(size_bytes))
    # The last one may be beyond: a list's children, of which there are never more than half its bytes.
    assert sum(taken[:-1]) <= size_bytes + 1_000
    assert taken[-1] <= 10 * size_bytes


def test_one_budget_is_for_all_expressions_of_a_body() -> None:
    budget = Budget(0)
    for _ in range(20):
        parse("$..*").find(ORDER, budget)
    with pytest.raises(ValueError, match="too much"):
        _ = [parse("$..*").find(ORDER, budget) for _ in range(1_000)]


def test_some_looks_at_every_value_of_an_ordinary_body_are_within_the_budget() -> None:
    document = [{"sku": f"SKU-{number}", "price": number, "name": "A thing"} for number in range(2_000)]
    budget = Budget(len(json.dumps(document)))
    for _ in range(8):
        assert len(parse("$..sku").find(document, budget)) == 2_000

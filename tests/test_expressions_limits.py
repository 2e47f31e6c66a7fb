"""Numbers, texts and patterns at their ends: a stranger sends them, a step's `on_error` decides."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.engine import Draft, compile_engine
from datafly_lite.errors import ExpressionError, StepFailed
from datafly_lite.expressions import compile_expression
from datafly_lite.expressions_functions import FUNCTIONS
from datafly_lite.expressions_values import Scope
from test_engine import MOMENT, an_event, outcome
from test_expressions import value

HUGE = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, -(2**63), 1e308, -1e308, 1e30, 5e-324])
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["\ud800", "1e308", "9" * 400])
)
LISTS = st.lists(HUGE, max_size=4) | st.lists(st.fixed_dictionaries({"n": HUGE}), max_size=3)
OPERATORS = st.sampled_from(["+", "-", "*", "/", "%", "||", "=", "!=", "<", ">=", "CONTAINS", "STARTS WITH"])


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=500)
@given(
    st.sampled_from([one for one in FUNCTIONS.values() if one.most != 0]),
    st.lists(HUGE | LISTS, min_size=3, max_size=3),
)
def test_no_function_breaks_on_what_is_huge(function: Any, values: list[Any]) -> None:
    for last in ("properties.list[2]", "'n'", "15"):
        arguments = ["properties.list[0]", "properties.list[1]", last][-function.least :]
        try:
            value(f"{function.name}({', '.join(arguments)})", list=values)
            value(f"{function.name}(properties.list[0])", list=values)
        except (StepFailed, ExpressionError):
            continue


@settings(max_examples=500)
@given(OPERATORS, HUGE | LISTS, HUGE | LISTS)
def test_no_operator_breaks_on_what_is_huge(operator: str, one: Any, other: Any) -> None:
    try:
        value(f"properties.one {operator} properties.other", one=one, other=other)
    except StepFailed:
        return


@pytest.mark.parametrize(
    "text", ["SUM(properties.n)", "ROUND(FIRST(properties.n), 15) * 10", "CEIL(FIRST(properties.n))"]
)
@pytest.mark.parametrize("numbers", [[1e308, 1e308], [10**400, 1.5], [10**400]])
def test_a_number_that_is_too_large_is_told_in_words(text: str, numbers: list[Any]) -> None:
    with pytest.raises(StepFailed, match="too large a number"):
        value(text, n=numbers)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 15))
def test_rounding_moves_a_number_by_less_than_its_last_digit(number: float, digits: int) -> None:
    found = value(f"ROUND(properties.n, {digits})", n=number)
    assert math.isclose(found, number, rel_tol=1e-15, abs_tol=0.51 * 10**-digits)


def test_a_number_that_does_not_fit_is_refused_where_it_is_written() -> None:
    with pytest.raises(ExpressionError, match="too large") as raised:
        compile_expression("type = 'track' AND 1 < ROUND(1e18 * 100)")
    assert raised.value.position == len("type = 'track' AND 1 < ") + 1


@pytest.mark.parametrize("wanted", ["integer", "number", "string", "boolean"])
@pytest.mark.parametrize("number", [1e30, -1e300, 10**400])
def test_a_strangers_number_is_written_or_the_steps_on_error_decides(wanted: str, number: Any) -> None:
    field = {"x": {"expression": "properties.value", "type": wanted}}
    step = {"type": "compute", "fields": field, "on_error": "drop"}
    draft = Draft(an_event(properties={"value": number}))
    (ran,) = compile_engine([step], {}).run(draft, MOMENT)
    assert ran.outcome == ("drop" if wanted in ("integer", "boolean") else "changed")


def test_a_step_that_python_itself_cannot_do_fails_in_words() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    step = {"type": "compute", "fields": {"x": "TO_JSON(properties.a)"}}
    assert outcome(step, properties={"a": "\ud800"}) == (
        "fail",
        "step 1 (compute): x: TO_JSON: the text holds half a character",
    )
    step = {"type": "filter", "condition": "properties.a = payload.a", "on_error": "drop"}
    other: Any = []
    for _ in range(20_000):
        other = [other]
    draft = Draft(msgspec.structs.replace(an_event(), properties={"a": deep}), {"a": other})
    (ran,) = compile_engine([step], {}).run(draft, MOMENT)
    assert (ran.outcome, ran.detail) == ("drop", "step 1 (filter): the value is nested too deeply")


# ── Work ─────────────────────────────────────────────────────────────────────────────────────

LARGE = "(x|[ab]{1,40}){12}c"


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        (f"properties.a MATCHES '{LARGE}'", 60_000),
        ("properties.a LIKE '%" + "a" * 500 + "b%'", 60_000),
        (" OR ".join(f"properties.a MATCHES '[ab]*a[ab]{{{one}}}c'" for one in range(20, 90)), 6_000),
        (" OR ".join(["MD5(properties.a) = 'x'"] * 150), 60_000),
        ("JOIN(SPLIT(properties.a, 'a'), '') = 'x'", 60_000),
        (" OR ".join(["properties.list CONTAINS 'x'"] * 100), 60_000),
        (" OR ".join(["properties.list = properties.other"] * 100), 60_000),
    ],
)
def test_an_evaluation_has_so_much_work_and_no_more(text: str, longest: int) -> None:
    assert value(text, a="a" * 50, list=[0], other=[1]) is False
    texts = {"a": "a" * longest, "list": [0] * longest, "other": [0] * (longest - 1) + [1]}
    with pytest.raises(StepFailed, match="units of work"):
        value(text, **texts)


def test_each_evaluation_has_its_work_anew() -> None:
    scope = Scope(an_event(properties={"a": "a" * 20_000}))
    expression = compile_expression("LOWER(UPPER(LOWER(properties.a))) = 'x'")
    assert [expression.evaluate(scope) for _ in range(50)] == [False] * 50
    assert [expression.test(scope) for _ in range(50)] == [False] * 50


def test_what_is_constant_is_worked_out_with_the_work_of_one_evaluation() -> None:
    one = f"REPLACE('{'a' * 300}', 'a', 'bbbb') MATCHES '{LARGE}'"
    with pytest.raises(ExpressionError, match="units of work"):
        compile_expression(" OR ".join([one] * 8))
    assert value(f"REPLACE('aaa', 'a', 'bbbb') MATCHES '{LARGE}' OR properties.a = 1", a=1)


@pytest.mark.parametrize("pattern", ["(x|[ab]{1,50}){15}c", "(\\w{1,30}){30}", "\\pL{1,30}"])
def test_a_pattern_that_is_large_is_refused_where_it_is_written(pattern: str) -> None:
    with pytest.raises(ExpressionError, match=r"pattern (is )?too large") as raised:
        compile_expression(f"type MATCHES '{pattern}'")
    assert raised.value.position == len("type MATCHES ") + 1


@pytest.mark.parametrize("number", [60, 100])
def test_a_list_of_words_is_no_large_pattern(number: int) -> None:
    words = "|".join(f"w{one}" for one in range(number))
    assert value(f"properties.a MATCHES '(?i)({words})/'", a=f"Mozilla/5.0 {'x' * 500} W{number - 1}/2")


# ── NULL, and kinds ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "test",
    ["CONTAINS {}", "STARTS WITH {}", "ENDS WITH {}", "BETWEEN {} AND 5", "BETWEEN 1 AND {}", "IN (7, {})"],
)
@pytest.mark.parametrize("null", ["NULL", "properties.zz"])
@pytest.mark.parametrize("a", ["text", 9, ["x"]])
def test_a_null_on_the_right_passes_no_test_and_no_nots(test: str, null: str, a: Any) -> None:
    assert value(f"properties.a {test.format(null)}", a=a) is False
    assert value(f"properties.a NOT {test.format(null)}", a=a) is False


def test_a_value_is_found_beside_a_null() -> None:
    assert value("properties.a IN (NULL, 2)", a=2)
    assert not value("properties.a NOT IN (NULL, 2)", a=2)
    assert value("properties.a NOT IN (1, 3)", a=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [([1], [True]), ({"a": 0}, {"a": False}), ([{"a": [1, True]}], [{"a": [True, 1]}])],
)
def test_kinds_are_kept_apart_in_lists_and_objects(one: Any, other: Any) -> None:
    assert value("properties.one = properties.other", one=one, other=other) is False
    assert value("properties.one != properties.other", one=one, other=other) is True
    assert value("properties.list CONTAINS properties.other", list=[one], other=other) is False


@pytest.mark.parametrize(
    ("one", "other"), [([1, None], [1.0, None]), ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1})]
)
def test_lists_and_objects_are_equal_where_all_in_them_is(one: Any, other: Any) -> None:
    assert value("properties.one = properties.other", one=one, other=other) is True

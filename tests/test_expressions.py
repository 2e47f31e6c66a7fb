"""The expression language: every example of docs/expressions.md, its limits, and what may never happen."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.errors import ExpressionError, StepFailed
from datafly_lite.events import Event, decode_event
from datafly_lite.expressions import LONGEST_CHARS, compile_expression
from datafly_lite.expressions_building import DEEPEST
from datafly_lite.expressions_functions import FUNCTIONS
from datafly_lite.expressions_values import LONGEST_TEXT_CHARS, Scope

DOCUMENT = (Path(__file__).parent.parent / "docs" / "expressions.md").read_text(encoding="utf-8")
CELL = re.compile(r"(?<!\\)\|")
RECEIVED_MS = 1_772_359_201_000


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the document, without its head."""
    below = DOCUMENT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in below.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip().replace("\\|", "|") for cell in CELL.split(row)[1:-1]] for row in rows]
    return [[cell[1:-1] if re.fullmatch(r"`[^`]*`", cell) else cell for cell in row] for row in cells]


def documented_event() -> Event:
    found = re.search(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return decode_event(found[1].encode())


def an_event(**fields: Any) -> Event:
    given = {"type": "track", "messageId": "m-1", "timestamp": "", "receivedAt": "", **fields}
    return msgspec.convert(given, Event)


def value(expression: str, **properties: Any) -> Any:
    return compile_expression(expression).evaluate(Scope(an_event(properties=properties)))


# ── The document ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("text", "expected"), table("Examples"))
def test_a_documented_example_holds(text: str, expected: str) -> None:
    scope = Scope(documented_event(), {"user": {"id": "u-1"}}, None, RECEIVED_MS)
    found = compile_expression(text).evaluate(scope)
    assert json.dumps(found) == json.dumps(json.loads(expected))


@pytest.mark.parametrize(("text", "position", "message"), table("What is refused"))
def test_a_documented_error_says_where_and_why(text: str, position: str, message: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        compile_expression(text)
    assert (str(raised.value.position), str(raised.value)) == (position, message)


def test_the_document_has_each_function_in_the_registrys_words() -> None:
    assert table("Functions") == [[one.signature, one.help] for one in FUNCTIONS.values()]


def test_each_function_has_an_example() -> None:
    shown = " ".join(row[0] for row in table("Examples"))
    assert [name for name in FUNCTIONS if f"{name}(" not in shown] == []


def test_the_digests_are_those_of_the_text() -> None:
    assert value("SHA256('Zoë')") == hashlib.sha256("Zoë".encode()).hexdigest()
    assert value("MD5('Zoë')") == hashlib.md5("Zoë".encode()).hexdigest()


# ── What an expression sees ──────────────────────────────────────────────────────────────────


def test_event_before_a_field_changes_nothing() -> None:
    event = an_event(event="Tested", userId="u-1", properties={"a": 1}, context={"b": [2]})
    for path in ("type", "event", "userId", "properties.a", "context.b[0]", 'properties["a"]', "groupId"):
        scope = Scope(event)
        bare, full = compile_expression(path), compile_expression(f"event.{path}")
        assert bare.evaluate(scope) == full.evaluate(scope)


@pytest.mark.parametrize(
    ("fields", "alone", "field"),
    [
        ({"event": "Tested"}, "Tested", "Tested"),
        ({"type": "page", "name": "Home"}, "Home", None),
        ({"type": "screen", "name": "Start"}, "Start", None),
        ({"type": "identify", "name": "Jo"}, None, None),
    ],
)
def test_event_alone_is_the_events_name(fields: dict[str, Any], alone: str | None, field: str | None) -> None:
    scope = Scope(an_event(**fields))
    assert compile_expression("event").evaluate(scope) == alone
    assert compile_expression("event.event").evaluate(scope) == field


def test_payload_and_value_are_the_scopes_own() -> None:
    scope = Scope(an_event(), {"a": [{"b": 1}]}, {"c": 2}, 3)
    assert compile_expression("payload.a[0].b + value.c + NOW()").evaluate(scope) == 6


def test_an_expression_tells_the_roots_it_reads() -> None:
    text = "event.properties.a = payload.b OR userId IS MISSING"
    assert compile_expression(text).roots == {"event", "payload", "userId"}


# ── Truth ────────────────────────────────────────────────────────────────────────────────────

OPERATORS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=", "CONTAINS", "STARTS WITH", "ENDS WITH")


@pytest.mark.parametrize("operator", [*OPERATORS, *[f"NOT {one}" for one in OPERATORS[8:]]])
def test_nothing_compares_to_null(operator: str) -> None:
    for text in (f"properties.a {operator} 'x'", f"'x' {operator} properties.a"):
        assert value(text) is False
        assert value(text, a=None) is False


@pytest.mark.parametrize("test", ["IN (1)", "BETWEEN 1 AND 2", "LIKE '%'", "MATCHES '.*'"])
@pytest.mark.parametrize("word", ["", "NOT "])
def test_a_null_passes_no_test_and_no_nots(test: str, word: str) -> None:
    assert value(f"properties.a {word}{test}") is False


@pytest.mark.parametrize(
    ("left", "right"), [(1, "1"), (1, True), (0, False), ("", False), ([], {}), ("true", True), ([1], 1)]
)
def test_kinds_are_kept_apart(left: Any, right: Any) -> None:
    assert value("properties.a = properties.b", a=left, b=right) is False
    assert value("properties.a != properties.b", a=left, b=right) is True
    assert value("properties.a IN (properties.b)", a=left, b=right) is False
    assert value("properties.a < properties.b OR properties.a >= properties.b", a=left, b=right) is False


@given(st.integers(-5, 5) | st.floats(-5, 5), st.integers(-5, 5) | st.floats(-5, 5))
def test_numbers_compare_as_numbers(left: float, right: float) -> None:
    for operator, expected in (("=", left == right), ("<", left < right), (">=", left >= right)):
        assert value(f"properties.a {operator} properties.b", a=left, b=right) is expected


@pytest.mark.parametrize("text", ["properties.a AND TRUE", "NOT properties.a", "IF(properties.a, 1, 2)"])
def test_what_is_neither_true_nor_false_is_no_condition(text: str) -> None:
    with pytest.raises(StepFailed, match="needs true or false, not text"):
        value(text, a="yes")


def test_a_condition_is_true_false_or_null() -> None:
    condition = compile_expression("properties.a")
    found = [condition.test(Scope(an_event(properties={"a": one}))) for one in (True, False, None)]
    assert found == [True, False, False]
    with pytest.raises(StepFailed, match="a condition needs true or false, not a number"):
        condition.test(Scope(an_event(properties={"a": 1})))


def test_what_need_not_be_asked_is_not() -> None:
    assert value("properties.a IS NULL OR properties.a > 1 / properties.zero", zero=0) is True
    assert value("COALESCE(1, properties.a / properties.zero)", a=1, zero=0) == 1
    assert value("CASE WHEN properties.zero = 0 THEN 0 ELSE 1 / properties.zero END", zero=0) == 0


# ── Arithmetic ───────────────────────────────────────────────────────────────────────────────


@given(st.integers(-1000, 1000), st.integers(-1000, 1000).filter(bool))
def test_quotient_and_remainder_make_the_number_again(left: int, right: int) -> None:
    rest = value("properties.a % properties.b", a=left, b=right)
    assert abs(rest) < abs(right)
    assert (
        value("(properties.a - properties.rest) / properties.b", a=left, b=right, rest=rest) * right + rest
        == left
    )
    assert rest == 0 or (rest < 0) == (left < 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6 / 2", "3"), ("7 / 2", "3.5"), ("6.0 / 2", "3.0"), ("2 + 3 * 4 % 5", "4"), ("10 - 3 - 2", "5")],
)
def test_what_is_whole_stays_whole(text: str, expected: str) -> None:
    assert repr(value(text)) == expected


@pytest.mark.parametrize(
    "text", ["properties.a + 1", "1 - properties.a", "-properties.a", "properties.a || 'x'"]
)
def test_arithmetic_with_null_is_null(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("properties.zero / properties.zero", "a division by zero"),
        ("1 % properties.zero", "a division by zero"),
        ("properties.big * properties.big", "too large a number"),
        ("properties.huge * 10.0", "too large a number"),
        ("properties.text + 1", "needs numbers, not text"),
        ("properties.yes + 1", "needs numbers, not true or false"),
        ("'a' || properties.list", "TO_JSON"),
        ("LOWER(properties.big)", "LOWER: text is needed, not a number"),
        ("ROUND(properties.big, 99)", "the digits are 0 to 15"),
        ("TO_NUMBER(properties.text)", "TO_NUMBER: the text is not a number"),
        ("JSON_PARSE(properties.text)", "the text is not JSON"),
        ("JSON_PARSE(properties.deep)", "the text is not JSON"),
        ("TO_TIMESTAMP(properties.text)", "a time such as"),
        ("FORMAT_TIME(properties.huge, '%Y')", "a time such as"),
        ("FORMAT_TIME(0, properties.form)", "a time has no %q"),
        ("SUM(properties.list)", "a number is needed, not text"),
        ("SUM(properties.text)", "a list is needed, not text"),
    ],
)
def test_what_cannot_work_fails_in_words(text: str, words: str) -> None:
    given = {
        "zero": 0,
        "big": 2**62,
        "huge": 1e308,
        "text": "free",
        "yes": True,
        "list": ["a"],
        "deep": "[" * 20_000,
        "form": "%q",
    }
    with pytest.raises(StepFailed, match=re.escape(words)):
        value(text, **given)


@given(st.decimals(-1000, 1000, places=4), st.integers(0, 3))
def test_rounding_is_that_of_money(number: Any, digits: int) -> None:
    scaled = abs(int(number * 10_000))
    step = 10 ** (4 - digits)
    expected = (scaled + step // 2) // step / 10**digits * (-1 if number < 0 else 1)
    assert value(f"ROUND(properties.a, {digits})", a=float(number)) == pytest.approx(expected, abs=1e-9)


# ── Limits ───────────────────────────────────────────────────────────────────────────────────


def test_an_expression_has_a_longest_length() -> None:
    longest = "1" + " " * (LONGEST_CHARS - 1)
    assert value(longest) == 1
    with pytest.raises(ExpressionError) as raised:
        compile_expression(longest + " ")
    assert raised.value.position == LONGEST_CHARS + 1


@pytest.mark.parametrize("text", ["-{}1", "NOT {}TRUE", "LOWER({}'a'", "1 + ({}1"])
def test_nesting_has_an_end(text: str) -> None:
    opening, closing = text.split("{}")
    brackets = ")" * opening.count("(")
    deep = opening * (DEEPEST + 1) + closing + brackets * (DEEPEST + 1)
    with pytest.raises(ExpressionError, match="nested deeper"):
        compile_expression(deep)
    compile_expression(opening * 10 + closing + brackets * 10)


def test_a_long_chain_is_not_deep() -> None:
    assert value(" + ".join(["properties.a"] * 250), a=1) == 250
    assert value(" AND ".join(["TRUE"] * 400)) is True
    assert value(" || ".join(["'a'"] * 500)) == "a" * 500


@pytest.mark.parametrize(
    "text",
    [
        "properties.a || properties.a",
        "CONCAT(properties.a, 'b')",
        "REPLACE(properties.a, 'a', 'bb')",
        "REPLACE(properties.a, 'a', properties.a)",
        "JOIN(SPLIT(properties.a, 'a'), 'bb')",
        "TO_JSON(properties.a)",
    ],
)
def test_no_text_grows_beyond_its_limit(text: str) -> None:
    with pytest.raises(StepFailed, match="more than"):
        value(text, a="a" * LONGEST_TEXT_CHARS)


@given(st.text(max_size=60) | st.text(alphabet="()'\"[].,=<>|+-*/% aAnNdDoOrRiIsSpPvV019{&!\\", max_size=60))
def test_any_text_is_compiled_or_refused_with_a_position_inside(text: str) -> None:
    refused: list[ExpressionError] = []
    try:
        compile_expression(text)
    except ExpressionError as error:
        refused.append(error)
    assert all(str(error) and 1 <= error.position <= len(text) + 1 for error in refused)


LANGUAGE = """
    AND OR NOT IN ( ) , = != < IS NULL MISSING LIKE MATCHES 'a%' 'a' 1 2.5 0 + - * / % || CASE WHEN THEN
    ELSE END CONTAINS BETWEEN TRUE properties.a properties.b[0] payload.x value event userId SUM( ROUND( IF(
    LOWER( TO_NUMBER( JSON_PARSE( SUBSTRING( FORMAT_TIME( MAP( REPLACE( NOW( COALESCE(
"""
WORDS = st.sampled_from(LANGUAGE.split())
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500)
@given(st.lists(WORDS, max_size=12), ANYTHING, ANYTHING)
def test_whatever_compiles_gives_a_value_or_fails_in_words(words: list[str], one: Any, other: Any) -> None:
    scope = Scope(an_event(properties={"a": one, "b": other}), {"x": other}, one, 5)
    try:
        found = compile_expression(" ".join(words)).evaluate(scope)
    except (ExpressionError, StepFailed):
        return
    assert msgspec.json.encode(found)


@settings(max_examples=300)
@given(
    st.sampled_from([one for one in FUNCTIONS.values() if one.most != 0]),
    st.lists(ANYTHING, min_size=1, max_size=3),
)
def test_no_function_breaks_on_any_value(function: Any, values: list[Any]) -> None:
    count = max(function.least, min(len(values), function.most or 3))
    arguments = ", ".join(f"properties.list[{number % len(values)}]" for number in range(count))
    try:
        found = value(f"{function.name}({arguments})", list=values)
    except StepFailed:
        return
    assert msgspec.json.encode(found)


# ── Patterns ─────────────────────────────────────────────────────────────────────────────────

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "[a-c1]", "\\.", "\\d", "^", "$"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "+?"])


@settings(max_examples=300)
@given(st.lists(st.tuples(ATOMS, REPEATS), max_size=5), st.text(alphabet="abAB1. é_", max_size=10))
def test_a_pattern_finds_what_pythons_own_finds(parts: list[tuple[str, str]], text: str) -> None:
    pattern = "".join(atom if atom in "^$" else atom + repeat for atom, repeat in parts)
    assert value(f"properties.a MATCHES '{pattern}'", a=text) is (re.search(pattern, text) is not None)


def plain_like(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(plain_like(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and plain_like(pattern[1:], text[1:])


@settings(max_examples=500)
@given(st.text(alphabet="ab%_.*[\n", max_size=8), st.text(alphabet="ab.*[\n", max_size=8))
def test_like_is_percent_and_underscore_and_nothing_else(pattern: str, text: str) -> None:
    assert value(f"properties.a LIKE '{pattern}'", a=text) is plain_like(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(a+)+$", True),
        ("^(a+)+b", False),
        ("(a|a)*b", False),
        ("(a*)*b", False),
        (".*.*.*.*.*b", False),
        ("(a?){50}b", False),
        ("^(([a-z])+.)+[A-Z]$", False),
    ],
)
def test_a_pattern_that_others_follow_for_ever_is_followed_to_its_end(pattern: str, expected: bool) -> None:
    assert value(f"properties.a MATCHES '{pattern}'", a="a" * 7_000) is expected


def test_many_percents_over_a_long_text_come_to_an_end() -> None:
    assert value(f"properties.a LIKE '{'%a' * 200}b'", a="a" * 7_000) is False


@pytest.mark.parametrize("pattern", ["a**", "*a", "a)", "[z-a]", "(a{50}){50}", "\\1", "a" * 501])
def test_a_pattern_that_is_not_offered_is_refused_at_its_place(pattern: str) -> None:
    with pytest.raises(ExpressionError, match="pattern") as raised:
        compile_expression(f"type MATCHES '{pattern}'")
    assert raised.value.position == len("type MATCHES ") + 1

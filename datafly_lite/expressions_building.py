"""From lark's tree to closures: one small function for each rule of the grammar."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lark import Token, Tree

from datafly_lite.errors import ExpressionError, StepFailed
from datafly_lite.events import Event
from datafly_lite.expressions_calling import call
from datafly_lite.expressions_functions import FUNCTIONS, Function
from datafly_lite.expressions_patterns import like, matcher
from datafly_lite.expressions_testing import Test, among, between, fitting, paired, tested
from datafly_lite.expressions_values import (
    COMPARISONS,
    LARGEST_WHOLE,
    UNUSABLE,
    Run,
    Scope,
    calculate,
    contains,
    ends,
    joined,
    negative,
    spend,
    starts,
    truth,
    unusable,
    work_of,
)
from datafly_lite.paths import ATTRIBUTES, MISSING, Path, parse, read

DEEPEST = 50
ROOTS = (*ATTRIBUTES, "event", "payload", "value")

NAME = "event, alone"
"""Stands for the root `event` where no field of it is asked for."""

NOWHERE = Event(type="track", message_id="", timestamp="", received_at="")
"""The event of what is constant, which is worked out when an expression is compiled."""


class Part(NamedTuple):
    """A compiled piece. A constant one gives the same whatever the scope."""

    run: Run
    is_constant: bool = False


class Builder:
    """One expression's. `roots` gathers the first words of its paths."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.roots: set[str] = set()
        self._depth = 0
        self._nowhere = Scope(NOWHERE)

    def part(self, tree: Tree[Token]) -> Part:
        """Raises ExpressionError; its position is the piece's own."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExpressionError(f"it is nested deeper than {DEEPEST}", _position(tree))
        rule, parts = RULES[tree.data], [self.part(one) for one in tree.children if isinstance(one, Tree)]
        run = rule(self, tree, [one.run for one in parts])
        self._depth -= 1
        is_constant = (
            tree.data != "path" and not _asks_the_clock(tree) and all(one.is_constant for one in parts)
        )
        return self._folded(tree, run) if is_constant else Part(run)

    def _folded(self, tree: Tree[Token], run: Run) -> Part:
        """Worked out now, so that what can never work is refused when it is written; all constants of an
        expression have the work of one evaluation.
        """
        try:
            value = run(self._nowhere)
        except StepFailed as error:
            raise ExpressionError(str(error), _position(tree)) from None
        except UNUSABLE as error:
            raise ExpressionError(str(unusable(error)), _position(tree)) from None
        return Part(lambda _: value, True)


def _asks_the_clock(tree: Tree[Token]) -> bool:
    return tree.data == "function" and str(tree.children[0]).upper() == "NOW"


def _position(tree: Tree[Token]) -> int:
    return tree.meta.start_pos + 1


def _tokens(tree: Tree[Token]) -> list[Token]:
    return [one for one in tree.children if isinstance(one, Token)]


def _is_not(tree: Tree[Token]) -> bool:
    return any(token.type == "NOT" for token in _tokens(tree))


def _quoted(token: Token) -> str:
    return token[1:-1].replace(token[0] * 2, token[0])


def suggestion(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where a known name is close."""
    folded = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.75)
    return f"; did you mean {folded[close[0]]}?" if close else ""


# ── Values ───────────────────────────────────────────────────────────────────────────────────


def _constant(value: Any) -> Callable[..., Run]:
    return lambda *_: lambda scope: value


def _string(_: Builder, tree: Tree[Token], __: list[Run]) -> Run:
    text = _quoted(_tokens(tree)[0])
    return lambda _: text


def _number(_: Builder, tree: Tree[Token], __: list[Run]) -> Run:
    text = _tokens(tree)[0]
    value = int(text) if text.isdecimal() else float(text)
    if abs(value) >= LARGEST_WHOLE:
        raise ExpressionError("the number is too large", _position(tree))
    return lambda _: value


def _path(builder: Builder, tree: Tree[Token], _: list[Run]) -> Run:
    return _reader(_located(builder, tree), None)


def _located(builder: Builder, tree: Tree[Token]) -> Path:
    """`event.x` becomes `x`, `event` alone NAME; what no event has is refused."""
    token = _tokens(tree)[0]
    try:
        path = parse(str(token))
    except ExpressionError as error:
        raise ExpressionError(str(error), _position(tree) + error.position - 1) from None
    root = str(path.parts[0])
    builder.roots.add(root)
    if root not in ROOTS:
        raise ExpressionError(_no_root(root, builder.text, tree.meta.start_pos), _position(tree))
    if root != "event":
        return path
    if len(path.parts) == 1:
        return Path(path.text, (NAME,))
    field = str(path.parts[1])
    if field not in ATTRIBUTES:
        close = suggestion(field, tuple(ATTRIBUTES)) or f"; did you mean properties.{field}?"
        raise ExpressionError(f"an event has no field {field}{close}", _position(tree) + len("event."))
    return path.below()


def _no_root(root: str, text: str, at: int) -> str:
    if text[at - 1 : at] == "-" and text[at - 2 : at - 1].isalnum():
        return f'there is no field {root}; a key with a dash is written in brackets and quotes: ["odd-key"]'
    return f"there is no field {root}{suggestion(root, ROOTS) or f'; did you mean properties.{root}?'}"


def event_name(event: Event) -> str | None:
    """What `event` alone means: of a page or a screen, its name."""
    return event.name if event.type in ("page", "screen") else event.event


def _reader(path: Path, missing: Any) -> Run:
    root, rest = str(path.parts[0]), path.below()
    begin = _beginning(root)
    if not rest.parts:
        return begin

    def found(scope: Scope) -> Any:
        value = read(begin(scope), rest)
        return missing if value is MISSING else value

    return found


def _beginning(root: str) -> Run:
    if root == NAME:
        return lambda scope: event_name(scope.event)
    if root == "payload":
        return lambda scope: scope.payload
    if root == "value":
        return lambda scope: scope.value
    attribute = ATTRIBUTES[root]
    return lambda scope: getattr(scope.event, attribute)


# ── Logic ────────────────────────────────────────────────────────────────────────────────────


def _either(_: Builder, __: Tree[Token], runs: list[Run]) -> Run:
    return lambda scope: any(truth(run(scope), "OR") for run in runs)


def _both(_: Builder, __: Tree[Token], runs: list[Run]) -> Run:
    return lambda scope: all(truth(run(scope), "AND") for run in runs)


def _negation(_: Builder, __: Tree[Token], runs: list[Run]) -> Run:
    run = runs[0]
    return lambda scope: not truth(run(scope), "NOT")


def _case(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    otherwise = runs[-1] if len(runs) % 2 else lambda _: None
    pairs = list(zip(runs[::2], runs[1::2], strict=False))

    def chosen(scope: Scope) -> Any:
        for condition, then in pairs:
            if truth(condition(scope), "WHEN"):
                return then(scope)
        return otherwise(scope)

    return chosen


# ── Tests ────────────────────────────────────────────────────────────────────────────────────


def _comparison(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    left, right = runs
    operator = str(_tokens(tree)[0])
    for one in tree.children:
        if isinstance(one, Tree) and one.data == "null":
            raise ExpressionError("nothing compares to NULL; write IS NULL or IS NOT NULL", _position(one))
    compare = COMPARISONS[operator]

    def compared(scope: Scope) -> bool:
        found = left(scope)
        spend(scope, work_of(found))
        return compare(found, right(scope))

    return compared


def _tested(tree: Tree[Token], value: Run, test: Test) -> Run:
    return tested(value, test, is_not=_is_not(tree))


def _among(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    return _tested(tree, runs[0], among(runs[1:]))


def _between(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    return _tested(tree, runs[0], between(*runs[1:]))


def _pair(compare: Callable[[Any, Any], bool]) -> Callable[[Builder, Tree[Token], list[Run]], Run]:
    return lambda _, tree, runs: _tested(tree, runs[0], paired(compare, runs[1]))


def _like(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    return _tested(tree, runs[0], fitting(like(_quoted(_tokens(tree)[-1]))))


def _matches(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    token = _tokens(tree)[-1]
    try:
        pattern = matcher(_quoted(token))
    except ExpressionError as error:
        raise ExpressionError(str(error), (token.start_pos or 0) + 1) from None
    return _tested(tree, runs[0], fitting(pattern))


def _is_null(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    run, is_not = runs[0], _is_not(tree)
    return lambda scope: (run(scope) is None) is not is_not


def _is_missing(builder: Builder, tree: Tree[Token], _: list[Run]) -> Run:
    operand = tree.children[0]
    if not isinstance(operand, Tree) or operand.data != "path":
        raise ExpressionError("only a field can be MISSING; write IS NULL", _position(tree))
    path, is_not = _located(builder, operand), _is_not(tree)
    run, gone = _reader(path, MISSING), None if len(path.parts) == 1 else MISSING
    return lambda scope: (run(scope) is gone) is not is_not


# ── Arithmetic and functions ─────────────────────────────────────────────────────────────────


def _chain(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    """`a + b - c`, from the left."""
    first, rest = runs[0], list(zip(map(str, _tokens(tree)), runs[1:], strict=True))

    def result(scope: Scope) -> Any:
        value = first(scope)
        for operator, run in rest:
            other = run(scope)
            value = joined((value, other)) if operator == "||" else calculate(operator, value, other)
        return value

    return result


def _minus(_: Builder, __: Tree[Token], runs: list[Run]) -> Run:
    run = runs[0]
    return lambda scope: negative(run(scope))


def _function(_: Builder, tree: Tree[Token], runs: list[Run]) -> Run:
    name = _tokens(tree)[0].upper()
    function = FUNCTIONS.get(name)
    if function is None:
        message = f"there is no function {name}{suggestion(name, tuple(FUNCTIONS))}"
        raise ExpressionError(message, _position(tree))
    if len(runs) < function.least or (function.most is not None and len(runs) > function.most):
        raise ExpressionError(
            f"{function.signature} is how it is written, {_count(function)}", _position(tree)
        )
    return call(function, runs)


def _count(function: Function) -> str:
    least, most = function.least, function.most
    numbers = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
    return f"with {numbers} argument{'' if numbers == '1' else 's'}"


Rule = Callable[[Builder, Tree[Token], list[Run]], Run]

RULES: dict[str, Rule] = {
    "either": _either,
    "both": _both,
    "negation": _negation,
    "comparison": _comparison,
    "among": _among,
    "between": _between,
    "contains": _pair(contains),
    "starts": _pair(starts),
    "ends": _pair(ends),
    "like": _like,
    "matches": _matches,
    "is_null": _is_null,
    "is_missing": _is_missing,
    "sum": _chain,
    "product": _chain,
    "minus": _minus,
    "string": _string,
    "number": _number,
    "true": _constant(True),
    "false": _constant(False),
    "null": _constant(None),
    "path": _path,
    "function": _function,
    "case": _case,
}

"""JSONPath (RFC 9535) over what strangers send: the part of it whose cost stays in proportion.

python-jsonpath reads the expressions; the walk is our own. The library's writes out the path of each
node that it meets, which under a long name costs the square of the body, and its regular expressions
can take for ever. So functions are not taken, and filters look only below the node that they test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import jsonpath
from jsonpath import filter as filters
from jsonpath import segments as kinds
from jsonpath import selectors as picks

LONGEST_CHARS = 500
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
LOGIC = ("&&", "||")
STEPS_OF_ANY = 1_000
"""The smallest document may cost so many steps, a larger one a step more for each of its bytes: some ten
looks at each of its values."""

STEPS_OF_TEST = 10
"""A filter's test of one node takes as long as a look at so many."""


class Budget:
    """How many nodes may still be looked at: one for all the expressions that meet a document."""

    def __init__(self, size_bytes: int) -> None:
        self._left = STEPS_OF_ANY + size_bytes

    def spend(self, steps: int) -> None:
        """Raises ValueError where nothing is left."""
        self._left -= steps
        if self._left < 0:
            raise ValueError("the JSONPath expressions look at too much of the body")


class Expression(NamedTuple):
    """A JSONPath, or a `constant` that stands for itself."""

    segments: tuple[kinds.JSONPathSegment, ...] = ()
    constant: str | None = None

    def find(self, document: Any, budget: Budget) -> list[Any]:
        """All values that it selects, in the document's order. Raises ValueError beyond the budget."""
        if self.constant is not None:
            return [self.constant]
        return _follow(self.segments, document, budget)


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """`$.data.object.id`, or `'a text in single quotes'`. Raises ValueError with words for its author."""
    if len(text) > LONGEST_CHARS:
        raise ValueError(f"must have at most {LONGEST_CHARS} characters")
    if len(text) >= 2 and text[0] == text[-1] == "'" and "'" not in text[1:-1]:
        return Expression(constant=text[1:-1])
    if not text.startswith("$"):
        raise ValueError("must begin with $, such as $.data.id, or be a text in 'single quotes'")
    try:
        path = _environment().compile(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (jsonpath.JSONPathError, ValueError) as error:
        raise ValueError(f"is not JSONPath such as $.data.id: {_words(error)}") from None
    if not isinstance(path, jsonpath.JSONPath):
        raise ValueError("must be one JSONPath")
    for segment in path.segments:
        _check_segment(segment)
    return Expression(path.segments)


@cache
def _environment() -> jsonpath.JSONPathEnvironment:
    return jsonpath.JSONPathEnvironment(strict=True)


def _words(error: Exception) -> str:
    """Not `str(error)`, which draws the expression over several lines."""
    return str(error.args[0]).replace("TOKEN_", "") if error.args else "it cannot be read"


# ── What is taken ────────────────────────────────────────────────────────────────────────────


def _check_segment(segment: kinds.JSONPathSegment) -> None:
    if len(segment.selectors) != 1:
        raise ValueError("several selectors in one pair of brackets are not taken")
    selector = segment.selectors[0]
    if isinstance(selector, picks.Filter):
        _check_test(selector.expression.expression)
    elif type(selector) not in PICKED_BY:
        raise ValueError(f"{selector} is not taken")


def _check_test(test: filters.BaseExpression) -> None:
    if isinstance(test, filters.InfixExpression) and test.operator in LOGIC:
        _check_test(test.left)
        _check_test(test.right)
    elif isinstance(test, filters.InfixExpression) and test.operator in COMPARISONS:
        _check_operand(test.left)
        _check_operand(test.right)
    elif isinstance(test, filters.PrefixExpression):
        _check_test(test.right)
    elif isinstance(test, filters.RelativeFilterQuery):
        _check_singular(test.path)
    elif isinstance(test, filters.FunctionExtension):
        raise ValueError(f"the function {test.name}() is not taken")
    else:
        raise ValueError(f"{test} is not taken in a filter")


def _check_operand(operand: filters.BaseExpression) -> None:
    if isinstance(operand, filters.RelativeFilterQuery):
        _check_singular(operand.path)
    elif isinstance(operand, filters.FunctionExtension):
        raise ValueError(f"the function {operand.name}() is not taken")
    elif not isinstance(operand, filters.FilterExpressionLiteral | filters.Nil):
        raise ValueError(f"{operand} is not taken in a filter")


def _check_singular(path: jsonpath.JSONPath) -> None:
    """Names and indexes alone: what a filter looks at for each node is one other node."""
    if not path.singular_query():
        raise ValueError(f"{path} in a filter may hold names and indexes only, such as @.name")


# ── The walk ─────────────────────────────────────────────────────────────────────────────────


def _follow(segments: tuple[kinds.JSONPathSegment, ...], start: Any, budget: Budget) -> list[Any]:
    nodes = [start]
    for segment in segments:
        if isinstance(segment, kinds.JSONPathRecursiveDescentSegment):
            nodes = [below for node in nodes for below in _with_descendants(node, budget)]
        selector = segment.selectors[0]
        pick = PICKED_BY[type(selector)]
        budget.spend(len(nodes))
        nodes = [found for node in nodes for found in pick(selector, node, budget)]
    return nodes


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _with_descendants(node: Any, budget: Budget) -> Iterator[Any]:
    """The node, then the objects and arrays below it, each before its own: nothing selects from others."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        children = _children(one)
        budget.spend(len(children))
        waiting += [child for child in reversed(children) if isinstance(child, dict | list)]


def _by_name(selector: picks.NameSelector, node: Any, budget: Budget) -> list[Any]:
    return [node[selector.name]] if isinstance(node, dict) and selector.name in node else []


def _by_index(selector: picks.IndexSelector, node: Any, budget: Budget) -> list[Any]:
    is_there = isinstance(node, list) and -len(node) <= selector.index < len(node)
    return [node[selector.index]] if is_there else []


def _by_slice(selector: picks.SliceSelector, node: Any, budget: Budget) -> list[Any]:
    found = node[selector.slice] if isinstance(node, list) and selector.slice.step != 0 else []
    budget.spend(len(found))
    return found


def _all(selector: picks.WildcardSelector, node: Any, budget: Budget) -> list[Any]:
    found = _children(node)
    budget.spend(len(found))
    return found


def _by_filter(selector: picks.Filter, node: Any, budget: Budget) -> list[Any]:
    children = _children(node)
    budget.spend(len(children) * STEPS_OF_TEST)
    return [child for child in children if _holds(selector.expression.expression, child, budget)]


PICKED_BY: dict[type[picks.JSONPathSelector], Callable[[Any, Any, Budget], list[Any]]] = {
    picks.NameSelector: _by_name,
    picks.IndexSelector: _by_index,
    picks.SliceSelector: _by_slice,
    picks.WildcardSelector: _all,
    picks.Filter: _by_filter,
}


def _holds(test: filters.BaseExpression, node: Any, budget: Budget) -> bool:
    if isinstance(test, filters.PrefixExpression):
        return not _holds(test.right, node, budget)
    if isinstance(test, filters.RelativeFilterQuery):
        return bool(_follow(test.path.segments, node, budget))
    if not isinstance(test, filters.InfixExpression):
        raise TypeError(f"{test} was let in by no check")
    if test.operator == "&&":
        return _holds(test.left, node, budget) and _holds(test.right, node, budget)
    if test.operator == "||":
        return _holds(test.left, node, budget) or _holds(test.right, node, budget)
    left, right = _value(test.left, node, budget), _value(test.right, node, budget)
    return _environment().compare(left, test.operator, right)


def _value(operand: filters.BaseExpression, node: Any, budget: Budget) -> Any:
    if isinstance(operand, filters.RelativeFilterQuery):
        found = _follow(operand.path.segments, node, budget)
        return found[0] if found else filters.UNDEFINED
    return operand.value if isinstance(operand, filters.FilterExpressionLiteral) else None

"""IN, BETWEEN, CONTAINS, LIKE and their like, each with a NOT or without: NULL passes neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datafly_lite.expressions_patterns import Pattern
from datafly_lite.expressions_values import COMPARISONS, Run, Scope, same, spend, work_of

Test = Callable[[Any, Scope], bool | None]
"""Of a value that is not NULL; None where the test met a NULL itself."""


def tested(value: Run, test: Test, *, is_not: bool) -> Run:
    """The test over a value, or what it denies."""

    def run(scope: Scope) -> bool:
        found = value(scope)
        passes = None if found is None else test(found, scope)
        return passes is not None and passes is not is_not

    return run


def among(options: Sequence[Run]) -> Test:
    """One of them. As in SQL: with a NULL among them, nobody knows what is not."""

    def test(found: Any, scope: Scope) -> bool | None:
        is_known = True
        for option in options:
            spend(scope, work_of(found))
            other = option(scope)
            if same(found, other):
                return True
            is_known = is_known and other is not None
        return False if is_known else None

    return test


def between(least: Run, most: Run) -> Test:
    """From one to the other, both included."""
    reaches, passes = COMPARISONS[">="], COMPARISONS["<="]

    def test(found: Any, scope: Scope) -> bool | None:
        low, high = least(scope), most(scope)
        return None if low is None or high is None else reaches(found, low) and passes(found, high)

    return test


def paired(compare: Callable[[Any, Any], bool], other: Run) -> Test:
    """CONTAINS and its like."""

    def test(found: Any, scope: Scope) -> bool | None:
        spend(scope, work_of(found))
        right = other(scope)
        return None if right is None else compare(found, right)

    return test


def fitting(pattern: Pattern) -> Test:
    """LIKE and MATCHES: what is no text fits nothing."""

    def test(found: Any, scope: Scope) -> bool:
        if not isinstance(found, str):
            return False
        spend(scope, pattern.work(found))
        return pattern.fits(found)

    return test

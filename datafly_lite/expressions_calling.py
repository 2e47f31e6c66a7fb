"""A function of the expression language over the arguments that an expression gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datafly_lite.errors import StepFailed
from datafly_lite.expressions_functions import Function
from datafly_lite.expressions_values import UNUSABLE, Run, Scope, spend, unusable, work_of


def call(function: Function, arguments: Sequence[Run]) -> Run:
    """The function over its arguments; what fails says in which function."""
    if function.build is not None:
        return function.build(arguments)
    wanted, name, takes_null = function.call, function.name, function.takes_null

    def run(scope: Scope) -> Any:
        values = [argument(scope) for argument in arguments]
        if None in values and not takes_null:
            return None
        try:
            spend(scope, sum(map(work_of, values)))
            found = wanted(*values)  # type: ignore[misc]
            spend(scope, work_of(found))
            return found
        except StepFailed as error:
            raise StepFailed(f"{name}: {error}") from None
        except UNUSABLE as error:
            raise StepFailed(f"{name}: {unusable(error)}") from None

    return run

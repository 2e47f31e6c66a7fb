"""What expressions see and what their values may do: compare, count, become text.

Nothing is converted silently: text is no number, and what is missing is NULL, which compares to nothing.
Whatever a value cannot do raises StepFailed; the message names kinds, never the values themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import msgspec

from datafly_lite.errors import StepFailed
from datafly_lite.events import Event
from datafly_lite.paths import kind

LONGEST_TEXT_CHARS = 65_536
MOST_WORK = 800_000
"""Units of some 5 ns at worst (expressions_patterns.py): no evaluation takes more than a few milliseconds."""

CHAR_WORK, ENTRY_WORK = 3, 30
"""Units for a character of a text, and for an entry of a list or an object."""

LARGEST_WHOLE = 2**63
"""Beyond it neither SQLite nor every vendor keeps a whole number exactly."""


EXACT = Context(prec=400)
"""Digits enough for the largest float with those behind its point; of themselves decimals have 28."""

UNUSABLE = (ArithmeticError, ValueError, RecursionError)
"""What Python itself raises for a value that is too large, too deep or no Unicode: to a step, StepFailed."""


class Scope(msgspec.Struct):
    """What an expression may look at. `value` is the present value, inside a transform; `work` is what the
    evaluation has cost until now.
    """

    event: Event
    payload: dict[str, Any] = {}
    value: Any = None
    now_ms: int = 0
    work: int = 0


def spend(scope: Scope, units: int) -> None:
    """Raises StepFailed where an evaluation takes more than MOST_WORK: before the work is done."""
    scope.work += units
    if scope.work > MOST_WORK:
        raise StepFailed(f"it takes more than {MOST_WORK:,} units of work: the texts are too long for it")


def work_of(value: Any) -> int:
    """Units for a value that a function takes or gives, or that is compared."""
    if isinstance(value, str):
        return CHAR_WORK * len(value)
    return ENTRY_WORK * len(value) if isinstance(value, list | dict) else 1


Run = Callable[[Scope], Any]
"""A compiled expression. Raises StepFailed."""


def is_number(value: Any) -> bool:
    """True and false are no numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# ── Comparing ────────────────────────────────────────────────────────────────────────────────


def same(left: Any, right: Any) -> bool:
    """Equal and of one kind, in lists and objects too. NULL is the same as nothing, but for one in them."""
    if left is None or right is None or left != right:
        return False
    if isinstance(left, list | dict):
        return left is right or _alike(left, right)
    return isinstance(left, bool) is isinstance(right, bool)


def _alike(left: Any, right: Any) -> bool:
    """Of what Python calls equal, which 1 and true are: whether the kinds are the same all the way down."""
    if isinstance(left, list):
        return all(map(_alike, left, right))
    if isinstance(left, dict):
        return all(_alike(one, right[name]) for name, one in left.items())
    return isinstance(left, bool) is isinstance(right, bool)


def differs(left: Any, right: Any) -> bool:
    """Neither is NULL, and they are not the same."""
    return left is not None and right is not None and not same(left, right)


def _ordered(left: Any, right: Any) -> bool:
    return (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str))


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": same,
    "==": same,
    "!=": differs,
    "<>": differs,
    "<": lambda left, right: _ordered(left, right) and left < right,
    "<=": lambda left, right: _ordered(left, right) and left <= right,
    ">": lambda left, right: _ordered(left, right) and left > right,
    ">=": lambda left, right: _ordered(left, right) and left >= right,
}
"""An order between a text and a number, or with NULL, is false."""


def contains(left: Any, right: Any) -> bool:
    """A text in a text, or a value in a list."""
    if isinstance(left, list):
        return any(same(one, right) for one in left)
    return isinstance(left, str) and isinstance(right, str) and right in left


def starts(left: Any, right: Any) -> bool:
    """Text alone starts with anything."""
    return isinstance(left, str) and isinstance(right, str) and left.startswith(right)


def ends(left: Any, right: Any) -> bool:
    """Text alone ends with anything."""
    return isinstance(left, str) and isinstance(right, str) and left.endswith(right)


def truth(value: Any, what: str) -> bool:
    """NULL is false. Raises StepFailed for what is neither true nor false."""
    if value is True:
        return True
    if value is False or value is None:
        return False
    raise StepFailed(f"{what} needs true or false, not {kind(value)}")


# ── Counting ─────────────────────────────────────────────────────────────────────────────────


def bounded(value: float) -> float:
    """The number itself. Raises StepFailed for what JSON and SQLite cannot hold."""
    is_whole = isinstance(value, int)
    if (is_whole and abs(value) >= LARGEST_WHOLE) or (not is_whole and not math.isfinite(value)):
        raise StepFailed("the result is too large a number")
    return value


def add(left: float, right: float) -> float:
    """The sum."""
    return left + right


def subtract(left: float, right: float) -> float:
    """The difference."""
    return left - right


def multiply(left: float, right: float) -> float:
    """The product."""
    return left * right


def divide(left: float, right: float) -> float:
    """Whole where both are whole and nothing is left over. Raises StepFailed for a division by zero."""
    if right == 0:
        raise StepFailed("a division by zero")
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return left / right


def remainder(left: float, right: float) -> float:
    """With the sign of the first, as in SQL. Raises StepFailed for a division by zero."""
    if right == 0:
        raise StepFailed("a division by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}


def calculate(operator: str, left: Any, right: Any) -> Any:
    """NULL with anything is NULL. Raises StepFailed for what is no number, or too large."""
    if left is None or right is None:
        return None
    for one in (left, right):
        if not is_number(one):
            raise StepFailed(f"{operator} needs numbers, not {kind(one)}")
    try:
        return bounded(ARITHMETIC[operator](left, right))
    except OverflowError:
        raise StepFailed("the result is too large a number") from None


def negative(value: Any) -> Any:
    """`-x`; NULL stays NULL."""
    return calculate("-", 0, value)


def rounded(value: float, digits: int) -> float:
    """Half away from zero, as money is: 2.5 -> 3, 1.005 to two digits -> 1.01. Raises StepFailed for a
    number that is too large.
    """
    if isinstance(value, int):
        return bounded(value)
    exact = Decimal(repr(bounded(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, EXACT)
    return float(exact) if digits > 0 else bounded(int(exact))


# ── Text ─────────────────────────────────────────────────────────────────────────────────────


def fitting(text: str) -> str:
    """The text itself. Raises StepFailed where it is too long."""
    check_length(len(text))
    return text


def check_length(chars: int) -> None:
    """Raises StepFailed: before a text is made that would be too long."""
    if chars > LONGEST_TEXT_CHARS:
        raise StepFailed(f"the text would have more than {LONGEST_TEXT_CHARS} characters")


def text_of(value: Any) -> str | None:
    """`12.0` -> `12`, true -> `true`, NULL -> NULL. Raises StepFailed for a list or an object."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if is_number(value):
        return repr(value)
    raise StepFailed(f"{kind(value)} has no text; TO_JSON writes it")


def unusable(error: Exception) -> StepFailed:
    """One of UNUSABLE in words, without the value."""
    if isinstance(error, UnicodeError):
        return StepFailed("the text holds half a character")
    if isinstance(error, RecursionError):
        return StepFailed("the value is nested too deeply")
    return StepFailed("the value is too large or cannot be worked with")


def joined(values: Sequence[Any]) -> str | None:
    """`||`: NULL with anything is NULL."""
    texts = [text_of(value) for value in values]
    if None in texts:
        return None
    return fitting("".join(text for text in texts if text is not None))

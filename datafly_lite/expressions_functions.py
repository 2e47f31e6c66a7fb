"""The functions of the expression language: one row each, which the documentation repeats word for word.

NULL in gives NULL out unless a row says otherwise. A value of a kind that a function cannot use raises
StepFailed. Times are milliseconds since 1970-01-01 UTC, as JavaScript's are.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from datafly_lite.errors import StepFailed
from datafly_lite.expressions_values import (
    UNUSABLE,
    Run,
    Scope,
    bounded,
    check_length,
    fitting,
    is_number,
    rounded,
    same,
    text_of,
    truth,
    unusable,
)
from datafly_lite.paths import kind

MOST_DIGITS = 15
LONGEST_FORM_CHARS = 200
NUMBER = re.compile(r"[+-]?(\d+)(\.\d+)?([eE][+-]?\d{1,3})?")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
TIME_PARTS: dict[str, Callable[[datetime], str]] = {
    "Y": lambda at: f"{at.year:04}",
    "m": lambda at: f"{at.month:02}",
    "d": lambda at: f"{at.day:02}",
    "H": lambda at: f"{at.hour:02}",
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "L": lambda at: f"{at.microsecond // 1000:03}",
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "u": lambda at: str(at.isoweekday()),
    "%": lambda at: "%",
}
UNITS = {"ms": 1, "s": 1000}


class Function(NamedTuple):
    """`call` takes the values of the arguments; `build` makes one of the arguments themselves.

    `least` and `most` count the arguments; None: as many as one likes.
    """

    signature: str
    help: str
    call: Callable[..., Any] | None
    least: int
    most: int | None
    takes_null: bool = False
    build: Callable[[Sequence[Run]], Run] | None = None

    @property
    def name(self) -> str:
        """What is written before the bracket."""
        return self.signature.partition("(")[0]


# ── What arguments must be ───────────────────────────────────────────────────────────────────


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise StepFailed(f"text is needed, not {kind(value)}")
    return value


def _number(value: Any) -> float:
    if not is_number(value):
        raise StepFailed(f"a number is needed, not {kind(value)}")
    return value  # type: ignore[no-any-return]


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise StepFailed("a whole number is needed")
    return int(number)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise StepFailed(f"a list is needed, not {kind(value)}")
    return value


# ── Choosing ─────────────────────────────────────────────────────────────────────────────────


def _coalesce(arguments: Sequence[Run]) -> Run:
    def first_there(scope: Scope) -> Any:
        for argument in arguments:
            if (found := argument(scope)) is not None:
                return found
        return None

    return first_there


def _if(arguments: Sequence[Run]) -> Run:
    condition, then = arguments[0], arguments[1]
    otherwise = arguments[2] if len(arguments) > 2 else lambda _: None
    return lambda scope: then(scope) if truth(condition(scope), "IF") else otherwise(scope)


def _null_if(value: Any, other: Any) -> Any:
    return None if same(value, other) else value


# ── Text ─────────────────────────────────────────────────────────────────────────────────────


def _concat(*values: Any) -> str:
    return fitting("".join(text_of(value) or "" for value in values))


def _substring(text: Any, start: Any, length: Any = None) -> str:
    first = _whole(start) - 1
    if first < 0:
        raise StepFailed("the first character is number 1")
    if length is not None and _whole(length) < 0:
        raise StepFailed("a length is 0 or more")
    return _text(text)[first : None if length is None else first + _whole(length)]


def _replace(text: Any, old: Any, new: Any) -> str:
    before, wanted, instead = _text(text), _text(old), _text(new)
    if not wanted:
        return before
    check_length(len(before) + before.count(wanted) * (len(instead) - len(wanted)))
    return before.replace(wanted, instead)


def _split(text: Any, separator: Any) -> list[str]:
    if not _text(separator):
        raise StepFailed("the separator is empty")
    return _text(text).split(separator)


def _join(values: Any, separator: Any = ",") -> str:
    texts = [text for text in map(text_of, _list(values)) if text is not None]
    check_length(sum(map(len, texts)) + len(_text(separator)) * max(len(texts) - 1, 0))
    return str(separator).join(texts)


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise StepFailed(f"text, a list or an object is needed, not {kind(value)}")
    return len(value)


def _digest(name: str) -> Callable[[Any], str]:
    def digest(text: Any) -> str:
        return hashlib.new(name, _text(text).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()

    return digest


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────


def _round(number: Any, digits: Any = 0) -> float:
    if not 0 <= _whole(digits) <= MOST_DIGITS:
        raise StepFailed(f"the digits are 0 to {MOST_DIGITS}")
    return rounded(_number(number), _whole(digits))


def _numbers(values: Any, field: Any = None) -> list[float]:
    """The numbers of a list, or of one field of its objects; nulls are left out."""
    found = _list(values) if field is None else _mapped(values, field)
    return [_number(one) for one in found if one is not None]


def _sum(values: Any, field: Any = None) -> float:
    numbers = _numbers(values, field)
    try:
        total = math.fsum(numbers) if any(isinstance(one, float) for one in numbers) else sum(numbers)
    except (OverflowError, ValueError):
        raise StepFailed("the sum is too large a number") from None
    return bounded(total)


def _least(values: Any, field: Any = None) -> float | None:
    return min(_numbers(values, field), default=None)


def _greatest(values: Any, field: Any = None) -> float | None:
    return max(_numbers(values, field), default=None)


# ── Kinds ────────────────────────────────────────────────────────────────────────────────────


def to_number(value: Any) -> float:
    """Raises StepFailed for a text that is no number, whole or with a point."""
    if isinstance(value, bool):
        return int(value)
    if is_number(value):
        return value  # type: ignore[no-any-return]
    text = _text(value).strip()
    found = NUMBER.fullmatch(text) if text.isascii() and len(text) <= 400 else None
    if found is None:
        raise StepFailed("the text is not a number such as 12.50")
    return bounded(float(text) if found[2] or found[3] else int(text))


def to_boolean(value: Any) -> bool:
    """Raises StepFailed for what says neither yes nor no."""
    word = text_of(value).strip().lower() if isinstance(value, str | int | float) else ""  # type: ignore[union-attr]
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise StepFailed("true or false is needed, or a word such as yes or 0")


def _parse_json(text: Any) -> Any:
    try:
        return msgspec.json.decode(_text(text).encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        raise StepFailed("the text is not JSON") from None


def _to_json(value: Any) -> str:
    try:
        return fitting(msgspec.json.encode(value).decode())
    except UNUSABLE as error:
        raise unusable(error) from None


# ── Time ─────────────────────────────────────────────────────────────────────────────────────


def _at(value: Any) -> datetime:
    """ISO 8601 text, in UTC where it names no zone, or milliseconds."""
    try:
        if is_number(value):
            return EPOCH + timedelta(milliseconds=value)
        found = datetime.fromisoformat(_text(value).strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise StepFailed("a time such as 2026-03-01T10:00:00Z, or milliseconds, is needed") from None


def _to_timestamp(value: Any, unit: Any = "ms") -> int:
    if _text(unit) not in UNITS and unit != "us":
        raise StepFailed("the unit is 'ms', 's' or 'us'")
    micros = (_at(value) - EPOCH) // timedelta(microseconds=1)
    return micros if unit == "us" else micros // 1000 // UNITS[unit]


def _format_time(value: Any, form: Any) -> str:
    at = _at(value)
    if len(_text(form)) > LONGEST_FORM_CHARS:
        raise StepFailed(f"the form has more than {LONGEST_FORM_CHARS} characters")

    def part(found: re.Match[str]) -> str:
        if found[1] not in TIME_PARTS:
            raise StepFailed(
                f"a time has no %{found[1]}; it has {', '.join('%' + one for one in TIME_PARTS)}"
            )
        return TIME_PARTS[found[1]](at)

    return fitting(DIRECTIVE.sub(part, _text(form)))


# ── Lists and objects ────────────────────────────────────────────────────────────────────────


def _keys(value: Any) -> list[str]:
    if not isinstance(value, dict):
        raise StepFailed(f"an object is needed, not {kind(value)}")
    return list(value)


def _mapped(values: Any, field: Any) -> list[Any]:
    name = _text(field)
    return [one.get(name) if isinstance(one, dict) else None for one in _list(values)]


FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("COALESCE(a, b, …)", "the first that is not NULL", None, 1, None, True, _coalesce),
        Function("IF(condition, then, else?)", "one of the two; NULL without an else", None, 2, 3, True, _if),
        Function("NULLIF(a, b)", "NULL where both are the same, else a", _null_if, 2, 2, True),
        Function("LOWER(text)", "in small letters", lambda text: fitting(_text(text).lower()), 1, 1),
        Function("UPPER(text)", "in capitals", lambda text: fitting(_text(text).upper()), 1, 1),
        Function("TRIM(text)", "without white space at both ends", lambda text: _text(text).strip(), 1, 1),
        Function("CONCAT(a, b, …)", "one text of all; NULL counts as nothing", _concat, 1, None, True),
        Function(
            "SUBSTRING(text, start, length?)", "a part; the first character is number 1", _substring, 2, 3
        ),
        Function("REPLACE(text, old, new)", "each old replaced by new", _replace, 3, 3),
        Function("SPLIT(text, separator)", "a list of texts", _split, 2, 2),
        Function(
            "JOIN(list, separator?)",
            "one text of a list, with `,` between unless told; NULLs are left out",
            _join,
            1,
            2,
        ),
        Function(
            "LENGTH(value)", "characters of a text, entries of a list, keys of an object", _length, 1, 1
        ),
        Function("ROUND(number, digits?)", "half away from zero: `ROUND(2.5)` is 3", _round, 1, 2),
        Function(
            "FLOOR(number)", "the whole number below", lambda one: bounded(math.floor(_number(one))), 1, 1
        ),
        Function(
            "CEIL(number)", "the whole number above", lambda one: bounded(math.ceil(_number(one))), 1, 1
        ),
        Function("ABS(number)", "without its sign", lambda one: abs(_number(one)), 1, 1),
        Function(
            "MIN(list, field?)", "the least number of a list, or of a field of its objects", _least, 1, 2
        ),
        Function(
            "MAX(list, field?)",
            "the greatest number of a list, or of a field of its objects",
            _greatest,
            1,
            2,
        ),
        Function(
            "SUM(list, field?)",
            "the sum of a list, or of a field of its objects; NULLs are left out",
            _sum,
            1,
            2,
        ),
        Function("TO_NUMBER(value)", "of a text such as `'12.50'`; true is 1", to_number, 1, 1),
        Function("TO_STRING(value)", "of a number, true or false; `12.0` is `'12'`", text_of, 1, 1),
        Function(
            "TO_BOOLEAN(value)", "of true, yes, on, 1, false, no, off, 0, in any letters", to_boolean, 1, 1
        ),
        Function(
            "NOW()",
            "the time the event was received, in milliseconds since 1970",
            None,
            0,
            0,
            True,
            lambda _: lambda scope: scope.now_ms,
        ),
        Function(
            "TO_TIMESTAMP(time, unit?)",
            "an ISO 8601 text as milliseconds since 1970, or as `'s'` or `'us'`",
            _to_timestamp,
            1,
            2,
        ),
        Function(
            "FORMAT_TIME(time, form)",
            "a time, in UTC: `%Y %m %d %H %M %S`, `%L` milliseconds, `%j` day of the year, `%u` weekday",
            _format_time,
            2,
            2,
        ),
        Function("SHA256(text)", "64 hexadecimal digits, of the text in UTF-8", _digest("sha256"), 1, 1),
        Function("MD5(text)", "32 hexadecimal digits, of the text in UTF-8", _digest("md5"), 1, 1),
        Function("JSON_PARSE(text)", "what the JSON says", _parse_json, 1, 1),
        Function("TO_JSON(value)", "the value as JSON", _to_json, 1, 1),
        Function("KEYS(object)", "a list of its keys", _keys, 1, 1),
        Function("FIRST(list)", "its first entry", lambda one: next(iter(_list(one)), None), 1, 1),
        Function("LAST(list)", "its last entry", lambda one: next(reversed(_list(one)), None), 1, 1),
        Function("MAP(list, field)", "a list of one field of its objects", _mapped, 2, 2),
    )
}

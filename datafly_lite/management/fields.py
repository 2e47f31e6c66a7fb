"""What a field may hold, as small checks that are put together: `list_of(text(100), most=50)`.

A check takes a value as JSON gave it and returns the one to keep, or raises FieldError.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from datafly_lite.errors import AdminError

Check = Callable[[Any], Any]

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""C0, DEL, C1, and Unicode's own line breaks."""

HALF = re.compile(r"[\ud800-\udfff]")
"""A surrogate without its other one: JSON can write it, UTF-8 cannot."""

LARGEST_OBJECT_BYTES = 64 * 1024
DEEPEST = 32
EXACT_INTEGER = 2**53
"""Beyond it a JSON number loses digits in browsers, beyond 2^63 in SQLite (reliability.md, JSON facts)."""


class FieldError(Exception):
    """A value cannot be used; `path` is where inside the field: `.domains[2]`."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path


def checked(
    fields: Mapping[str, Any], checks: Mapping[str, Check], *, required: Collection[str] = ()
) -> dict[str, Any]:
    """The fields to keep, in the order of `checks`. Raises VALIDATION_ERROR with all that is wrong."""
    details = [_detail(name, "is not a field of this object") for name in fields if name not in checks]
    details += [_detail(name, "is required") for name in required if name not in fields]
    kept: dict[str, Any] = {}
    for name in (name for name in checks if name in fields):
        try:
            kept[name] = checks[name](fields[name])
        except FieldError as error:
            details.append(_detail(name + error.path, error.message))
    if details:
        raise invalid(details)
    return kept


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are empty, as a form or a query sends what was left out."""
    return {name: value for name, value in fields.items() if value not in (None, "")}


def invalid(details: list[dict[str, str]]) -> AdminError:
    """VALIDATION_ERROR whose message says the first thing that is wrong."""
    first = details[0]
    return AdminError("VALIDATION_ERROR", f"{first['field']}: {first['message']}", details=details)


def _detail(field: str, message: str) -> dict[str, str]:
    return {"field": field[:200], "message": message}


# ── The checks ───────────────────────────────────────────────────────────────────────────────


def text(longest: int, *, shortest: int = 0) -> Check:
    """A string. With `shortest`, one that is more than white space."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise FieldError("must be a string")
        if len(value.strip()) < shortest:
            raise FieldError(
                "must not be empty" if shortest == 1 else f"must have at least {shortest} characters"
            )
        if len(value) > longest:
            raise FieldError(f"must have at most {longest:,} characters")
        if HALF.search(value):
            raise FieldError("holds half a character")
        return value

    return check


def line(longest: int, *, shortest: int = 0) -> Check:
    """As `text`, without line breaks and other control characters: it stands in lists, logs and headers."""
    is_text = text(longest, shortest=shortest)

    def check(value: Any) -> str:
        if CONTROL.search(is_text(value)):
            raise FieldError("must not hold line breaks or other control characters")
        return str(value)

    return check


def matching(pattern: str, longest: int, words: str) -> Check:
    """A string that the pattern matches as a whole; `words` say what is wanted."""
    expression = re.compile(pattern)
    is_text = text(longest)

    def check(value: Any) -> str:
        if not expression.fullmatch(is_text(value)):
            raise FieldError(words)
        return str(value)

    return check


def one_of(*choices: str) -> Check:
    """One of these strings."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise FieldError(f"must be one of {', '.join(choices)}")
        return value

    return check


def whole(least: int, most: int) -> Check:
    """An integer, also as `5.0`: JSON Schema calls both one. A boolean is none."""

    def check(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise FieldError(f"must be a whole number from {least:,} to {most:,}")
        return value

    return check


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise FieldError("must be true or false")
    return value


def list_of(check_one: Check, *, most: int) -> Check:
    """A list; what stands in it twice is kept once."""

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise FieldError("must be a list")
        if len(value) > most:
            raise FieldError(f"must have at most {most:,} entries")
        return list(dict.fromkeys(_at(f"[{index}]", check_one, one) for index, one in enumerate(value)))

    return check


def map_of(check_key: Check, check_value: Check, *, most: int) -> Check:
    """An object with free keys."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise FieldError("must be an object")
        if len(value) > most:
            raise FieldError(f"must have at most {most:,} entries")
        return {
            _at(f".{key[:100]}", check_key, key): _at(f".{key[:100]}", check_value, one)
            for key, one in value.items()
        }

    return check


def object_of(checks: Mapping[str, Check]) -> Check:
    """An object with these fields, each optional, and no other."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise FieldError("must be an object")
        for name in value:
            if name not in checks:
                raise FieldError("is not a field of this object", f".{name[:100]}")
        return {name: _at(f".{name}", checks[name], one) for name, one in value.items()}

    return check


def free_object_with(checks: Mapping[str, Check]) -> Check:
    """As `free_object`; these of its fields are checked."""

    def check(value: Any) -> dict[str, Any]:
        return {
            name: _at(f".{name}", checks[name], one) if name in checks else one
            for name, one in free_object(value).items()
        }

    return check


def free_object(value: Any) -> dict[str, Any]:
    """An object of any JSON values, neither huge nor deep, each of which can be kept as it is."""
    if not isinstance(value, dict):
        raise FieldError("must be an object")
    _check_inside(value)
    if len(msgspec.json.encode(value)) > LARGEST_OBJECT_BYTES:
        raise FieldError(f"must have at most {LARGEST_OBJECT_BYTES:,} bytes as JSON")
    return value


def _check_inside(value: Any) -> None:
    """By a loop: what the decoder accepts can be too deep for any recursion after it."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if depth > DEEPEST:
            raise FieldError(f"must not be nested deeper than {DEEPEST} levels")
        if isinstance(one, dict):
            waiting += [(inner, depth + 1) for pair in one.items() for inner in pair]
        elif isinstance(one, list):
            waiting += [(inner, depth + 1) for inner in one]
        elif isinstance(one, int | float) and not _is_exact(one):
            raise FieldError("holds a number that loses digits: write it as a string")
        elif isinstance(one, str) and HALF.search(one):
            raise FieldError("holds half a character")


def _is_exact(number: float) -> bool:
    return abs(number) <= EXACT_INTEGER if isinstance(number, int) else math.isfinite(number)


def _at(path: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except FieldError as error:
        raise FieldError(error.message, path + error.path) from None


# ── Domains ──────────────────────────────────────────────────────────────────────────────────

LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
HOST = re.compile(rf"{LABEL}(\.{LABEL})*")


def host(value: Any) -> str:
    """A host name in lower case, an international one in its punycode form."""
    name: str = text(253, shortest=1)(value).lower()
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        raise FieldError("is not a host name") from None
    if not HOST.fullmatch(name):
        raise FieldError("must be a host name alone, such as www.example.com")
    return name


def host_or_wildcard(value: Any) -> str:
    """A host name, or `*.` and one: api.md, section 1, CORS."""
    is_wildcard = isinstance(value, str) and value.startswith("*.")
    return f"*.{host(value[2:])}" if is_wildcard else host(value)


def cookie_domain(value: Any) -> str:
    """Nothing, or a host name, before which a dot may stand."""
    if value == "":
        return ""
    has_dot = isinstance(value, str) and value.startswith(".")
    name = host(value[1:] if has_dot else value)
    if "_" in name:
        raise FieldError("must be a host name without underscores")
    return f".{name}" if has_dot else name

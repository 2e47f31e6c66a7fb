"""All that is wrong with a value that ought to be of a Struct: msgspec itself tells the first thing only.

The Struct's annotations are the one place where names, kinds and bounds stand; the words are fields.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from datafly_lite.management import fields as f

T = TypeVar("T")

LONGEST_TEXT = 65_536
"""Where an annotation says nothing."""


def decoded(value: Any, struct: type[T], field: str) -> tuple[T, list[dict[str, str]]]:
    """The value as the Struct, and `{"field", "message"}` of all that is wrong; fields begin with `field`.

    What is wrong is replaced by something harmless, so that the rest can still be looked at.
    """
    wrong: list[dict[str, str]] = []
    taken = _taken(value, inspect.type_info(struct), field, wrong)
    return msgspec.convert(taken, struct), wrong


def is_within(field: str, places: list[str]) -> bool:
    """Whether the field is one of these places, or inside one: `a.b[0]` is within `a.b`."""
    return any(field == place or field.startswith((f"{place}.", f"{place}[")) for place in places)


def _taken(value: Any, kind: inspect.Type, path: str, wrong: list[dict[str, str]]) -> Any:
    if isinstance(kind, inspect.StructType):
        return _struct(value, kind, path, wrong)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return _list(value, kind, path, wrong)
    if isinstance(kind, inspect.DictType):
        return _dict(value, kind, path, wrong)
    try:
        return _check(kind)(value)
    except f.FieldError as error:
        wrong.append(_detail(path, error.message))
        return _harmless(kind)


def _struct(value: Any, kind: inspect.StructType, path: str, wrong: list[dict[str, str]]) -> dict[str, Any]:
    if not isinstance(value, dict):
        wrong.append(_detail(path, "must be an object"))
        value = _harmless(kind)
    known = {field.encode_name: field for field in kind.fields}
    wrong += [
        _detail(f"{path}.{name}", "is not a field of this object") for name in value if name not in known
    ]
    missing = [name for name, field in known.items() if field.required and name not in value]
    wrong += [_detail(f"{path}.{name}", "is required") for name in missing]
    taken = {name: _harmless(known[name].type) for name in missing}
    for name in (name for name in known if name in value):
        taken[name] = _taken(value[name], known[name].type, f"{path}.{name}", wrong)
    return taken


def _list(
    value: Any, kind: inspect.ListType | inspect.VarTupleType, path: str, wrong: list[dict[str, str]]
) -> list[Any]:
    if not isinstance(value, list):
        wrong.append(_detail(path, "must be a list"))
        return []
    if kind.max_length is not None and len(value) > kind.max_length:
        wrong.append(_detail(path, f"must have at most {kind.max_length:,} entries"))
    whole = value[: kind.max_length]
    return [_taken(one, kind.item_type, f"{path}[{index}]", wrong) for index, one in enumerate(whole)]


def _dict(value: Any, kind: inspect.DictType, path: str, wrong: list[dict[str, str]]) -> dict[str, Any]:
    if not isinstance(value, dict):
        wrong.append(_detail(path, "must be an object"))
        return {}
    return {name: _taken(one, kind.value_type, f"{path}.{name}", wrong) for name, one in value.items()}


def _check(kind: inspect.Type) -> f.Check:
    """What a single value must be. Raises TypeError for a kind that no Struct had so far."""
    if isinstance(kind, inspect.BoolType):
        return f.boolean
    if isinstance(kind, inspect.IntType):
        least = -f.EXACT_INTEGER if kind.ge is None else kind.ge
        return f.whole(least, f.EXACT_INTEGER if kind.le is None else kind.le)
    if isinstance(kind, inspect.StrType) and kind.pattern is None:
        return f.text(kind.max_length or LONGEST_TEXT, shortest=kind.min_length or 0)
    if isinstance(kind, inspect.LiteralType):
        return f.one_of(*map(str, kind.values))
    raise TypeError(f"there is no check for {kind}")


def _harmless(kind: inspect.Type) -> Any:
    """A value of the kind, in the place of a wrong one."""
    if isinstance(kind, inspect.StructType):
        return {field.encode_name: _harmless(field.type) for field in kind.fields if field.required}
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return []
    if isinstance(kind, inspect.DictType):
        return {}
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, inspect.IntType):
        return kind.ge or 0
    return False if isinstance(kind, inspect.BoolType) else "x" * (getattr(kind, "min_length", 0) or 1)


def _detail(field: str, message: str) -> dict[str, str]:
    return {"field": field[:200], "message": message}


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any], before: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted field, old, new) of each value that is another one; None where there was none."""
    for name in {**old, **new}:
        one, other = old.get(name), new.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differing(one, other, f"{before}{name}.")
        else:
            yield f"{before}{name}", one, other

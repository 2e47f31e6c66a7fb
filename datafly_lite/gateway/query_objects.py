"""Query strings as nested objects: `user[id]=1&items[0][id]=A&colors[]=red`, as PHP and `qs` write them.

Pure. Nothing that a query says is thrown away, and nothing in it is an error but too many parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from datafly_lite.errors import Refused

MAX_DEPTH = 10
"""Levels of one name; what is deeper stays as it is written, as the last level's name."""
MAX_PAIRS = 1_000
MAX_INDEX_DIGITS = 9


class Node:
    """One name of the tree: the values given to it, and the names under it. Both may be there."""

    __slots__ = ("children", "next_index", "values")

    def __init__(self) -> None:
        self.values: list[str] = []
        self.children: dict[str, Node] = {}
        self.next_index = 0

    def child(self, name: str, *, appends: bool) -> Node:
        """The node under a name, made where it is missing. `[]` takes the next free index, as in PHP."""
        if appends:
            name = str(self.next_index)
        if _is_index(name):
            self.next_index = max(self.next_index, int(name) + 1)
        return self.children.setdefault(name, Node())

    def value(self) -> Any:
        """Text, a list or an object. Where several were said they stand in one list, texts first."""
        if not self.children:
            return self.values[0] if len(self.values) == 1 else self.values
        inner = self._container()
        if not self.values:
            return inner
        return [*self.values, *inner] if isinstance(inner, list) else [*self.values, inner]

    def _container(self) -> list[Any] | dict[str, Any]:
        """A list where the names are 0, 1, 2 … without a hole, in whatever order they came."""
        count = len(self.children)
        if all(str(index) in self.children for index in range(count)):
            return [self.children[str(index)].value() for index in range(count)]
        return {name: node.value() for name, node in self.children.items()}


def nested(
    pairs: Iterable[tuple[str, str]], *, brackets: bool = True, dots: bool, max_pairs: int = MAX_PAIRS
) -> dict[str, Any]:
    """`[("a[b]", "1"), ("a[c][]", "2")]` -> `{"a": {"b": "1", "c": ["2"]}}`. All values are text.

    A repeated name gives a list. `a=1&a[b]=2` gives `{"a": ["1", {"b": "2"}]}`. `dots` reads `a.b` as
    `a[b]`. Brackets that do not pair are part of the name. Raises Refused `invalid_payload` beyond
    `max_pairs`.
    """
    root: dict[str, Node] = {}
    for count, (name, value) in enumerate(pairs, start=1):
        if count > max_pairs:
            raise Refused("invalid_payload", f"more than {max_pairs:,} parameters in the query")
        first, *rest = _path(name, brackets=brackets, dots=dots)
        node = root.setdefault(first[0], Node())
        for part, appends in rest:
            node = node.child(part, appends=appends)
        node.values.append(value)
    return {name: node.value() for name, node in root.items()}


def pairs_of(query: bytes) -> tuple[list[tuple[str, str]], bool]:
    """The decoded parameters in their order, and whether bytes that are no UTF-8 had to be replaced.

    As forms are encoded, `+` is a space. Empty parts, as between `&&`, are nothing.
    """
    pairs: list[tuple[str, str]] = []
    is_repaired = False
    for part in query.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            decoded = [_text(name), _text(value)]
            pairs.append((decoded[0][0], decoded[1][0]))
            is_repaired |= decoded[0][1] or decoded[1][1]
    return pairs, is_repaired


def _text(encoded: bytes) -> tuple[str, bool]:
    plain = unquote_to_bytes(encoded.replace(b"+", b" "))
    try:
        return plain.decode(), False
    except UnicodeDecodeError:
        return plain.decode("utf-8", "replace"), True


def _path(name: str, *, brackets: bool, dots: bool) -> list[tuple[str, bool]]:
    """`a[b][]` -> `[("a", False), ("b", False), ("", True)]`: the names, and whether each is a `[]`."""
    head, inner = _bracketed(name) if brackets else (name, [])
    heads = head.split(".") if dots and "." in head else [head]
    if not all(heads):
        heads = [head]
    path = [*((part, False) for part in heads), *((part, not part) for part in inner)]
    if len(path) <= MAX_DEPTH:
        return path
    return [*path[: MAX_DEPTH - 1], ("".join(f"[{part}]" for part, _ in path[MAX_DEPTH - 1 :]), False)]


def _bracketed(name: str) -> tuple[str, list[str]]:
    """The name before the brackets, and what stands in each pair; all literal where they do not pair."""
    head, opening, tail = name.partition("[")
    if not opening or not head or not tail.endswith("]"):
        return name, []
    parts = tail[:-1].split("][")
    return (name, []) if any("[" in part or "]" in part for part in parts) else (head, parts)


def _is_index(name: str) -> bool:
    """Whether a name is a whole number as it is usually written: `0`, `12`, but not `01`."""
    return name.isascii() and name.isdigit() and len(name) <= MAX_INDEX_DIGITS and str(int(name)) == name

"""The page /docs: the API's document for people, one section a resource. It needs no script and no log-in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from markupsafe import Markup, escape
from starlette.responses import Response

from datafly_lite.management.openapi import PATH as DOCUMENT_PATH
from datafly_lite.management.openapi import document
from datafly_lite.management.routes import OPERATIONS, PREFIX
from datafly_lite.management.schemas import FULL_LINE, LINE
from datafly_lite.ui.visit import Visit

Json = Mapping[str, Any]

INLINE = re.compile(r"\*\*(?P<strong>[^*]+)\*\*|`(?P<code>[^`]+)`")
DEEPEST = 4
"""Levels of an example's body."""
BOUNDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} entries",
}
PATTERNS = {
    LINE: "one line",
    FULL_LINE: "one line, and more than white space",
    r"\S": "more than white space",
    r"^\S+$": "without white space",
}
"""What is easier said than read."""


class Field(NamedTuple):
    """A row of a table: a field of an object, or a parameter."""

    name: str
    type: Markup
    is_required: bool
    words: Markup
    where: str = ""
    """`path` or `query` of a parameter."""


class Shape(NamedTuple):
    """A body or an answer: what it is, and its fields where it is one object."""

    type: Markup
    words: Markup
    fields: list[Field]


class Refusal(NamedTuple):
    """An error: its status and the codes that come with it."""

    status: str
    words: Markup


class Entry(NamedTuple):
    """An operation."""

    id: str
    method: str
    path: str
    summary: str
    role: str
    parameters: list[Field]
    body: list[Shape]
    answer_status: str
    answer: list[Shape]
    refusals: list[Refusal]
    curl: str


class Section(NamedTuple):
    """A resource."""

    name: str
    words: Markup
    entries: list[Entry]


async def show(visit: Visit) -> Response:
    """The whole page."""
    words, sections, types = _page()
    return visit.page(
        "api_docs.html", words=words, sections=sections, types=types, document_path=DOCUMENT_PATH
    )


@cache
def _page() -> tuple[Markup, list[Section], list[tuple[str, Shape]]]:
    """(introduction, sections, types by name); the same for everybody, so it is made once."""
    reader = _Reader(json.loads(json.dumps(document(PREFIX, OPERATIONS))))
    return reader.introduction(), list(reader.sections()), list(reader.types())


class _Reader:
    """Reads the document."""

    def __init__(self, found: Json) -> None:
        self._document = found
        self._components = found["components"]

    def introduction(self) -> Markup:
        """In paragraphs."""
        parts = self._document["info"]["description"].split("\n\n")
        return Markup("").join(Markup("<p>{}</p>").format(inline(part)) for part in parts)

    def sections(self) -> Iterator[Section]:
        """In the order of the document."""
        entries: dict[str, list[Entry]] = {}
        for path, methods in self._document["paths"].items():
            for method, operation in methods.items():
                entry = self._entry(method.upper(), path, operation)
                entries.setdefault(operation["tags"][0], []).append(entry)
        for tag in self._document["tags"]:
            yield Section(tag["name"], inline(tag["description"]), entries[tag["name"]])

    def types(self) -> Iterator[tuple[str, Shape]]:
        """By their names."""
        for name, schema in sorted(self._components["schemas"].items()):
            yield name, self._shape(schema)

    def _entry(self, method: str, path: str, operation: Json) -> Entry:
        status = next(one for one in operation["responses"] if one < "400")
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        return Entry(
            id=operation["operationId"],
            method=method,
            path=path,
            summary=operation["summary"],
            role=_role(path, operation),
            parameters=[self._parameter(one) for one in operation["parameters"]],
            body=self._shapes(body),
            answer_status=status,
            answer=self._answer(operation["responses"][status]),
            refusals=[
                self._refusal(number, one)
                for number, one in sorted(operation["responses"].items())
                if number > "400"
            ],
            curl=self._curl(method, path, operation, body),
        )

    def _parameter(self, parameter: Json) -> Field:
        words = [parameter.get("description", ""), *_bounds(parameter["schema"])]
        kind, said = self._type(parameter["schema"]), _sentences(words)
        return Field(parameter["name"], kind, parameter["required"], said, parameter["in"])

    def _refusal(self, status: str, response: Json) -> Refusal:
        whole = self._components["responses"][_name(response)] if "$ref" in response else response
        return Refusal(status, inline(whole["description"]))

    def _answer(self, response: Json) -> list[Shape]:
        contents = response.get("content")
        if contents is None:
            return [Shape(Markup("nothing"), Markup(""), [])]
        [(media_type, content)] = contents.items()
        if media_type != "application/json":
            return [Shape(Markup("<code>{}</code>").format(media_type), Markup(""), [])]
        return self._shapes(content["schema"])

    # ── Types ────────────────────────────────────────────────────────────────────────────────

    def _shapes(self, schema: Json | None) -> list[Shape]:
        """One, or each of several that it can be."""
        if schema is None:
            return []
        return [self._shape(one) for one in schema.get("anyOf", [schema])]

    def _shape(self, schema: Json) -> Shape:
        whole = self._resolved(schema)
        required = whole.get("required", ())
        fields = [
            Field(name, self._type(one), name in required, _sentences(_words_of(one)))
            for name, one in whole.get("properties", {}).items()
        ]
        return Shape(self._type(schema), inline(whole.get("description", "")), fields)

    def _resolved(self, schema: Json) -> Json:
        found = self._components["schemas"][_name(schema)] if "$ref" in schema else schema
        return found if isinstance(found, Mapping) else {}

    def _type(self, schema: Json) -> Markup:
        """`list of Pipeline`, with a link to the type."""
        if "$ref" in schema:
            return Markup('<a href="#type-{0}">{0}</a>').format(_name(schema))
        if "enum" in schema:
            words = [Markup("<code>{}</code>").format(one) for one in schema["enum"]]
            return Markup(", ").join(words)
        if "const" in schema:
            return Markup("<code>{}</code>").format(json.dumps(schema["const"]))
        if "anyOf" in schema and "type" not in schema:
            return Markup(" or ").join(self._type(one) for one in schema["anyOf"])
        if schema.get("type") == "array":
            return Markup("list of {}").format(self._type(schema.get("items") or {}))
        if isinstance(schema.get("additionalProperties"), dict):
            return Markup("object of {}").format(self._type(schema["additionalProperties"]))
        kind = schema.get("type", "any")
        return escape(schema["format"] if schema.get("format") else kind)

    # ── Examples ─────────────────────────────────────────────────────────────────────────────

    def _curl(self, method: str, path: str, operation: Json, body: Json | None) -> str:
        asked = [one for one in operation["parameters"] if one["in"] == "query" and one["required"]]
        query = "&".join(f"{one['name']}={self._sample(one['schema'], one['name'])}" for one in asked)
        target = re.sub(r"{([a-z_]+)}", r"$\1", path) + (f"?{query}" if query else "")
        lines = [f'curl -X {method} "$URL{target}"']
        if operation["security"]:
            variable = "TOKEN" if "token" in operation["security"][0] else "KEY"
            lines.append(f'-H "Authorization: Bearer ${variable}"')
        if body is not None:
            sample = json.dumps(self._sample(body, ""), ensure_ascii=False)
            lines.append(f"-H 'Content-Type: application/json' -d '{sample}'")
        return " \\\n  ".join(lines)

    def _sample(self, schema: Json, name: str, depth: int = 0) -> Any:
        """A value of this type: what is required and no more."""
        whole = self._resolved(schema)
        if "anyOf" in whole and "type" not in whole:
            return self._sample(whole["anyOf"][0], name, depth)
        for told in ("examples", "enum"):
            if told in whole:
                return whole[told][0]
        if "const" in whole:
            return whole["const"]
        kind = whole.get("type")
        if kind == "object" and depth < DEEPEST:
            fields = whole.get("properties", {})
            return {
                one: self._sample(fields[one], one, depth + 1)
                for one in whole.get("required", ())
                if one in fields
            }
        samples = {
            "integer": whole.get("minimum", 1),
            "number": 1,
            "boolean": True,
            "array": [],
            "object": {},
        }
        return samples.get(str(kind), f"<{name}>")


def _name(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _role(path: str, operation: Json) -> str:
    """The least role, or how a collection path knows its pipeline."""
    if not path.startswith(PREFIX):
        return "the pipeline's key" if operation["security"] else "nobody"
    [[role]] = [one["token"] for one in operation["security"]] or [["nobody"]]
    return str(role)


def _words_of(schema: Json) -> list[str]:
    inner = schema.get("items", {}) if schema.get("type") == "array" else {}
    said = [schema.get("description", ""), *_bounds(schema), *(f"each {one}" for one in _bounds(inner))]
    return [*said, f"by default {json.dumps(schema['default'])}"] if schema.get("default") else said


def _bounds(schema: Json) -> list[str]:
    found = [words.format(f"{schema[name]:,}") for name, words in BOUNDS.items() if name in schema]
    if "pattern" not in schema:
        return found
    pattern = schema["pattern"]
    return [*found, PATTERNS.get(pattern, f"matches `{pattern}`")]


def _sentences(words: list[str]) -> Markup:
    said = [inline(f"{one[:1].upper()}{one[1:]}".rstrip(".")) for one in words if one]
    return Markup(". ").join(said) + (Markup(".") if said else Markup(""))


def inline(text: str) -> Markup:
    """`code` and **strong** of Markdown; everything else is text."""
    found, end = Markup(""), 0
    for part in INLINE.finditer(text):
        name = part.lastgroup or "code"
        found += escape(text[end : part.start()]) + Markup("<{0}>{1}</{0}>").format(name, part[name])
        end = part.end()
    return found + escape(text[end:])

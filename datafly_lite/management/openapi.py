"""The API's own document, OpenAPI 3.1: made from the table of routes and the types it names.

Each error status of an operation says which codes it can have; each of the two shapes of errors is described
once, as a component.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datafly_lite import __version__
from datafly_lite.management.openapi_words import CODES, INTRODUCTION, PARAMETERS, TAGS
from datafly_lite.management.operations import PATH_PARAMETER, Operation
from datafly_lite.management.operations_collection import PATHS, Collection
from datafly_lite.management.schemas import Error, File
from datafly_lite.management.schemas_collection import Refusal

Json = dict[str, Any]

PATH = "/openapi.json"
REF = "#/components/schemas/{name}"
HEADERS: Json = {
    "RequestId": {
        "description": "The caller's own X-Request-ID where it sent a decent one, else a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RetryAfter": {
        "description": "Seconds to wait.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Authenticate": {
        "description": "Always `Bearer`.",
        "required": True,
        "schema": {"const": "Bearer", "type": "string"},
    },
}
SECURITY: Json = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token or an API key. What a requirement lists is the least role.",
    },
    "key": {"type": "http", "scheme": "bearer", "description": "A pipeline's key, dk_…"},
    "keyAsUser": {"type": "http", "scheme": "basic", "description": "A pipeline's key as the user."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Signature",
        "description": "`sha256=` and the HMAC-SHA256, in hex, of X-Timestamp, a dot and the body.",
    },
}
NOSNIFF = {"x-content-type-options": "nosniff"}
WITH_WAIT = (429, 503)


def document_route(prefix: str, operations: Sequence[Operation]) -> Route:
    """GET /openapi.json, for everybody: what it says is no secret, and a program needs it before a token."""
    found: list[bytes] = []

    async def answer(_: Request) -> Response:
        if not found:
            found.append(msgspec.json.encode(document(prefix, operations)))
        return Response(found[0], media_type="application/json", headers=NOSNIFF)

    return Route(PATH, answer)


def document(prefix: str, operations: Sequence[Operation]) -> Json:
    """The whole document; the operations' paths begin with `prefix`."""
    everything: list[Operation | Collection] = [*operations, *PATHS]
    schemas, errors = _Schemas(everything), _Errors()
    paths: Json = {}
    tags: dict[str, None] = {}
    for one in everything:
        path = PATH_PARAMETER.sub(r"{\1}", (prefix if isinstance(one, Operation) else "") + one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, schemas, errors)
        tags[one.tag] = None
    components = {
        "schemas": schemas.components,
        "responses": errors.components,
        "headers": HEADERS,
        "securitySchemes": SECURITY,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "datafly_lite", "version": __version__, "description": INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": TAGS.get(tag, "")} for tag in tags],
        "paths": paths,
        "components": components,
    }


def _operation(one: Operation | Collection, schemas: _Schemas, errors: _Errors) -> Json:
    is_management = isinstance(one, Operation)
    path_parameters = [_path_parameter(name) for name, _ in PATH_PARAMETER.findall(one.path)]
    found: Json = {
        "operationId": one.operation_id,
        "tags": [one.tag],
        "summary": one.summary,
        "security": one.security,
        "parameters": [*path_parameters, *schemas.parameters(one.query)],
        "responses": {str(one.success): schemas.answer(one.gives, is_management=is_management)},
    }
    for status, codes in one.statuses.items():
        found["responses"][str(status)] = errors.of(status, codes, is_management=is_management)
    if isinstance(one, Collection):
        found["responses"] |= {str(status): _other(status, *said) for status, said in one.others.items()}
    if one.takes is not None:
        content = {"application/json": {"schema": schemas.of(one.takes)}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _path_parameter(name: str) -> Json:
    schema = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": PARAMETERS.get(name, ""),
        "schema": schema,
    }


def _error(status: int, codes: Sequence[str], *, is_management: bool) -> Json:
    """One of the two shapes, with the codes that this operation knows for this status."""
    allowed: Json = {"properties": {"code": {"enum": list(codes)}}}
    if is_management:
        allowed = {"properties": {"error": allowed}}
    shape = REF.format(name=(Error if is_management else Refusal).__name__)
    return {
        "description": "; ".join(f"`{code}`: {CODES[code]}" for code in codes),
        "headers": _headers(status, is_management=is_management),
        "content": {"application/json": {"schema": {"allOf": [{"$ref": shape}, allowed]}}},
    }


def _other(status: int, words: str, gives: File | None) -> Json:
    """An answer that is neither a success nor one of the two shapes."""
    headers = _headers(status, is_management=False)
    content = {} if gives is None else {"content": _file(gives)}
    return {"description": words, "headers": headers, **content}


def _file(gives: File) -> Json:
    schema = {"type": "string", "contentMediaType": gives.media_type}
    return {gives.media_type: {"schema": schema}}


def _headers(status: int, *, is_management: bool) -> Json:
    names = {"Retry-After": "RetryAfter"} if status in WITH_WAIT else {}
    if is_management:
        names |= {"X-Request-ID": "RequestId"}
        names |= {"WWW-Authenticate": "Authenticate"} if status == 401 else {}
    return {name: {"$ref": f"#/components/headers/{component}"} for name, component in names.items()}


class _Errors:
    """The components of errors: one for each status and the codes that can come with it."""

    def __init__(self) -> None:
        self.components: Json = {}

    def of(self, status: int, codes: Sequence[str], *, is_management: bool) -> Json:
        """A reference to it."""
        name = "-".join([str(status), *codes])
        self.components[name] = _error(status, codes, is_management=is_management)
        return {"$ref": f"#/components/responses/{name}"}


class _Schemas:
    """The components of all types that operations name; parameters are taken out of theirs."""

    def __init__(self, operations: Sequence[Operation | Collection]) -> None:
        shown = {kind: None for one in operations for kind in (*_kinds(one.gives), *_kinds(one.takes))}
        asked = {one.query: None for one in operations if one.query is not None}
        kinds = [*shown, Error, Refusal]
        found, self.components = msgspec.json.schema_components(kinds, ref_template=REF)
        self._by_kind: dict[Any, Json] = dict(zip(kinds, found, strict=True))
        self._queries = {query: _query(query) for query in asked}
        self.components |= {name: one for _, others in self._queries.values() for name, one in others.items()}
        for component in self.components.values():
            _tidy(component)

    def of(self, kind: Any) -> Json:
        """The schema of a type; of several, any of them."""
        found = [self._by_kind[one] for one in _kinds(kind)]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def answer(self, gives: Any, *, is_management: bool) -> Json:
        """An answer that is no error."""
        headers = _headers(200, is_management=is_management)
        if gives is None:
            return {"description": "Done; there is nothing to say.", "headers": headers}
        if isinstance(gives, File):
            return {"description": "The file.", "headers": headers, "content": _file(gives)}
        content = {"application/json": {"schema": self.of(gives)}}
        return {"description": _first_words(gives), "headers": headers, "content": content}

    def parameters(self, query: Any) -> list[Json]:
        """Those of the query, one a field."""
        if query is None:
            return []
        (schema, _) = self._queries[query]
        return [
            {
                "name": name,
                "in": "query",
                "allowEmptyValue": True,
                "required": name in schema.get("required", ()),
                **({"description": one["description"]} if "description" in one else {}),
                "schema": {key: value for key, value in one.items() if key != "description"},
            }
            for name, one in schema["properties"].items()
        ]


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The types that a line of the table names."""
    if kind is None or isinstance(kind, File):
        return ()
    return kind if isinstance(kind, tuple) else (kind,)


def _query(query: Any) -> tuple[Json, Json]:
    """(the query's own schema, the components that it refers to)."""
    _, components = msgspec.json.schema_components([query], ref_template=REF)
    return components.pop(query.__name__), components


def _first_words(gives: Any) -> str:
    words = [(one.__doc__ or "").strip().split("\n")[0] for one in _kinds(gives)]
    return " Or: ".join(word for word in words if word) or "The answer."


def _tidy(component: Json) -> None:
    """Docstrings as Markdown: without the indentation that they have in the source."""
    if "description" in component:
        lines = component["description"].split("\n")
        component["description"] = "\n".join(line.strip() for line in lines).strip()

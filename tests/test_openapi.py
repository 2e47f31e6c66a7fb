"""The document at /openapi.json: valid, complete, and the same as what the gateway and the errors say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from datafly_lite import __version__
from datafly_lite.errors import AdminError, Refused
from datafly_lite.gateway import DIALECTS
from datafly_lite.management.openapi import document
from datafly_lite.management.openapi_words import CODES, PARAMETERS, TAGS
from datafly_lite.management.operations_collection import PATHS
from datafly_lite.management.routes import OPERATIONS, PREFIX
from datafly_lite.vendors import VENDORS
from kit import request
from management_kit import Admin, running_admin

DOCUMENT = json.loads(json.dumps(document(PREFIX, OPERATIONS)))
ALL = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
ROLES = ("viewer", "editor", "admin", "owner")
WITHOUT_A_ROLE = {"set_up", "login", "refresh", "accept_invite"}
MANAGED = {one.operation_id for one in OPERATIONS}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running_admin(tmp_path_factory.mktemp("openapi") / "data") as running:
        yield running


def resolved(response: Any) -> Any:
    """An answer, or the component that it refers to."""
    if "$ref" not in response:
        return response
    return DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]


def codes_of(response: Any) -> list[str]:
    """The error codes that an answer of the document can have."""
    allowed = resolved(response)["content"]["application/json"]["schema"]["allOf"][1]["properties"]
    found: list[str] = allowed.get("error", {}).get("properties", allowed)["code"]["enum"]
    return found


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == __version__


def test_it_is_served_to_everybody(admin: Admin) -> None:
    answer = request(f"{admin.base_url}/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT


def test_every_route_is_in_it() -> None:

    here = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    managed = {(path, method) for path, method in here if path.startswith(PREFIX)}
    assert managed == {(PREFIX + one.path.replace(":path}", "}"), one.method) for one in OPERATIONS}
    assert len(managed) == len(OPERATIONS)


def test_every_collection_path_is_in_it() -> None:
    gateway = {(dialect.method, path) for dialect in DIALECTS for path in dialect.paths}
    beside = {
        ("POST", "/v1/challenge"),
        ("POST", "/v1/cross-domain"),
        ("GET", "/v1/sync"),
        ("GET", "/sync"),
        ("POST", "/v1/m"),
        ("GET", "/v1/projects/{pipeline_key}/settings"),
    }
    scripts = {("GET", path) for path in ("/c/{pipeline_key}/{script_filename}", "/datafly.js", "/d.js")}
    assert {(one.method, one.path) for one in PATHS} == gateway | beside | scripts


@pytest.mark.parametrize("operation", ALL, ids=lambda one: one["operationId"])
def test_an_operation_is_complete(operation: dict[str, Any]) -> None:
    assert len(operation["summary"]) > 5
    assert not operation["summary"].endswith(".")
    [tag] = operation["tags"]
    assert TAGS.get(tag), f"openapi_words.py says nothing of {tag}"
    for parameter in operation["parameters"]:
        assert parameter["schema"], parameter
        assert parameter["in"] == "query" or parameter["description"], f"PARAMETERS lacks {parameter['name']}"
    good = [status for status in operation["responses"] if status < "303"]
    assert len(good) == 1
    answer = operation["responses"][good[0]]
    assert ("content" in answer) == (good not in (["204"], ["302"]))
    assert len(answer["description"]) > 5, "the answer's type has no docstring"
    others = {status: one for status, one in operation["responses"].items() if status > "302"}
    assert others
    if tag == "collect-scripts":
        assert others.keys() == {"304", "404", "503"}
        return
    refused = {status: codes_of(one) for status, one in others.items()}
    known = {**AdminError.STATUS, **Refused.STATUS}
    assert all(str(known[code]) == status for status, codes in refused.items() for code in codes)


@pytest.mark.parametrize(
    "operation", [one for one in ALL if one["operationId"] in MANAGED], ids=lambda one: one["operationId"]
)
def test_an_operation_has_its_role(operation: Any) -> None:
    """And the errors that come with it."""
    responses = operation["responses"]
    if operation["operationId"] in WITHOUT_A_ROLE:
        assert operation["security"] == []
        return
    [[role]] = [requirement["token"] for requirement in operation["security"]]
    assert role in ROLES
    assert {"INVALID_TOKEN", "EXPIRED_TOKEN"} <= set(codes_of(responses["401"]))
    assert codes_of(responses["429"]) == ["RATE_LIMITED"]
    assert codes_of(responses["503"]) == ["STORAGE_UNAVAILABLE"]
    assert "Retry-After" in resolved(responses["503"])["headers"]
    assert ("403" in responses) == (role != "viewer" or operation["tags"] == ["auth"])
    has_path_parameters = any(one["in"] == "path" for one in operation["parameters"])
    assert ("404" in responses) or not has_path_parameters
    assert {"400", "413", "422"} <= responses.keys() or "requestBody" not in operation


def test_operation_ids_are_unique() -> None:
    ids = [one["operationId"] for one in ALL]
    assert sorted(ids) == sorted(set(ids))


def test_every_type_says_what_it_is() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    enums = {name for name, schema in schemas.items() if "enum" in schema}
    assert [name for name in schemas.keys() - enums if not schemas[name].get("description")] == []


def test_the_one_shape_of_errors_is_a_component() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert list(schemas["Error"]["properties"]) == ["error"]
    assert schemas["ErrorBody"]["required"] == ["code", "message", "details", "request_id"]
    assert schemas["Refusal"]["required"] == ["success", "code", "message"]


def test_the_words_are_those_of_the_program() -> None:
    assert CODES.keys() == {**AdminError.STATUS, **Refused.STATUS}.keys()
    used = {name for one in OPERATIONS for name in one.path_parameters}
    assert used - PARAMETERS.keys() == set()
    vendor = DOCUMENT["components"]["schemas"]["NewIntegration"]["properties"]["vendor"]
    assert sorted(vendor["enum"]) == sorted(VENDORS)

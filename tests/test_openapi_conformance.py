"""schemathesis reads the document and tries everything: no 5xx, and every answer is as the document says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection

from datafly_lite.management.openapi import document
from datafly_lite.management.routes import OPERATIONS, PREFIX
from openapi_kit import Tenant, running_tenant, token_of

Case = schemathesis.Case[Any]
bounded = settings(
    max_examples=4, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
log_outs = itertools.count(1)
here: list[Tenant] = []
"""The running server, for the hook below: hypothesis makes cases where no fixture reaches."""


def read_document() -> Any:
    """The document, as schemathesis has it."""
    schema = schemathesis.openapi.from_dict(document(PREFIX, OPERATIONS))
    schema.config.checks.negative_data_rejection.expected_statuses.append("410")  # GONE
    schema.config.checks.positive_data_acceptance.expected_statuses += ["410", "422"]
    schema.config.generation.with_security_parameters = False  # each test has its own
    schema.config.generation.allow_extra_parameters = False  # they are ignored, and so always good
    return schema


somebody, nobody = read_document(), read_document()
nobody.config.phases.coverage.enabled = False  # what a body is like matters little to who may not send it

BEYOND_SCHEMAS = (
    *("cursor", "from", "to", "expires_at", "new_password"),
    *("pipeline_id", "integration_id", "revision_id", "base_revision", "variant", "config"),
    *("domain", "identity_config", "js_builder_config"),
    *("signing_secret", "signature_header", "signature_encoding", "event_type_path", "mappings"),
    *("data_layer", "consent_settings", "events", "now"),
)
"""Fields whose values JSON Schema cannot tell: of what exists, vendors, hosts, JSONPaths, long numbers."""


@somebody.hook  # type: ignore[untyped-decorator]
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """In about half of the cases what is there; a deletion looks for what is not there."""
    if path_parameters and here and context.operation.method != "delete":
        for name, value in path_parameters.items():
            if len(str(value)) % 2:
                path_parameters[name] = here[0].ids.get(name, value)
    return path_parameters


@somebody.hook  # type: ignore[untyped-decorator]
def filter_query(_: Any, query: dict[str, Any] | None) -> bool:
    """An empty parameter counts as absent, whatever its type."""
    return not any(value in ("", None) or value in ([], {}) for value in (query or {}).values())


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    with running_tenant(tmp_path_factory.mktemp("openapi") / "data") as running:
        here[:] = [running]
        yield running


def refused_fields(_: Any, response: schemathesis.Response, case: Case) -> None:
    """Of what the document allows, nothing is refused but for these fields' values."""
    is_allowed = case.meta is not None and case.meta.generation.mode.is_positive
    if is_allowed and response.status_code == 422:
        for detail in response.json()["error"]["details"]:
            assert detail["field"].startswith(BEYOND_SCHEMAS), detail


def liberal(case: Case) -> list[Any]:
    """The collection paths take more than the document promises: SDKs make mistakes."""
    return [] if case.path.startswith(PREFIX) else [negative_data_rejection]


def bearer(case: Case, tenant: Tenant) -> dict[str, str]:
    """A pipeline's key, or the owner's token: a new one for a log-out."""
    if not case.path.startswith(PREFIX):
        return {"Authorization": f"Bearer {tenant.pipeline_key}"}
    number = next(log_outs) if case.path.endswith("/logout") else 0
    return {"Authorization": f"Bearer {token_of('owner', number)}"}


@somebody.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_with_authentication(case: Case, tenant: Tenant) -> None:
    case.call_and_validate(
        base_url=tenant.server.base_url,
        headers=bearer(case, tenant),
        additional_checks=[refused_fields],
        excluded_checks=liberal(case),
    )


@nobody.parametrize()  # type: ignore[untyped-decorator]
@bounded
def test_without_authentication(case: Case, tenant: Tenant) -> None:
    case.call_and_validate(base_url=tenant.server.base_url, excluded_checks=liberal(case))

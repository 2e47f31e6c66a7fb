"""What a line of routes.py says of an operation, and what follows from it without being said."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from datafly_lite.errors import AdminError
from datafly_lite.management.http import Handler

PATH_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")
BODY_CODES = ("INVALID_JSON", "VALIDATION_ERROR", "REQUEST_TIMEOUT", "PAYLOAD_TOO_LARGE")
PARTS = ("collector", "integrations")
"""What hangs on a pipeline and is a resource by itself."""
ROLE_CODES = ("INVALID_TOKEN", "EXPIRED_TOKEN", "RATE_LIMITED")


class Operation(NamedTuple):
    """One line of the table. `errors` are the codes that only this operation knows: see `codes`.

    `gives` is the type of the answer (a Struct, a File), None where there is none (204); `takes` that of the
    body, `query` that of the parameters.
    """

    method: str
    path: str
    role: str | None
    handler: Handler
    summary: str
    gives: Any
    takes: Any = None
    query: Any = None
    status: int = 200
    errors: tuple[str, ...] = ()

    @property
    def operation_id(self) -> str:
        """Its name in generated clients."""
        return self.handler.__name__

    @property
    def tag(self) -> str:
        """The resource that it is about: the path's first part, or what hangs on a pipeline."""
        parts = self.path.strip("/").split("/")
        return parts[2] if parts[0] == "pipelines" and len(parts) > 2 and parts[2] in PARTS else parts[0]

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """Who may call it, in OpenAPI's words: a token, and as its scope the least role."""
        return [{"token": [self.role]}] if self.role else []

    @property
    def path_parameters(self) -> list[str]:
        """Their names, in their order."""
        return [name for name, _ in PATH_PARAMETER.findall(self.path)]

    @property
    def for_people(self) -> bool:
        """Whether no API key may call it: who has one must not come in with it for good, or past its role
        or its end.
        """
        is_change = self.method != "GET"
        return self.path.startswith("/auth/") or (is_change and self.path.startswith(("/users", "/api-keys")))

    @property
    def success(self) -> int:
        """The status of an answer that is no error."""
        return 204 if self.gives is None else self.status

    @property
    def codes(self) -> list[str]:
        """Every code that an error of this operation can have, in the order of errors.py."""
        found = {"STORAGE_UNAVAILABLE", *self.errors}
        if self.role is not None:
            found |= {*ROLE_CODES}
        if self.role not in (None, "viewer") or (self.role is not None and self.for_people):
            found |= {"FORBIDDEN"}
        if self.path_parameters:
            found |= {"NOT_FOUND"}
        if self.takes is not None:
            found |= {*BODY_CODES}
        if self.query is not None:
            found |= {"VALIDATION_ERROR"}
        return [code for code in AdminError.STATUS if code in found]

    @property
    def statuses(self) -> dict[int, list[str]]:
        """Status of an error -> the codes that it can have."""
        return by_status(self.codes, AdminError.STATUS)


def by_status(codes: Collection[str], statuses: Mapping[str, int]) -> dict[int, list[str]]:
    """The codes by their status, both in the order of errors.py."""
    found: dict[int, list[str]] = {}
    for code, status in statuses.items():
        if code in codes:
            found.setdefault(status, []).append(code)
    return found

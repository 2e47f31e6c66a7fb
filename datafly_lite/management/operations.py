"""What a line of routes.py says of an operation, and what follows from it without being said."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from datafly_lite.errors import AdminError
from datafly_lite.management.http import Handler

PATH_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")
BODY_CODES = ("INVALID_JSON", "VALIDATION_ERROR", "REQUEST_TIMEOUT", "PAYLOAD_TOO_LARGE")
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
    def path_parameters(self) -> list[str]:
        """Their names, in their order."""
        return [name for name, _ in PATH_PARAMETER.findall(self.path)]

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
        if self.role not in (None, "viewer"):
            found |= {"FORBIDDEN"}
        if self.path_parameters:
            found |= {"NOT_FOUND"}
        if self.takes is not None:
            found |= {*BODY_CODES}
        if self.query is not None:
            found |= {"VALIDATION_ERROR"}
        return [code for code in AdminError.STATUS if code in found]

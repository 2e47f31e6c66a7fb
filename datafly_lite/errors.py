"""Every error of the product, sorted by what happens next.

DataflyError
├── Refused                 tell the client: an ingest request, with its code and status
├── AdminError              tell the user: a management request, with its code and status
├── SettingsError           tell the operator: the process does not start
├── StorageError            nothing was stored
│   ├── StorageUnavailable  tell the client to come again (full disk, stopping)
│   │   └── StorageBusy     likewise, and soon: the queue is full
│   ├── StorageBroken       stop the process: the file can no longer be trusted
│   └── StorageRefused      tell the operator: locked, newer schema, not a database
├── MappingError            give up on one delivery: the vendor's request cannot be made
│   └── StepFailed          likewise: a step of the integration's own failed
├── ExpressionError         tell the user: an expression or a path cannot be read
├── ScriptError             tell the user: JavaScript cannot be read, or failed on an event
├── ScriptEngineUnavailable  come again later: no JavaScript can be run or tried now, whatever it says
├── AddressRefused          give up on one delivery: the address is not allowed
├── VendorUnreachable       try one delivery again: no answer came
└── BuildError              tell the user: a collector could not be built
"""

from __future__ import annotations

from typing import ClassVar


class DataflyError(Exception):
    """Something the product understands went wrong."""


class Refused(DataflyError):
    """An ingest request is refused and nothing of it is stored.

    `code` is the closed list of `STATUS`; the same word is the metric's label
    (api.md, section 1). `retry_after_s` goes out as an integer `Retry-After`. `body` is the event's own
    bytes where it is one of a batch.
    """

    STATUS: ClassVar[dict[str, int]] = {
        "invalid_json": 400,
        "invalid_payload": 400,
        "batch_too_large": 400,
        "event_too_large": 400,
        "invalid_key": 401,
        "invalid_signature": 401,
        "timestamp_expired": 401,
        "challenge_required": 401,
        "origin_not_allowed": 403,
        "pipeline_disabled": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "request_timeout": 408,
        "body_too_large": 413,
        "rate_limited": 429,
        "storage_unavailable": 503,
        "overloaded": 503,
    }

    def __init__(
        self, code: str, message: str, *, retry_after_s: int | None = None, body: bytes = b""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = self.STATUS[code]
        self.retry_after_s = retry_after_s
        self.body = body


class AdminError(DataflyError):
    """A management request is refused (api.md, section 2).

    `details` is a list of `{"field": "a.b[0]", "message": "..."}`.
    """

    STATUS: ClassVar[dict[str, int]] = {
        "INVALID_JSON": 400,
        "VALIDATION_ERROR": 422,
        "INVALID_CREDENTIALS": 401,
        "INVALID_TOKEN": 401,
        "EXPIRED_TOKEN": 401,
        "INVALID_REFRESH_TOKEN": 401,
        "ACCOUNT_LOCKED": 401,
        "FORBIDDEN": 403,
        "CROSS_SITE_REQUEST": 403,
        "NOT_FOUND": 404,
        "METHOD_NOT_ALLOWED": 405,
        "REQUEST_TIMEOUT": 408,
        "CONFLICT": 409,
        "GONE": 410,
        "PAYLOAD_TOO_LARGE": 413,
        "RATE_LIMITED": 429,
        "INTERNAL_ERROR": 500,
        "STORAGE_UNAVAILABLE": 503,
    }

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: list[dict[str, str]] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = self.STATUS[code]
        self.details = details or []
        self.retry_after_s = retry_after_s

    @classmethod
    def invalid(cls, field: str, message: str) -> AdminError:
        """One field has a value that cannot be used."""
        return cls("VALIDATION_ERROR", f"{field}: {message}", details=[{"field": field, "message": message}])


class SettingsError(DataflyError):
    """A setting is unknown or has a value that cannot be used."""


class StorageError(DataflyError):
    """Nothing was stored."""


class StorageUnavailable(StorageError):
    """The store cannot take the change now; the same request may work later."""

    def __init__(self, message: str, *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageBusy(StorageUnavailable):
    """More waits for its commit than the queue may hold."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=1)


class StorageBroken(StorageError):
    """An I/O error was seen: what follows could hide a loss, so the process stops."""


class StorageRefused(StorageError):
    """The data folder cannot be used by this process."""


class MappingError(DataflyError):
    """The vendor's request cannot be made from this event."""


class StepFailed(MappingError):
    """A step of an integration's own cannot go on with this event; the message names the step and why."""


class ExpressionError(DataflyError):
    """An expression or a path cannot be read. `position` counts characters from 1."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class ScriptError(DataflyError):
    """JavaScript cannot be read, or failed. `line` counts from 1; None where no line is to blame."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class ScriptEngineUnavailable(DataflyError):
    """JavaScript cannot be run now, for no reason of the script's; the same call may work later."""

    def __init__(self, why: str, *, retry_after_s: int = 5) -> None:
        super().__init__(f"JavaScript cannot be tried now: {why}")
        self.retry_after_s = retry_after_s


class AddressRefused(DataflyError):
    """An outgoing address is not allowed (SSRF gate)."""


class VendorUnreachable(DataflyError):
    """No answer came from a vendor. `word` says why: the closed list of delivery/sender.py."""

    def __init__(self, word: str, message: str = "") -> None:
        super().__init__(message or word)
        self.word = word


class BuildError(DataflyError):
    """A collector could not be built; the message says which module and why."""

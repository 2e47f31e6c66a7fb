"""What requests and answers look like, for the API's document (openapi.py): here what all families share.

A request's Struct says what the checks of its resource (CHECKS) ask for as far as JSON Schema can; a field
that may be left out is `| UnsetType = UNSET`. Its docstring is its description. Nothing is decoded by
these: the checks speak, and tests/test_openapi_conformance.py holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")

CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
LINE = rf"^[^{CONTROL}]*$"
FULL_LINE = rf"^[^{CONTROL}]*[^{CONTROL}\s][^{CONTROL}]*$"
"""One line, and one that is more than white space."""

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=FULL_LINE)]
Id = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Text2000 = Annotated[str, Meta(max_length=2000)]
FreeObject = Annotated[dict[str, Any], Meta(description="At most 64 KB as JSON, and 32 levels.")]

Limit = Annotated[int, Meta(ge=1, le=100, description="Rows on a page.")]
Cursor = Annotated[str, Meta(description="`next_cursor` of the page before.")]
SearchText = Annotated[str, Meta(max_length=1000)]
KeyText = Annotated[str, Meta(max_length=200)]
TIME_OR_NOTHING = {"anyOf": [{"format": "date-time"}, {"const": ""}]}
From = Annotated[str, Meta(description="At or after this time.", extra_json_schema=TIME_OR_NOTHING)]
To = Annotated[str, Meta(description="Before this time.", extra_json_schema=TIME_OR_NOTHING)]


class Page(Struct, Generic[T]):
    """`next_cursor` is null on the last page; a page stays in its place while rows come and go."""

    data: list[T]
    next_cursor: str | None
    has_more: bool


class PageQuery(Struct):
    """What every list in pages takes."""

    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50


class ErrorDetail(Struct):
    """A field that is wrong, `a.b[0]`, and why."""

    field: str
    message: str


class ErrorBody(Struct):
    """`request_id` is also in the header X-Request-ID, and beside what the log says of it."""

    code: str
    message: str
    details: list[ErrorDetail]
    request_id: str


class Error(Struct):
    """The one shape of all errors of the management API."""

    error: ErrorBody


class File(Struct):
    """An answer that is a file; `media_type` is its type."""

    media_type: str

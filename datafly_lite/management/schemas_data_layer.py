"""The organisation's data layer and consent settings, and their versions (spec/datafly-signal.md, 9.6)."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import DataLayer
from datafly_lite.management.schemas import Instant

Expected = Annotated[
    int,
    Meta(ge=0, le=2**53, description="The version that was read: 409 where another one was saved since."),
]


class DataLayerVersion(Struct):
    """The rules for every event, whole. Version 0 is the program's defaults, which nobody saved."""

    org_id: str | None
    version: int
    config: DataLayer
    updated_at: Instant | None
    updated_by: str | None


class DataLayerReplacement(Struct, forbid_unknown_fields=True):
    """All of it: what is left out of `config` has its default. The same as before makes no new version.

    The other fields may be sent back unchanged.
    """

    config: DataLayer
    version: Expected | UnsetType = UNSET


class ConsentSettingsVersion(Struct):
    """What is said of consent, whole. Version 0 is the program's defaults, which nobody saved."""

    org_id: str | None
    version: int
    config: ConsentSettings
    updated_at: Instant | None
    updated_by: str | None


class ConsentSettingsReplacement(Struct, forbid_unknown_fields=True):
    """All of it: what is left out of `config` has its default. The same as before makes no new version.

    The other fields may be sent back unchanged.
    """

    config: ConsentSettings
    version: Expected | UnsetType = UNSET


class VersionSummary(Struct):
    """One save: who, when, and the dotted fields that it changed."""

    version: int
    updated_at: Instant
    updated_by: str | None
    changed: list[str]


class ExpressionToCheck(Struct, forbid_unknown_fields=True):
    """A condition, or any other expression."""

    expression: Annotated[str, Meta(max_length=65_536)]


class ExpressionCheck(Struct):
    """Whether it can be read. `position` counts characters from 1; both are null where it is valid."""

    valid: bool
    message: str | None
    position: int | None

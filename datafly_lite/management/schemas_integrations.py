"""The catalogue, integrations and their revisions, attachments (spec/datafly-signal.md, 9.7 to 9.9)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.management.schemas import FreeObject, Id, Instant, Name, Text2000
from datafly_lite.vendors import VENDORS

Mode = Annotated[
    Literal["live", "paused", "shadow"],
    Meta(
        description="paused: the queue grows, nothing is sent. shadow: requests are made and kept, not sent."
    ),
]
VendorName = Annotated[str, Meta(extra_json_schema={"enum": [*VENDORS]})]


class NewIntegration(Struct, forbid_unknown_fields=True):
    """`config` holds the vendor's settings at its root, as the catalogue lists them."""

    name: Name
    vendor: VendorName
    config: FreeObject
    description: Text2000 | UnsetType = UNSET


class Integration(Struct):
    """An integration; its settings are its revisions'."""

    id: str
    org_id: str
    name: str
    vendor: str
    description: str
    catalog_vendor_key: str | None
    catalog_variant_key: str | None
    latest_revision: int
    created_at: Instant
    updated_at: Instant


class IntegrationChange(Struct, forbid_unknown_fields=True):
    """The vendor stays; a new configuration is a new revision."""

    name: Name | UnsetType = UNSET
    description: Text2000 | UnsetType = UNSET


class Installation(Struct, forbid_unknown_fields=True):
    """A variant gives settings to begin with; `config` wins over it."""

    name: Name
    config: FreeObject
    description: Text2000 | UnsetType = UNSET
    variant: Id | UnsetType = UNSET


class NewRevision(Struct, forbid_unknown_fields=True):
    """`"***"` for a secret keeps the one of `base_revision`, by default the newest."""

    config: FreeObject
    change_summary: Text2000 | UnsetType = UNSET
    base_revision: Annotated[int, Meta(ge=1, le=2**31)] | UnsetType = UNSET


class Revision(Struct):
    """A revision never changes. Secrets are `"***"`."""

    id: str
    integration_id: str
    org_id: str
    revision_number: int
    config: dict[str, Any]
    delivery_mode: Literal["server_side"]
    change_summary: str
    created_by: str | None
    created_at: Instant


class IntegrationWithRevision(Integration):
    """With its newest revision."""

    revision: Revision


class NewAttachment(Struct, forbid_unknown_fields=True):
    """By default the newest revision, live."""

    integration_id: Id
    revision_id: Id | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET


class AttachmentChange(Struct, forbid_unknown_fields=True):
    """The fields to change. Sending again ends the trouble that had stopped it."""

    revision_id: Id | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET


class Attachment(Struct):
    """An integration on a pipeline, with the revision that it is pinned to. `trouble` is why it stopped."""

    id: str
    pipeline_id: str
    integration_id: str
    integration_name: str
    vendor: str
    revision_id: str
    revision_number: int
    latest_revision: int
    enabled: bool
    mode: Mode
    trouble: str | None
    created_at: Instant
    updated_at: Instant

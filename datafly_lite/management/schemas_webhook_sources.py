"""Webhook sources: third parties that post their own events (api.md, section 1)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.management.schemas import LINE, Id, Instant, Name

SourceType = Literal["stripe", "shopify", "hubspot", "custom"]
Encoding = Literal["hex", "base64"]
Secret = Annotated[str, Meta(max_length=1000, pattern=LINE)]
HeaderName = Annotated[str, Meta(max_length=100, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
Expression = Annotated[str, Meta(max_length=1000, description="A JSONPath, or a text in single quotes.")]
Mappings = Annotated[
    dict[str, Expression],
    Meta(max_length=100, description="A field of the event, such as `properties.amount`: where it stands."),
]


class _Changeable(Struct, forbid_unknown_fields=True):
    signing_secret: Secret | UnsetType = UNSET
    signature_header: HeaderName | UnsetType = UNSET
    signature_encoding: Encoding | UnsetType = UNSET
    event_type_path: Expression | UnsetType = UNSET
    mappings: Mappings | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class NewWebhookSource(_Changeable, kw_only=True):
    """What is not given is the source type's own. Only `custom` does without a secret."""

    pipeline_id: Id
    name: Name
    source_type: SourceType


class WebhookSourceChange(_Changeable, kw_only=True):
    """The fields to change; `"***"` keeps the secret. Fixed fields may be sent back unchanged."""

    pipeline_id: Id | UnsetType = UNSET
    name: Name | UnsetType = UNSET


class WebhookSource(Struct):
    """`url` is what the third party posts to; `signing_secret` is `"***"`, or empty where there is none."""

    id: str
    pipeline_id: str
    name: str
    source_type: SourceType
    signing_secret: str
    signature_header: str
    signature_encoding: Encoding
    event_type_path: str
    mappings: dict[str, str]
    enabled: bool
    url: str
    created_at: Instant
    updated_at: Instant

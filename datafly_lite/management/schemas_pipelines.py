"""Pipelines and their collectors (seed 001)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.management.schemas import FULL_LINE, LINE, FreeObject, Instant, Name

PipelineType = Literal["web", "app", "server"]
Slug = Annotated[str, Meta(max_length=100, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
SlugOrNothing = Annotated[str, Meta(max_length=100, pattern=r"^([a-z0-9]+(-[a-z0-9]+)*)?$")]
Host = Annotated[
    str, Meta(min_length=1, max_length=253, pattern=r"^\S+$", examples=["example.com", "*.example.com"])
]
Label = Annotated[str, Meta(min_length=1, max_length=100, pattern=FULL_LINE)]
Labels = Annotated[list[Label], Meta(max_length=100)]
Hosts = Annotated[
    list[Host], Meta(max_length=500, description="Who may send from a browser; empty: everybody.")
]
EventsPerSecond = Annotated[int, Meta(ge=1, le=1_000_000)]
ParameterName = Annotated[str, Meta(max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
ParameterValue = Annotated[str, Meta(max_length=4096, pattern=LINE)]
Parameters = Annotated[
    dict[ParameterName, ParameterValue],
    Meta(max_length=200, description="What `{{pipeline_param.KEY}}` stands for in configurations."),
]


class BuilderConfig(Struct, forbid_unknown_fields=True):
    """How the collector is built. `endpoint` is where events go; empty: where the script came from."""

    script_filename: (
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.js$", examples=["d.js"])] | UnsetType
    ) = UNSET
    global_variable: (
        Annotated[str, Meta(pattern=r"^[A-Za-z_$][A-Za-z0-9_$]{0,63}$", examples=["_df"])] | UnsetType
    ) = UNSET
    delivery_method: Literal["download", "cdn", "cluster"] | UnsetType = UNSET
    vendor_syncs: FreeObject | UnsetType = UNSET
    consent_config: FreeObject | UnsetType = UNSET
    cross_domain: bool | UnsetType = UNSET
    auto_page: bool | UnsetType = UNSET
    spa: bool | UnsetType = UNSET
    batch_size: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    flush_interval_ms: Annotated[int, Meta(ge=0, le=60_000)] | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET


class IdentityConfig(Struct, forbid_unknown_fields=True):
    """How visitors are known across domains, and by their device where a pipeline asks for that."""

    cross_domain_enabled: bool | UnsetType = UNSET
    cross_domain_domains: Annotated[list[Host], Meta(max_length=100)] | UnsetType = UNSET
    vendor_sync: FreeObject | UnsetType = UNSET
    device_recognition: bool | UnsetType = UNSET


class _Changeable(Struct, forbid_unknown_fields=True):
    type: PipelineType | UnsetType = UNSET
    domain_allowlist: Hosts | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    rate_limit_rps: EventsPerSecond | UnsetType = UNSET
    challenge_token_required: bool | UnsetType = UNSET
    parameters: Parameters | UnsetType = UNSET
    config: FreeObject | UnsetType = UNSET
    js_builder_config: BuilderConfig | UnsetType = UNSET
    identity_config: IdentityConfig | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class NewPipeline(_Changeable, kw_only=True):
    """A name is enough. The slug is made from it where none is given."""

    name: Name
    slug: SlugOrNothing | UnsetType = UNSET


class PipelineChange(_Changeable, kw_only=True):
    """The fields to change; others stay. The read-only fields of the answer may be sent back unchanged."""

    name: Name | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET


class PipelineSummary(Struct):
    """A pipeline in the list."""

    id: str
    name: str
    slug: str
    type: PipelineType
    pipeline_key: str
    labels: list[str]
    enabled: bool
    created_at: Instant
    updated_at: Instant


class PipelineList(Struct):
    """`total` counts what the filters find, on all pages."""

    pipelines: list[PipelineSummary]
    total: int
    limit: int
    offset: int
    available_labels: list[str]


class PipelineFilters(Struct):
    """Empty ones do not count."""

    search: Annotated[str, Meta(description="Part of a name or slug.")] | UnsetType = UNSET
    type: PipelineType | UnsetType = UNSET
    label: Annotated[str, Meta(description="A whole label.")] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    offset: Annotated[int, Meta(ge=0, le=10**15 - 1)] = 0


class PipelineCreated(Struct):
    """`pipeline_key_secret` is shown only here."""

    id: str
    org_id: str
    name: str
    slug: str
    type: PipelineType
    pipeline_key: str
    pipeline_key_secret: str
    pipeline_key_secret_prefix: str
    domain_allowlist: list[str]
    labels: list[str]
    rate_limit_rps: int
    enabled: bool
    created_at: Instant
    updated_at: Instant


class Pipeline(Struct):
    """A whole pipeline, without its secret."""

    id: str
    org_id: str
    name: str
    slug: str
    type: PipelineType
    pipeline_key: str
    pipeline_key_secret_prefix: str
    domain_allowlist: list[str]
    labels: list[str]
    rate_limit_rps: int
    challenge_token_required: bool
    parameters: dict[str, str]
    config: dict[str, Any]
    js_builder_config: BuilderConfig
    identity_config: IdentityConfig
    enabled: bool
    created_at: Instant
    updated_at: Instant


class PipelineDeleted(Struct):
    """Its key is refused at once."""

    status: Literal["deleted"]


class PipelineSecret(Struct):
    """The new secret, shown only here; the old one has ended."""

    pipeline_key: str
    pipeline_key_secret: str
    pipeline_key_secret_prefix: str


class ChallengeToken(Struct):
    """For 15 minutes, and as many events as come."""

    token: str
    expires_at: Instant


class BuildStarted(Struct):
    """It goes on in the background: ask `collector/status`, or watch the debug stream."""

    status: Literal["building"]
    pipeline_id: str


class ModuleSize(Struct):
    """What one module adds to the compressed script."""

    name: str
    gzip_size_bytes: int


class BuildStatus(Struct):
    """The newest build. `report` holds remarks; `error` says why a build failed."""

    status: Literal["no_builds", "building", "ready", "failed"]
    pipeline_id: str
    build_id: str | None
    version_hash: str | None
    file_size_bytes: int | None
    built_at: Instant | None
    gzip_size_bytes: int | None
    brotli_size_bytes: int | None
    integrity: str | None
    modules: list[ModuleSize]
    report: list[str]
    error: str | None

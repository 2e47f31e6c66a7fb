"""Sources, the older way to see pipelines (seed 002)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.management.schemas import FULL_LINE, LINE, Instant, Name
from datafly_lite.management.schemas_pipelines import Host

Word = Annotated[str, Meta(min_length=1, max_length=100, pattern=FULL_LINE)]
Words = Annotated[list[Word], Meta(max_length=200)]
Domain = Annotated[
    str,
    Meta(max_length=253, examples=["www.example.com"], description="Empty: events from every origin."),
]


class SourceConsent(Struct):
    """Other fields are kept as they are written."""

    enabled: bool | UnsetType = UNSET
    default_categories: Words | UnsetType = UNSET
    provider: Annotated[str, Meta(max_length=200, pattern=LINE)] | UnsetType = UNSET


class SourceCrossDomain(Struct):
    """Other fields are kept as they are written."""

    enabled: bool | UnsetType = UNSET
    domains: Annotated[list[Host], Meta(max_length=100)] | UnsetType = UNSET


class SourceCollector(Struct):
    """Other fields are kept as they are written."""

    filename: (
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.js$", examples=["d.js"])] | UnsetType
    ) = UNSET
    global_var: (
        Annotated[str, Meta(pattern=r"^[A-Za-z_$][A-Za-z0-9_$]{0,63}$", examples=["_df"])] | UnsetType
    ) = UNSET


class SourceConfig(Struct):
    """At most 64 KB as JSON, and 32 levels. Other fields are kept as they are written."""

    vendors: Words | UnsetType = UNSET
    consent: SourceConsent | UnsetType = UNSET
    cross_domain: SourceCrossDomain | UnsetType = UNSET
    collector: SourceCollector | UnsetType = UNSET


class NewSource(Struct, forbid_unknown_fields=True):
    """What is left out of `config` has its default."""

    name: Name
    domain: Domain
    config: SourceConfig | UnsetType = UNSET


class SourceReplacement(NewSource, forbid_unknown_fields=True):
    """The whole source: what is left out of `config` goes back to its default.

    The read-only fields of the answer may be sent back unchanged.
    """


class SourceSummary(Struct):
    """A source in the list."""

    id: str
    name: str
    pipeline_key: str
    domain: str
    created_at: Instant
    updated_at: Instant


class Source(Struct):
    """The same record as the pipeline whose id has the same digits: `src_0199...` is `pip_0199...`."""

    id: str
    name: str
    pipeline_key: str
    domain: str
    config: dict[str, Any]
    created_at: Instant
    updated_at: Instant


class CollectorBuild(Struct):
    """The newest build; `error` says why one failed."""

    status: Literal["no_builds", "building", "ready", "failed"]
    build_id: str | None
    built_at: Instant | None
    error: str | None


class SourceWithBuild(Source):
    """To poll while the collector is built."""

    collector_build: CollectorBuild


class SourceBuildStarted(Struct):
    """It goes on in the background: ask for the source, or watch the debug stream."""

    status: Literal["building"]
    build_id: str
    started_at: Instant

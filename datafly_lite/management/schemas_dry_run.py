"""The dry run of a change (api.md, section 2); its answer is dry_run.DryRun itself."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import DataLayer
from datafly_lite.dry_run import MOST_EVENTS
from datafly_lite.management.schemas import FreeObject, Id, Instant
from datafly_lite.management.schemas_integrations import VendorName


class NewDryRun(Struct, forbid_unknown_fields=True):
    """A change, and the events to try it on.

    The change is either `config` with `pipeline_id` and `integration_id` or `vendor`, as a new revision would
    have it; or `data_layer`, `consent_settings` or both, as a PUT would have them.

    The events are the `last` ones of the pipeline, of all pipelines without `pipeline_id`, by default 100; or
    `events` in Datafly's form. Those arrive at `now`, by default 2026-01-01T00:00:00Z, or at their own
    `timestamp` if that is later. What is known of their visitors counts, unless the run is `fresh`.
    """

    pipeline_id: Id | UnsetType = UNSET
    integration_id: Id | UnsetType = UNSET
    vendor: VendorName | UnsetType = UNSET
    config: FreeObject | UnsetType = UNSET
    base_revision: (
        Annotated[int, Meta(ge=1, le=2**31, description='Whose secrets `"***"` keeps: the newest.')]
        | UnsetType
    ) = UNSET
    data_layer: DataLayer | UnsetType = UNSET
    consent_settings: ConsentSettings | UnsetType = UNSET
    last: Annotated[int, Meta(ge=1, le=MOST_EVENTS)] | UnsetType = UNSET
    events: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MOST_EVENTS)] | UnsetType = UNSET
    now: Instant | UnsetType = UNSET
    fresh: bool | UnsetType = UNSET

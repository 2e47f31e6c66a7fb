"""A change tried on events before it is saved; what saving would refuse is refused in the same words."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import anyio.to_thread
import msgspec
from starlette.requests import Request

from datafly_lite.configuration import Attachment
from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import DataLayer, compiled
from datafly_lite.dry_run import MOST_EVENTS, NOW_MS, DryRun, IntegrationChange, RulesChange, Sample
from datafly_lite.errors import AdminError
from datafly_lite.keyring import Keyring
from datafly_lite.management import consent_settings, data_layer, pipelines, versioned
from datafly_lite.management import fields as f
from datafly_lite.management.attending import attended
from datafly_lite.management.events import instant
from datafly_lite.management.integrations import LARGEST_REVISION, base_revision, check
from datafly_lite.services import Services
from datafly_lite.store import integrations as rows
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.checking import check_kept_secrets, split_secrets

DEFAULT_LAST = 100
LATEST_MS = 253_402_300_799_000
"""The last second that a date can have."""

ID = f.text(100, shortest=1)


def _as_it_is(value: Any) -> Any:
    """The check of a data layer is the one of its own resource."""
    return value


def _events(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise f.FieldError("must be a list of events")
    if not 1 <= len(value) <= MOST_EVENTS:
        raise f.FieldError(f"must have from 1 to {MOST_EVENTS:,} events")
    for number, one in enumerate(value):
        try:
            f.free_object(one)
        except f.FieldError as error:
            raise f.FieldError(error.message, f"[{number}]{error.path}") from None
    return value


def _now(value: Any) -> int:
    at_ms = instant(value)
    if not 0 <= at_ms <= LATEST_MS:
        raise f.FieldError("must be a time from 1970 to 9999")
    return at_ms


CHECKS: dict[str, f.Check] = {
    "pipeline_id": ID,
    "integration_id": ID,
    "vendor": f.one_of(*VENDORS),
    "config": f.free_object,
    "base_revision": f.whole(1, LARGEST_REVISION),
    "data_layer": _as_it_is,
    "consent_settings": _as_it_is,
    "last": f.whole(1, MOST_EVENTS),
    "events": _events,
    "now": _now,
    "fresh": f.boolean,
}
RULES = ("data_layer", "consent_settings")
OF_INTEGRATIONS = ("config", "integration_id", "vendor", "base_revision")


async def dry_run(services: Services, fields: Mapping[str, Any], request: Request) -> DryRun:
    """Try `{pipeline_id, integration_id or vendor, config, base_revision?}` or `{pipeline_id?, data_layer?,
    consent_settings?}` on `{last?}` or `{events, now?, fresh?}`. Raises VALIDATION_ERROR and
    RATE_LIMITED, and what `attended` raises.
    """
    given = f.checked(fields, CHECKS)
    _check_together(given)
    pipeline = await _pipeline(services, given.get("pipeline_id"))
    change: IntegrationChange | RulesChange
    if pipeline is not None and "config" in given:
        change = await _integration_change(services, pipeline, given)
    else:
        change = await _rules_change(services, given)
    return await attended(services.live, request, partial(services.dry_run, _sample(given), change))


def _check_together(given: Mapping[str, Any]) -> None:
    """A change of one kind, and one choice of events."""
    wrong = []
    if rules := [name for name in RULES if name in given]:
        beside = ", ".join(name for name in OF_INTEGRATIONS if name in given)
        wrong += [(name, f"does not go with {beside}") for name in rules if beside]
    elif "config" not in given:
        wrong.append(("config", "is required, or data_layer or consent_settings"))
    else:
        wrong += [] if "pipeline_id" in given else [("pipeline_id", "is required")]
        if ("integration_id" in given) == ("vendor" in given):
            wrong.append(("integration_id", "give either it or a vendor"))
    if "events" in given and "last" in given:
        wrong.append(("events", "give either them or last"))
    if wrong:
        raise f.invalid([{"field": name, "message": message} for name, message in wrong])


async def _pipeline(services: Services, pipeline_id: str | None) -> dict[str, Any] | None:
    if pipeline_id is None:
        return None
    try:
        return await pipelines.get_pipeline(services, pipeline_id)
    except AdminError as error:
        if error.code != "NOT_FOUND":
            raise
        raise AdminError.invalid("pipeline_id", "there is no such pipeline") from None


def _sample(given: Mapping[str, Any]) -> Sample:
    events = tuple(given.get("events", ()))
    return Sample(
        pipeline_id=given.get("pipeline_id"),
        last=0 if events else given.get("last", DEFAULT_LAST),
        events=events,
        now_ms=given.get("now", NOW_MS),
        is_fresh=given.get("fresh", False),
    )


# ── Rules for all events ─────────────────────────────────────────────────────────────────────


async def _rules_change(services: Services, given: Mapping[str, Any]) -> RulesChange:
    live = services.configuration.current.rules
    layer, settings = live.data_layer, live.consent
    if "data_layer" in given:
        layer = cast("DataLayer", await _checked(data_layer.RULES, given, "data_layer"))
    if "consent_settings" in given:
        settings = cast("ConsentSettings", await _checked(consent_settings.RULES, given, "consent_settings"))
    versions = (live.data_layer_version, live.consent_version)
    return RulesChange(
        await anyio.to_thread.run_sync(compiled, layer, versions[0], settings, versions[1])  # may be a script
    )


async def _checked(rules: versioned.Rules, given: Mapping[str, Any], name: str) -> msgspec.Struct:
    """Its details name the field of this request: `data_layer.routing_rules[0].condition`."""
    try:
        return await versioned.checked_config(rules, given[name])
    except AdminError as error:
        raise f.invalid(
            [
                {"field": name + one["field"].removeprefix("config"), "message": one["message"]}
                for one in error.details
            ]
        ) from None


# ── An integration ───────────────────────────────────────────────────────────────────────────


class _Base(NamedTuple):
    """What the change begins with: the vendor, and what a `***` keeps the secrets of."""

    vendor: str
    id: str
    name: str
    config: dict[str, Any]
    secrets: dict[str, str]


async def _integration_change(
    services: Services, pipeline: Mapping[str, Any], given: Mapping[str, Any]
) -> IntegrationChange:
    integration_id = given.get("integration_id")
    base = await services.store.read(_base, given, services.keyring)
    vendor = VENDORS[base.vendor]
    await check(services, base.vendor, given["config"])
    config, secrets = split_secrets(vendor, given["config"], base.secrets)
    check_kept_secrets(vendor, given["config"], base.config)
    known = services.configuration.current.by_id.get(pipeline["id"])
    attached = known.attachments if known else ()
    live = next((one for one in attached if one.integration_id == integration_id), None)
    row = _row(services, pipeline, live, base, {"config": config, "secrets": secrets})
    after = await anyio.to_thread.run_sync(services.configuration.attachment_of, row)  # scripts are tried
    return IntegrationChange(live, after)


def _base(connection: sqlite3.Connection, given: Mapping[str, Any], keyring: Keyring) -> _Base:
    if "vendor" in given:
        return _Base(given["vendor"], "", "", {}, {})
    integration = rows.one(connection, given["integration_id"])
    if integration is None:
        raise AdminError.invalid("integration_id", "there is no such integration")
    number = given.get("base_revision", integration["latest_revision"] or 0)
    config, secrets = base_revision(connection, integration["id"], number, keyring)
    return _Base(integration["vendor"], integration["id"], integration["name"], config, secrets)


def _row(
    services: Services,
    pipeline: Mapping[str, Any],
    live: Attachment | None,
    base: _Base,
    made: Mapping[str, Any],
) -> dict[str, Any]:
    """As if the revision were saved and pinned."""
    encoded = {name: msgspec.json.encode(value) for name, value in made.items()}
    return {
        "id": live.id if live else "",
        "pipeline_id": pipeline["id"],
        "pipeline_name": pipeline["name"],
        "integration_id": base.id,
        "integration_name": base.name,
        "vendor": base.vendor,
        "revision_id": "",
        "revision_number": 0,
        "enabled": True,
        "mode": "live",
        "parameters": msgspec.json.encode(pipeline["parameters"]),
        "config": encoded["config"],
        "secrets_ciphertext": services.keyring.encrypt(encoded["secrets"]),
    }

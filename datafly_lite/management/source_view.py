"""A pipeline seen as a source (seed 002), and a source's fields as a pipeline's (seed 001).

The record is one. These fields of a source stand in a field of the pipeline, and change with it:

source                                pipeline
id                      src_x         id                                      pip_x
name, pipeline_key                    name, pipeline_key
domain                                domain_allowlist, the first; config.cookie_domain (`cookie_domain_of`)
config.vendors          ["ga4"]       js_builder_config.vendor_syncs          {"ga4": {...}}
config.consent                        js_builder_config.consent_config
config.cross_domain     enabled       identity_config.cross_domain_enabled, js_builder_config.cross_domain
                        domains       identity_config.cross_domain_domains; if enabled, domain_allowlist
config.collector        filename      js_builder_config.script_filename
                        global_var    js_builder_config.global_variable

Whatever else `config` holds is kept as it was written, in the column `source_view`. A domain of "" is a
pipeline that takes events from every origin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datafly_lite.collector.builder import check_builder_config
from datafly_lite.errors import AdminError
from datafly_lite.management import fields as f

NO_CONSENT: dict[str, Any] = {"enabled": False, "default_categories": [], "provider": ""}
"""What is shown where nothing was written."""

WORDS = f.list_of(f.line(100, shortest=1), most=200)
MAPPED = {"cross_domain": ("enabled", "domains"), "collector": ("filename", "global_var")}
"""Fields with a place in the pipeline; what else stands beside them is kept."""


def source_id_of(pipeline_id: str) -> str:
    """`pip_0199...` -> `src_0199...`."""
    return "src_" + pipeline_id.removeprefix("pip_")


def pipeline_id_of(source_id: str) -> str:
    """`src_0199...` -> `pip_0199...`. Raises NOT_FOUND for anything else."""
    if not source_id.startswith("src_"):
        raise AdminError("NOT_FOUND", "there is no such source")
    return "pip_" + source_id.removeprefix("src_")


# ── The checks ───────────────────────────────────────────────────────────────────────────────


def _domain(value: Any) -> str:
    return "" if value == "" else f.host_or_wildcard(value)


def _builder_field(name: str) -> f.Check:
    """What the collector's own options say of one of them."""

    def check(value: Any) -> str:
        try:
            check_builder_config({name: value})
        except AdminError as error:
            raise f.FieldError(error.details[0]["message"]) from None
        return str(value)

    return check


CONFIG: f.Check = f.free_object_with(
    {
        "vendors": WORDS,
        "consent": f.free_object_with(
            {"enabled": f.boolean, "default_categories": WORDS, "provider": f.line(200)}
        ),
        "cross_domain": f.free_object_with(
            {"enabled": f.boolean, "domains": f.list_of(f.host_or_wildcard, most=100)}
        ),
        "collector": f.free_object_with(
            {"filename": _builder_field("script_filename"), "global_var": _builder_field("global_variable")}
        ),
    }
)

CHECKS: dict[str, f.Check] = {"name": f.line(200, shortest=1), "domain": _domain, "config": CONFIG}


# ── From a pipeline ──────────────────────────────────────────────────────────────────────────


def source_of(pipeline: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The source object in the order that seed 002 prints. `kept` is the column `source_view`."""
    return {
        "id": source_id_of(pipeline["id"]),
        "name": pipeline["name"],
        "pipeline_key": pipeline["pipeline_key"],
        "domain": _domain_of(pipeline["domain_allowlist"], kept.get("domain", "")),
        "config": _config_of(pipeline, kept.get("config", {})),
        "created_at": pipeline["created_at"],
        "updated_at": pipeline["updated_at"],
    }


def _domain_of(allowlist: list[str], written: str) -> str:
    """The one that was written while the pipeline still has it."""
    return written if written in allowlist else next(iter(allowlist), "")


def _config_of(pipeline: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    builder, identity = pipeline["js_builder_config"], pipeline["identity_config"]
    return {
        "vendors": list(builder.get("vendor_syncs", {})),
        "consent": builder.get("consent_config") or NO_CONSENT,
        "cross_domain": {
            "enabled": identity["cross_domain_enabled"],
            "domains": identity["cross_domain_domains"],
            **others.get("cross_domain", {}),
        },
        "collector": {
            "filename": builder["script_filename"],
            "global_var": builder["global_variable"],
            **others.get("collector", {}),
        },
        **{name: value for name, value in others.items() if name not in MAPPED},
    }


# ── To a pipeline ────────────────────────────────────────────────────────────────────────────


def kept_of(source: Mapping[str, Any]) -> dict[str, Any]:
    """What a checked source has that a pipeline has no field for."""
    config = source.get("config", {})
    others = {name: value for name, value in config.items() if name not in ("vendors", "consent", *MAPPED)}
    for name, mapped in MAPPED.items():
        others[name] = {key: value for key, value in config.get(name, {}).items() if key not in mapped}
    return {"domain": source["domain"], "config": others}


def pipeline_fields(
    source: Mapping[str, Any], before: Mapping[str, Any], pipeline: Mapping[str, Any], host: str
) -> dict[str, Any]:
    """The fields of the pipeline that a checked source sets; it replaces the source `before`, all of it.

    `pipeline` is the record as it is, `host` where browsers reach the appliance.
    """
    config = source.get("config", {})
    cross, collector = config.get("cross_domain", {}), config.get("collector", {})
    consent, is_crossing = config.get("consent", {}), cross.get("enabled", False)
    builder, identity = pipeline["js_builder_config"], pipeline["identity_config"]
    syncs, was_crossing = builder.get("vendor_syncs", {}), identity["cross_domain_enabled"]
    is_switched = is_crossing != was_crossing
    return {
        "name": source["name"],
        "domain_allowlist": _allowlist(source, before, pipeline["domain_allowlist"]),
        "config": _pipeline_config(source["domain"], before["domain"], pipeline["config"], host),
        "js_builder_config": {
            "script_filename": collector.get("filename", "d.js"),
            "global_variable": collector.get("global_var", "_df"),
            "vendor_syncs": {name: syncs.get(name, {}) for name in config.get("vendors", [])},
            "consent_config": {} if consent == NO_CONSENT else consent,
            "cross_domain": is_crossing if is_switched else builder.get("cross_domain", is_crossing),
        },
        "identity_config": {
            "cross_domain_enabled": is_crossing,
            "cross_domain_domains": cross.get("domains", []),
        },
    }


def _allowlist(source: Mapping[str, Any], before: Mapping[str, Any], allowlist: Iterable[str]) -> list[str]:
    """The source's own domains, and those that the pipeline was given otherwise. The same: untouched."""
    own, former = _domains(source), _domains(before)
    if own == former:
        return list(allowlist)
    others = [one for one in allowlist if one not in former] if own else []
    return list(dict.fromkeys([*own, *others]))


def _domains(source: Mapping[str, Any]) -> list[str]:
    cross = source.get("config", {}).get("cross_domain", {})
    others = cross.get("domains", []) if cross.get("enabled") else []
    return [source["domain"], *others] if source["domain"] else []


def _pipeline_config(domain: str, before: str, config: Mapping[str, Any], host: str) -> dict[str, Any]:
    """The cookie's domain follows a change of the source's; while that stays, so does what was set."""
    if domain == before:
        return dict(config)
    others = {name: value for name, value in config.items() if name != "cookie_domain"}
    cookie_domain = cookie_domain_of(domain, host)
    return {**others, "cookie_domain": cookie_domain} if cookie_domain else others


def cookie_domain_of(domain: str, host: str) -> str:
    """`www.example.com` -> `example.com`, so that the site and its subdomains share the visitor.

    "" where the appliance's `host` is not inside it: browsers throw away a cookie for another domain, and
    every event would be a new visitor's. Without a Domain a cookie is good for the host that set it.
    """
    name = domain.removeprefix("*.").removeprefix("www.")
    is_inside = host == name or host.endswith(f".{name}")
    return name if is_inside and "." in name and "_" not in name and not name[-1].isdigit() else ""

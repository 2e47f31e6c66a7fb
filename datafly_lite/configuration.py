"""What the event path needs to know, as one frozen value.

It is loaded every 5 s and at once after a change made here (seed 001), never per event.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec
import structlog

from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import DataLayer, Rules, compiled
from datafly_lite.engine import Engine, compile_engine
from datafly_lite.errors import AdminError, StorageError
from datafly_lite.keyring import Keyring
from datafly_lite.store import Store
from datafly_lite.store import configuration as rows
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.declaration import PARAMETER

COOKIE_DOMAIN = re.compile(r"\.?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")

AttachmentRow = sqlite3.Row | Mapping[str, Any]
"""The columns of store/configuration.ATTACHMENTS."""

BROKEN = "the steps cannot be made ready with this pipeline's parameters; the log has the error"

log = structlog.get_logger(__name__)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """An integration on a pipeline, its pinned revision resolved and its secrets readable."""

    id: str
    pipeline_id: str
    integration_id: str
    integration_name: str
    vendor: str
    revision_id: str
    revision_number: int
    enabled: bool
    mode: str
    config: dict[str, Any]
    consent_categories: tuple[str, ...]
    """What the visitor must not have refused, as canonical names: the revision's own, else the vendor's, and
    what the organisation requires of every event."""
    missing_parameters: tuple[str, ...] = ()
    """Pipeline parameters that the revision asks for and the pipeline lacks."""
    secrets: tuple[str, ...]
    """The secret values, for redaction."""
    engine: Engine | None = None
    """The revision's own steps; None where it has none, or they cannot be used."""
    engine_error: str = ""
    """Why they cannot be used: a pipeline parameter can break what was checked when it was saved."""


class WebhookSource(msgspec.Struct, frozen=True, kw_only=True):
    """A third party's webhooks that become a pipeline's events (spec/datafly-signal.md, 3.5).

    `secret` is empty where the source is declared to be unsigned. `mappings` are dotted canonical
    paths -> JSONPath expressions.
    """

    id: str
    pipeline_id: str
    source_type: Literal["stripe", "shopify", "hubspot", "custom"]
    enabled: bool
    secret: str
    signature_header: str
    signature_encoding: Literal["hex", "base64"]
    event_type_path: str
    mappings: dict[str, str]


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as the gateway and the processor see it."""

    id: str
    key: str
    secret: str
    """sk_…: what its servers sign their requests with."""
    name: str
    enabled: bool
    domain_allowlist: tuple[str, ...]
    rate_limit_rps: int
    challenge_token_required: bool
    cookie_domain: str
    js_builder_config: dict[str, Any] = {}
    identity_config: dict[str, Any] = {}
    attachments: tuple[Attachment, ...]


class Configuration(msgspec.Struct, frozen=True):
    """All pipelines that are not deleted, by key and by id, all attachments and webhook sources by id, and
    the rules for all events.
    """

    by_key: dict[str, Pipeline] = {}
    by_id: dict[str, Pipeline] = {}
    attachments: dict[str, Attachment] = {}
    webhook_sources: dict[str, WebhookSource] = {}
    rules: Rules = Rules()
    has_scripts: bool = False
    """Whether the data layer runs JavaScript, which can take its time."""


class LiveConfiguration:
    """`current` is the newest snapshot; whoever must act on a change gets a call after each reload."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._turn = anyio.Lock()
        self._listeners: list[Callable[[Configuration], None]] = []
        self.current = Configuration()

    def on_change(self, listener: Callable[[Configuration], None]) -> None:
        """Call `listener(current)` after each reload."""
        self._listeners.append(listener)

    async def reload(self) -> None:
        """Take up what the store says now."""
        async with self._turn:  # of two at once, the older reading must not be the last
            before, found = self.current, await self._store.read(rows.everything)
            # Scripts are tried, which can take as long as a script may.
            self.current = await anyio.to_thread.run_sync(resolve, found, self._keyring)
            _warn_of_missing(before, self.current)
            for listener in self._listeners:
                listener(self.current)

    def attachment_of(self, row: AttachmentRow) -> Attachment:
        """A row of store/configuration.attachment, such as one with a revision of earlier or of none yet."""
        return _attachment(row, self.current.rules, self._keyring)

    async def run(self, sleep: Callable[[float], Awaitable[None]], interval_s: float = 5.0) -> None:
        """Reload every `interval_s`, for ever; what cannot be read leaves `current` as it was."""
        while True:
            await sleep(interval_s)
            try:
                await self.reload()
            except StorageError as error:
                log.warning("configuration not reloaded", error=str(error))
            except Exception:  # what is running goes on with what it knows
                log.exception("configuration not reloaded")


def _warn_of_missing(before: Configuration, now: Configuration) -> None:
    """Once a change, not once a reload."""
    for one in now.attachments.values():
        old = before.attachments.get(one.id)
        if one.missing_parameters and (old is None or old.missing_parameters != one.missing_parameters):
            log.warning("pipeline parameters are missing", attachment=one.id, missing=one.missing_parameters)


def resolve(found: rows.Everything, keyring: Keyring) -> Configuration:
    """Rows -> snapshot."""
    attached: dict[str, list[Attachment]] = {}
    rules = rules_of(found.data_layer, found.consent_settings)
    for row in found.attachments:
        attached.setdefault(row["pipeline_id"], []).append(_attachment(row, rules, keyring))
    pipelines = [_pipeline(row, tuple(attached.get(row["id"], ())), keyring) for row in found.pipelines]
    attachments = {one.id: one for pipeline in pipelines for one in pipeline.attachments}
    return Configuration(
        by_key={pipeline.key: pipeline for pipeline in pipelines},
        by_id={pipeline.id: pipeline for pipeline in pipelines},
        attachments=attachments,
        webhook_sources={row["id"]: _webhook_source(row, keyring) for row in found.webhook_sources},
        rules=rules,
        has_scripts=rules.script is not None,
    )


def rules_of(data_layer: sqlite3.Row | None, consent_settings: sqlite3.Row | None) -> Rules:
    """Rows of one version each, None for the program's defaults, made ready.

    Raises ExpressionError for what an older program took and this one cannot read.
    """
    return _rules(
        data_layer["config"] if data_layer else "{}",
        data_layer["version"] if data_layer else 0,
        consent_settings["config"] if consent_settings else "{}",
        consent_settings["version"] if consent_settings else 0,
    )


@lru_cache(maxsize=32)
def _rules(data_layer: str, data_layer_version: int, consent_settings: str, consent_version: int) -> Rules:
    return compiled(
        msgspec.json.decode(data_layer, type=DataLayer),
        data_layer_version,
        msgspec.json.decode(consent_settings, type=ConsentSettings),
        consent_version,
    )


def _webhook_source(row: sqlite3.Row, keyring: Keyring) -> WebhookSource:
    config = msgspec.json.decode(row["config"])
    return WebhookSource(
        id=row["id"],
        pipeline_id=row["pipeline_id"],
        source_type=row["source_type"],
        enabled=bool(row["enabled"]),
        secret=keyring.decrypt(row["secret_ciphertext"]).decode(),
        signature_header=config["signature_header"],
        signature_encoding=config["signature_encoding"],
        event_type_path=config["event_type_path"],
        mappings=config["mappings"],
    )


def _pipeline(row: sqlite3.Row, attachments: tuple[Attachment, ...], keyring: Keyring) -> Pipeline:
    config = msgspec.json.decode(row["config"])
    return Pipeline(
        id=row["id"],
        key=row["pipeline_key"],
        secret=keyring.decrypt(row["secret_ciphertext"]).decode(),
        name=row["name"],
        enabled=bool(row["enabled"]),
        domain_allowlist=tuple(msgspec.json.decode(row["domain_allowlist"])),
        rate_limit_rps=row["rate_limit_rps"],
        challenge_token_required=bool(row["challenge_token_required"]),
        cookie_domain=_cookie_domain(config.get("cookie_domain")),
        js_builder_config=msgspec.json.decode(row["js_builder_config"]),
        identity_config=msgspec.json.decode(row["identity_config"]),
        attachments=attachments,
    )


def _attachment(row: AttachmentRow, rules: Rules, keyring: Keyring) -> Attachment:
    parameters = msgspec.json.decode(row["parameters"])
    sealed = row[
        "secrets_ciphertext"
    ]  # empty where the integration was deleted: a trace still shows its steps
    secrets = msgspec.json.decode(keyring.decrypt(sealed)) if sealed else {}
    config = {**msgspec.json.decode(row["config"]), **secrets}
    resolved = substitute(config, parameters)
    missing = sorted(set(PARAMETER.findall(msgspec.json.encode(config).decode())) - set(parameters))
    engine, engine_error = _engine(row, resolved)
    return Attachment(
        id=row["id"],
        pipeline_id=row["pipeline_id"],
        integration_id=row["integration_id"],
        integration_name=row["integration_name"],
        vendor=row["vendor"],
        revision_id=row["revision_id"],
        revision_number=row["revision_number"],
        enabled=bool(row["enabled"]),
        mode=row["mode"],
        config=resolved,
        consent_categories=_asked_for(_consent_categories(row["vendor"], resolved), rules.consent),
        missing_parameters=tuple(missing),
        secrets=tuple(str(resolved[name]) for name in secrets if resolved[name]),
        engine=engine,
        engine_error=engine_error,
    )


def _engine(row: AttachmentRow, config: Mapping[str, Any]) -> tuple[Engine | None, str]:
    """The steps made ready, or why they cannot be."""
    steps, events = config.get("steps") or [], config.get("events") or {}
    if not steps and not events:
        return None, ""
    context = {
        "integration": {
            "id": row["integration_id"],
            "name": row["integration_name"],
            "vendor": row["vendor"],
        },
        "pipeline": {"id": row["pipeline_id"], "name": row["pipeline_name"]},
    }
    try:
        return _compiled(msgspec.json.encode([steps, events, context]))
    except Exception as error:  # the steps of one must not keep all others from starting
        _log_broken(row["integration_id"], row["pipeline_id"], error)
        return None, BROKEN


@lru_cache(maxsize=1024)
def _compiled(written: bytes) -> tuple[Engine | None, str]:
    """Once a change, not once a reload."""
    steps, events, context = msgspec.json.decode(written)
    try:
        return compile_engine(steps, events, context), ""
    except AdminError as error:
        return None, "; ".join(f"{one['field']}: {one['message']}" for one in error.details[:3])
    except Exception as error:
        _log_broken(context["integration"]["id"], context["pipeline"]["id"], error)
        return None, BROKEN


def _log_broken(integration: str, pipeline: str, error: Exception) -> None:
    # The words of an unknown error may hold a setting, which may be a secret.
    log.error("steps not made ready", integration=integration, pipeline=pipeline, error=type(error).__name__)


def _cookie_domain(value: object) -> str:
    """What goes into a header is a host name or nothing."""
    return value if isinstance(value, str) and COOKIE_DOMAIN.fullmatch(value) else ""


def _asked_for(categories: Iterable[str], settings: ConsentSettings) -> tuple[str, ...]:
    """With those that every event needs, where an event without them is dropped: a delivery asks again."""
    required = settings.required_categories if settings.on_refused == "drop" else ()
    return tuple(dict.fromkeys(map(settings.category_meant, (*categories, *required))))


def _consent_categories(vendor: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    own = config.get("consent_categories")
    if isinstance(own, list):
        return tuple(map(str, own))
    return VENDORS[vendor].consent_categories if vendor in VENDORS else ()


def substitute(value: Any, parameters: Mapping[str, str]) -> Any:
    """Fill `{{pipeline_param.KEY}}` in every string, once; a missing one stays as it is (seed 001)."""
    if isinstance(value, str):
        return PARAMETER.sub(lambda found: parameters.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {name: substitute(one, parameters) for name, one in value.items()}
    if isinstance(value, list):
        return [substitute(one, parameters) for one in value]
    return value

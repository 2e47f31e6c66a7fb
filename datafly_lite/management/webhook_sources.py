"""Webhook sources: whose webhooks become which pipeline's events, and how (spec/datafly-signal.md, 3.5).

The signing secret goes in and is shown as "***" only; "***" written back keeps it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.jsonpaths import LONGEST_CHARS, parse
from datafly_lite.keyring import Keyring
from datafly_lite.management import auditing
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited, Changed
from datafly_lite.management.pipelines import found_pipeline
from datafly_lite.services import Services
from datafly_lite.store import webhook_sources as rows
from datafly_lite.vendors.declaration import MASK

IDENTIFIERS = (
    *("event", "name", "type", "userId", "anonymousId", "groupId", "previousId", "messageId", "timestamp"),
)
OBJECTS = ("properties", "traits", "context")
TARGET = re.compile(rf"({'|'.join(IDENTIFIERS)})|({'|'.join(OBJECTS)})(\.[^\s.=]{{1,100}}){{0,8}}")
LARGEST_MAPPING_BYTES = 8_192
"""It is kept with each event, so that the log alone gives the event again."""


class SourceType(NamedTuple):
    """What a kind of source has from the start. `signature_header` "" is for the user to name."""

    label: str
    signature_header: str
    signature_encoding: str
    event_type_path: str
    mappings: dict[str, str]


SOURCE_TYPES = {
    "stripe": SourceType(
        "Stripe",
        "Stripe-Signature",
        "hex",
        "$.type",
        {
            "event": "$.type",
            "userId": "$.data.object.customer",
            "properties.amount": "$.data.object.amount",
            "properties.currency": "$.data.object.currency",
            "properties.payment_id": "$.data.object.id",
        },
    ),
    "shopify": SourceType(
        "Shopify",
        "X-Shopify-Hmac-Sha256",
        "base64",
        "",  # the topic, which stands in a header
        {
            "userId": "$.customer.id",
            "properties.id": "$.id",
            "properties.order_number": "$.order_number",
            "properties.total": "$.total_price",
            "properties.currency": "$.currency",
            "properties.products": "$.line_items",
        },
    ),
    "hubspot": SourceType(
        "HubSpot",
        "X-HubSpot-Signature-v3",
        "base64",
        "$.subscriptionType",
        {
            "properties.object_id": "$.objectId",
            "properties.portal_id": "$.portalId",
            "properties.property_name": "$.propertyName",
            "properties.property_value": "$.propertyValue",
            "properties.change_source": "$.changeSource",
        },
    ),
    "custom": SourceType(
        "Custom", "", "hex", "$.event", {"userId": "$.userId", "properties": "$.properties"}
    ),
}
"""Stripe's mapping is the product's own example; amounts stay in the smallest unit of their currency."""
CUSTOM_HEADER = "X-Signature"


def _expression(value: Any) -> str:
    """A JSONPath, or a text in single quotes."""
    text: str = f.line(LONGEST_CHARS)(value)
    try:
        parse(text)
    except ValueError as error:
        raise f.FieldError(str(error)) from None
    return text


def _expression_or_nothing(value: Any) -> str:
    return "" if value == "" else _expression(value)


def _target(value: Any) -> str:
    text: str = f.line(200)(value)
    if not TARGET.fullmatch(text):
        objects = ", ".join(f"{one}.…" for one in OBJECTS)
        raise f.FieldError(f"is no field of an event; these are {', '.join(IDENTIFIERS)}, {objects}")
    return text


def _mappings(value: Any) -> dict[str, str]:
    kept: dict[str, str] = f.map_of(_target, _expression, most=100)(value)
    if len(msgspec.json.encode(kept)) > LARGEST_MAPPING_BYTES:
        raise f.FieldError(f"must have at most {LARGEST_MAPPING_BYTES:,} bytes as JSON")
    return kept


CHECKS: dict[str, f.Check] = {
    "pipeline_id": f.text(100, shortest=1),
    "name": f.line(200, shortest=1),
    "source_type": f.one_of(*SOURCE_TYPES),
    "signing_secret": f.line(1000),
    "signature_header": f.matching(
        r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", 100, "must be the name of a header, such as X-Signature"
    ),
    "signature_encoding": f.one_of("hex", "base64"),
    "event_type_path": _expression_or_nothing,
    "mappings": _mappings,
    "enabled": f.boolean,
}
READ_ONLY = ("id", "url", "created_at", "updated_at")
CONFIG = ("signature_header", "signature_encoding", "event_type_path", "mappings")


async def list_webhook_sources(services: Services) -> list[dict[str, Any]]:
    """All of them, oldest first."""
    found = await services.store.read(rows.everyone)
    return [_object(row, services) for row in found]


async def get_webhook_source(services: Services, source_id: str) -> dict[str, Any]:
    """One. Raises NOT_FOUND."""
    return _object(await services.store.read(_found, source_id), services)


async def create_webhook_source(
    services: Services, fields: dict[str, Any], source_id: str | None = None
) -> dict[str, Any]:
    """From `{pipeline_id, name, source_type, signing_secret}` and what is to be other than usual.

    `source_id` is one that nobody has yet: a vendor may want the address before it gives the secret.
    Raises VALIDATION_ERROR.
    """
    given = f.checked(fields, CHECKS, required=("pipeline_id", "name", "source_type"))
    if given.get("signing_secret") == MASK:
        raise AdminError.invalid("signing_secret", "*** stands for a stored secret, and there is none")
    columns = {"id": source_id or new_id("wh"), "now_ms": services.clock()}
    audited = Audited("webhook_source.created", "webhook_source")
    made = await auditing.write(services, audited, _create, _with_defaults(given), columns, services)
    await services.configuration.reload()
    return made


def check_fields(fields: Mapping[str, Any]) -> None:
    """Raise VALIDATION_ERROR where one of these fields, by itself, could not be saved."""
    f.checked(fields, CHECKS)


async def update_webhook_source(services: Services, source_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Change the given fields. Raises NOT_FOUND, VALIDATION_ERROR.

    Read-only fields may be sent back as they were read; so may `source_type`.
    """
    before = await get_webhook_source(services, source_id)
    given = f.checked(_without_unchanged(fields, before), CHECKS)
    audited = Audited("webhook_source.updated", "webhook_source")
    updated = await auditing.write(services, audited, _update, source_id, given, services)
    await services.configuration.reload()
    return updated


async def delete_webhook_source(services: Services, source_id: str) -> None:
    """Nothing is taken from it any more. Raises NOT_FOUND."""
    audited = Audited("webhook_source.deleted", "webhook_source")
    await auditing.write(services, audited, _delete, source_id, services)
    await services.configuration.reload()


# ── Transactions ─────────────────────────────────────────────────────────────────────────────


def _found(connection: sqlite3.Connection, source_id: str) -> sqlite3.Row:
    row = rows.one(connection, source_id)
    if row is None:
        raise AdminError("NOT_FOUND", "there is no such webhook source")
    return row


def _create(
    connection: sqlite3.Connection, values: dict[str, Any], columns: dict[str, Any], services: Services
) -> Changed[dict[str, Any]]:
    _check_pipeline(connection, values["pipeline_id"])
    if rows.id_was_taken(connection, columns["id"]):
        raise AdminError("CONFLICT", "another webhook source has this address")
    rows.insert(connection, {**columns, **_columns(values, services.keyring)})
    return auditing.created(_object(_found(connection, columns["id"]), services))


def _update(
    connection: sqlite3.Connection, source_id: str, given: dict[str, Any], services: Services
) -> Changed[dict[str, Any]]:
    row, keyring = _found(connection, source_id), services.keyring
    kept = _secret(row, keyring)
    values = {**_values(row, keyring), **given}
    if given.get("signing_secret") == MASK:
        values["signing_secret"] = kept
    if values["pipeline_id"] != row["pipeline_id"]:
        _check_pipeline(connection, values["pipeline_id"])
    rows.update(connection, {"id": source_id, "now_ms": services.clock(), **_columns(values, keyring)})
    has_another = kept and values["signing_secret"] and kept != values["signing_secret"]
    after = _object(_found(connection, source_id), services)
    return auditing.updated(_object(row, services), after, ["signing_secret"] if has_another else [])


def _delete(connection: sqlite3.Connection, source_id: str, services: Services) -> Changed[None]:
    before = _object(_found(connection, source_id), services)
    rows.soft_delete(connection, source_id, services.clock())
    return auditing.deleted(before)


def _check_pipeline(connection: sqlite3.Connection, pipeline_id: str) -> None:
    try:
        found_pipeline(connection, pipeline_id)
    except AdminError as error:
        raise AdminError.invalid("pipeline_id", error.message) from None


# ── Between rows and objects ─────────────────────────────────────────────────────────────────


def _with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = SOURCE_TYPES[given["source_type"]]
    usual = {
        "signing_secret": "",
        "signature_header": kind.signature_header or CUSTOM_HEADER,
        "signature_encoding": kind.signature_encoding,
        "event_type_path": kind.event_type_path,
        "mappings": kind.mappings,
        "enabled": True,
    }
    return {**usual, **given}


def _without_unchanged(fields: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """So that a client may PUT back the whole object that it got."""
    fixed = (*READ_ONLY, "source_type")
    refused = [
        {"field": name, "message": "cannot be changed"}
        for name in fixed
        if name in fields and fields[name] != before[name]
    ]
    if refused:
        raise f.invalid(refused)
    return {name: value for name, value in fields.items() if name not in fixed}


def _check_whole(values: Mapping[str, Any]) -> None:
    """What one field asks of another."""
    kind = SOURCE_TYPES[values["source_type"]]
    wrong: list[dict[str, str]] = []
    if not kind.signature_header:
        return
    if not values["signing_secret"]:
        wrong.append({"field": "signing_secret", "message": f"is required: {kind.label} signs its webhooks"})
    for name in ("signature_header", "signature_encoding"):
        if values[name] != getattr(kind, name):
            message = f"is always {getattr(kind, name)} for {kind.label}"
            wrong.append({"field": name, "message": message})
    if wrong:
        raise f.invalid(wrong)


def _columns(values: Mapping[str, Any], keyring: Keyring) -> dict[str, Any]:
    _check_whole(values)
    return {
        "pipeline_id": values["pipeline_id"],
        "name": values["name"],
        "source_type": values["source_type"],
        "secret_ciphertext": keyring.encrypt(values["signing_secret"].encode()),
        "config": msgspec.json.encode({name: values[name] for name in CONFIG}).decode(),
        "enabled": values["enabled"],
    }


def _secret(row: sqlite3.Row, keyring: Keyring) -> str:
    return keyring.decrypt(row["secret_ciphertext"]).decode()


def _values(row: sqlite3.Row, keyring: Keyring) -> dict[str, Any]:
    """The fields that a user sets, the secret in clear."""
    return {
        "pipeline_id": row["pipeline_id"],
        "name": row["name"],
        "source_type": row["source_type"],
        "signing_secret": _secret(row, keyring),
        **msgspec.json.decode(row["config"]),
        "enabled": bool(row["enabled"]),
    }


def _object(row: sqlite3.Row, services: Services) -> dict[str, Any]:
    values = _values(row, services.keyring)
    return {
        "id": row["id"],
        **values,
        "signing_secret": MASK if values["signing_secret"] else "",
        "url": url_of(services, row["id"]),
        "created_at": iso_s(row["created_at_ms"]),
        "updated_at": iso_s(row["updated_at_ms"]),
    }


def url_of(services: Services, source_id: str) -> str:
    """The address that the third party posts to."""
    return f"{services.settings.base_url}/v1/webhook?source={source_id}"

"""The catalogue: what can be sent to, with which settings (spec/datafly-signal.md, 9.7).

It is made from the vendors' declarations; installing makes an integration and its first revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from datafly_lite.errors import AdminError
from datafly_lite.management import fields as f
from datafly_lite.management import integrations
from datafly_lite.services import Services
from datafly_lite.vendors import VENDORS, Vendor
from datafly_lite.vendors.declaration import Example, Request, Setting

DEFAULT_VARIANT = "default"
INSTALL_CHECKS: dict[str, f.Check] = {
    "name": integrations.INTEGRATION_CHECKS["name"],
    "description": integrations.INTEGRATION_CHECKS["description"],
    "variant": f.text(100, shortest=1),
    "config": f.free_object,
}


class ConfigField(msgspec.Struct, kw_only=True, frozen=True):
    """A setting. `required_if` is [another setting, the value of it that makes this one required].

    `pattern` is a regular expression for the whole value; "" is none.
    """

    key: str
    label: str
    type: str
    required: bool
    required_if: tuple[str, str] | None
    default: Any
    placeholder: str
    help_text: str
    choices: list[str]
    pattern: str


class Variant(msgspec.Struct, kw_only=True, frozen=True):
    """A beginning: what is given beside it wins over `default_config`."""

    key: str
    name: str
    description: str
    default_config: dict[str, Any]


class VendorRequest(msgspec.Struct, kw_only=True, frozen=True):
    """What is sent for the event of an example."""

    method: str
    url: str
    headers: dict[str, str]
    body: str


class VendorExample(msgspec.Struct, kw_only=True, frozen=True):
    """An event and what comes of it; a `request` of null: nothing is sent."""

    title: str
    config: dict[str, Any]
    event: dict[str, Any]
    request: VendorRequest | None


class CatalogVendor(msgspec.Struct, kw_only=True, frozen=True):
    """A vendor. `consent_categories`: what a visitor must not have refused, unless a revision has its own."""

    key: str
    name: str
    description: str
    category: str
    status: str
    website: str
    consent_categories: list[str]
    config_fields: list[ConfigField]
    variants: list[Variant]


class CatalogVendorDetail(CatalogVendor, kw_only=True, frozen=True):
    """With examples, which are the vendor's tests as well."""

    examples: list[VendorExample]


def catalog() -> list[CatalogVendor]:
    """All vendors, by their keys."""
    return [CatalogVendor(**_vendor(VENDORS[name])) for name in sorted(VENDORS)]


def get_vendor(name: str) -> CatalogVendorDetail:
    """One. Raises NOT_FOUND."""
    vendor = _found(name)
    return CatalogVendorDetail(**_vendor(vendor), examples=[_example(one) for one in vendor.examples])


async def install(
    services: Services, name: str, fields: Mapping[str, Any], created_by: str | None
) -> dict[str, Any]:
    """From `{name, description?, variant?, config}`: the template with its `revision` 1.

    Raises NOT_FOUND for the vendor, VALIDATION_ERROR, and CONFLICT for a name that is taken.
    """
    vendor = _found(name)
    given = f.checked(fields, INSTALL_CHECKS, required=("name", "config"))
    key = given.pop("variant", DEFAULT_VARIANT)
    variant = next((one for one in _variants(vendor) if one.key == key), None)
    if variant is None:
        raise AdminError.invalid("variant", "is not a variant of this vendor")
    config = {**variant.default_config, **given["config"]}
    made = {**given, "vendor": vendor.name, "config": config}
    return await integrations.create_integration(services, made, created_by, variant=key)


def _found(name: str) -> Vendor:
    vendor = VENDORS.get(name)
    if vendor is None:
        raise AdminError("NOT_FOUND", "there is no such vendor")
    return vendor


def _vendor(vendor: Vendor) -> dict[str, Any]:
    return {
        "key": vendor.name,
        "name": vendor.label,
        "description": vendor.description,
        "category": vendor.category,
        "status": "ga",
        "website": vendor.documentation,
        "consent_categories": list(vendor.consent_categories),
        "config_fields": [_field(one) for one in vendor.settings],
        "variants": _variants(vendor),
    }


def _variants(vendor: Vendor) -> list[Variant]:
    """No vendor declares any yet, so there is the one with the vendor's own defaults."""
    defaults = {one.name: one.default for one in vendor.settings if one.default not in (None, "")}
    return [
        Variant(
            key=DEFAULT_VARIANT,
            name="Default",
            description="The vendor's own defaults.",
            default_config=defaults,
        )
    ]


def _field(setting: Setting) -> ConfigField:
    return ConfigField(
        key=setting.name,
        label=setting.label,
        type=setting.type,
        required=setting.required,
        required_if=setting.required_if,
        default=setting.default,
        placeholder=setting.placeholder,
        help_text=setting.help,
        choices=list(setting.choices),
        pattern=setting.pattern,
    )


def _example(example: Example) -> VendorExample:
    request = None if example.request is None else _request(example.request)
    return VendorExample(title=example.title, config=example.settings, event=example.event, request=request)


def _request(request: Request) -> VendorRequest:
    return VendorRequest(
        method=request.method,
        url=request.url,
        headers=request.headers,
        body=request.body.decode("utf-8", "replace"),
    )

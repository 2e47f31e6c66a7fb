"""A form from a vendor's declared settings, and a revision's config from what it sent.

Fields are named `config.<setting>`, as the API's error details are. The product's own `endpoint` and
`consent_categories` are fields too; `steps` and `events` are steps_form.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from datafly_lite.errors import AdminError
from datafly_lite.management.integrations import url_check
from datafly_lite.settings import Settings
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.pipeline_fields import pairs
from datafly_lite.ui.steps_form import pairs_of, read, steps_config
from datafly_lite.ui.steps_words import labels_of, placed
from datafly_lite.vendors import Vendor
from datafly_lite.vendors.checking import check_config, check_kept_secrets
from datafly_lite.vendors.declaration import MASK, Setting

PREFIX = "config."
TICKED = "on"

ENDPOINT = Setting(
    name="endpoint",
    label="Endpoint",
    type="url",
    placeholder="https://example.com/collect",
    help="Replaces the vendor's own address. Leave it empty unless you test against another server.",
)
CONSENT = "consent_categories"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What the template draws for one setting. `needs` is `other=value` where only that asks for it."""

    name: str
    label: str
    kind: str
    value: str
    help: str
    placeholder: str
    choices: tuple[tuple[str, str], ...]
    is_required: bool
    is_stored: bool
    needs: str
    needs_words: str


def field_names(vendor: Vendor) -> list[str]:
    """Of all fields that the form can have."""
    names = ["name", "description", "change_summary", f"{PREFIX}{ENDPOINT.name}", f"{PREFIX}{CONSENT}"]
    return [*names, *(PREFIX + setting.name for setting in vendor.settings)]


def field_labels(vendor: Vendor, form: Form) -> dict[str, str]:
    """What the form calls its fields, for a summary of what is wrong with them."""
    own = {PREFIX + setting.name: setting.label for setting in (*vendor.settings, ENDPOINT)}
    return {**own, **labels_of(read(form)), "change_summary": "What changed"}


def fields(vendor: Vendor, form: Form, stored: Mapping[str, Any] | None = None) -> list[Field]:
    """In the vendor's own order."""
    labels = {setting.name: setting.label for setting in vendor.settings}
    return [_field(setting, form, labels, stored or {}) for setting in vendor.settings]


def endpoint_field(form: Form) -> Field:
    """For the part of the form that most leave closed."""
    return _field(ENDPOINT, form, {}, {})


def _field(setting: Setting, form: Form, labels: Mapping[str, str], stored: Mapping[str, Any]) -> Field:
    name = PREFIX + setting.name
    other, value = setting.required_if or ("", "")
    return Field(
        name=name,
        label=setting.label,
        kind=setting.type,
        value=("on" if form.ticked(name) else "") if setting.type == "boolean" else form.text(name),
        help=setting.help,
        placeholder=setting.placeholder,
        choices=tuple((one, one) for one in setting.choices),
        is_required=setting.required,
        is_stored=stored.get(setting.name) == MASK,
        needs=f"{PREFIX}{other}={value}" if other else "",
        needs_words=f"For {labels.get(other, other)}: {value}." if other else "",
    )


def form_of(vendor: Vendor, config: Mapping[str, Any], name: str = "") -> Form:
    """The form as a config fills it; an empty config gives the vendor's defaults. Secrets stay out."""
    found = [("name", name)]
    for setting in vendor.settings:
        value = config.get(setting.name, setting.default)
        if setting.type == "boolean":
            found += [(PREFIX + setting.name, TICKED)] if value is True else []
        elif setting.type != "secret":
            found.append((PREFIX + setting.name, _text(value)))
    found.append((PREFIX + ENDPOINT.name, _text(config.get(ENDPOINT.name))))
    categories = config.get(CONSENT, list(vendor.consent_categories))
    found.append((PREFIX + CONSENT, ", ".join(map(str, categories))))
    return Form([*found, *pairs_of(config)])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {one}" for name, one in value.items())
    return str(value)


def config_of(
    vendor: Vendor, form: Form, problems: Problems, stored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The config to save: empty fields are left out, and an empty secret keeps the one that is stored."""
    before = stored or {}
    config: dict[str, Any] = steps_config(form, problems, before)
    for setting in vendor.settings:
        value = _value(setting, form, problems)
        if value == "" and before.get(setting.name) == MASK and _is_asked_for(setting, config):
            value = MASK
        if value not in ("", {}):
            config[setting.name] = value
    if endpoint := form.word(PREFIX + ENDPOINT.name):
        config[ENDPOINT.name] = endpoint
    categories = words(form.text(PREFIX + CONSENT))
    if categories != list(vendor.consent_categories):
        config[CONSENT] = categories
    return config


def check(
    settings: Settings,
    vendor: Vendor,
    config: Mapping[str, Any],
    form: Form,
    problems: Problems,
    stored: Mapping[str, Any] | None = None,
) -> None:
    """Add what the API would refuse to the problems that the form has by itself: one round for all.

    A field that could not be read has its message already; what the API says of the rest of it misleads.
    """
    rules: list[Callable[[], None]] = [
        lambda: check_config(vendor, config, check_url=url_check(settings)),
        lambda: check_kept_secrets(vendor, config, stored or {}),
    ]
    names = [*field_names(vendor), *labels_of(read(form))]
    for rule in rules:
        try:
            rule()
        except AdminError as error:
            _add(problems, problems_of(placed(error, form), names))


def _add(problems: Problems, more: Problems) -> None:
    problems.general += more.general
    for name, messages in more.items():
        if not problems.of(name):
            for message in messages:
                problems.add(name, message)


def words(text: str) -> list[str]:
    """`analytics, marketing` -> two words."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _is_asked_for(setting: Setting, config: Mapping[str, Any]) -> bool:
    """So that no secret stays behind for an authentication that is not used any more."""
    return setting.required_if is None or config.get(setting.required_if[0]) == setting.required_if[1]


def _value(setting: Setting, form: Form, problems: Problems) -> Any:
    name = PREFIX + setting.name
    if setting.type == "boolean":
        return form.ticked(name)
    if setting.type == "object":
        return pairs(form, name, ":", problems)
    if setting.type == "secret":
        return form.text(name)
    text = form.word(name)
    # What is no number goes on as text: it may be a pipeline parameter, and the check says if not.
    return int(text) if setting.type == "integer" and _is_whole(text) else text


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 15

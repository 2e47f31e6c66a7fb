"""Canonical events to GA4's names and parameters: tables first, then the few rules that read them.

Sources are named in ga4.py, those of the events' names in event_names.py; Commanders Act's items and
amounts are in its "E-commerce events", and its page "Google Analytics 4" says which item field is which
(doc.commandersact.com). Names of parameters and values that GA4 would refuse are made to fit or
left out here, because its endpoint answers 2xx either way and would lose the whole event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from datafly_lite.event_names import ga4, snake
from datafly_lite.events import Event

ITEM_EVENTS = frozenset(
    {
        "add_payment_info",
        "add_shipping_info",
        "add_to_cart",
        "add_to_wishlist",
        "begin_checkout",
        "purchase",
        "refund",
        "remove_from_cart",
        "select_item",
        "select_promotion",
        "view_cart",
        "view_item",
        "view_item_list",
        "view_promotion",
    }
)
"""Recommended events that carry items."""

VALUELESS_EVENTS = frozenset({"select_item", "select_promotion", "view_item_list", "view_promotion"})
"""Of them, those for which GA4 has no value: nothing is bought by looking at a list."""

PARAMETERS = {
    "order_id": "transaction_id",
    "query": "search_term",
    "list_id": "item_list_id",
    "list": "item_list_name",
    "payment_method": "payment_type",
    "shipping_method": "shipping_tier",
    "creative": "creative_name",
    "group_id": "group_id",
    "tax_amount": "tax",
    "shipping_amount": "shipping",
}
PAGE_PROPERTIES = frozenset({"url", "title", "referrer"})
"""Of a page event: they become page_location, page_title and page_referrer."""

OWN_PARAMETERS = {
    "view_promotion": {"name": "promotion_name", "position": "creative_slot"},
    "select_promotion": {"name": "promotion_name", "position": "creative_slot"},
    "purchase": {"id": "transaction_id"},
    "refund": {"id": "transaction_id"},
}
"""Names that mean this in some events only."""

ITEM_PARAMETERS = {
    "product_id": "item_id",
    "sku": "item_id",
    "id": "item_id",
    "name": "item_name",
    "brand": "item_brand",
    "category": "item_category",
    "category_1": "item_category",
    "category_2": "item_category2",
    "category_3": "item_category3",
    "category_4": "item_category4",
    "category_5": "item_category5",
    "variant": "item_variant",
    "position": "index",
    "list_position": "index",
}
"""Of names that become one, the first that the product has wins: Segment's product_id goes before its sku."""

ITEM_NAMES = frozenset(
    {
        *ITEM_PARAMETERS.values(),
        "affiliation",
        "coupon",
        "creative_name",
        "creative_slot",
        "discount",
        "item_list_id",
        "item_list_name",
        "location_id",
        "price",
        "promotion_id",
        "promotion_name",
        "quantity",
    }
)

PRODUCT_SIGNS = ("product_id", "sku", "item_id", "item_name")

RESERVED_EVENTS = frozenset(
    {
        "ad_activeview",
        "ad_click",
        "ad_exposure",
        "ad_impression",
        "ad_query",
        "ad_reward",
        "adunit_exposure",
        "app_background",
        "app_clear_data",
        "app_exception",
        "app_install",
        "app_remove",
        "app_store_refund",
        "app_store_subscription_cancel",
        "app_store_subscription_convert",
        "app_store_subscription_renew",
        "app_update",
        "app_upgrade",
        "dynamic_link_app_open",
        "dynamic_link_app_update",
        "dynamic_link_first_open",
        "error",
        "firebase_campaign",
        "first_open",
        "first_visit",
        "in_app_purchase",
        "notification_dismiss",
        "notification_foreground",
        "notification_open",
        "notification_receive",
        "notification_send",
        "os_update",
        "screen_view",
        "session_start",
        "user_engagement",
    }
)
RESERVED_PREFIX = re.compile(r"firebase_|ga_|google_|gtag_")
NAME_CHARACTERS = 40
MAX_PARAMETERS = 25
MAX_ITEMS = 200
VALUE_CHARACTERS = {"page_location": 1_000, "page_referrer": 420, "page_title": 300}
OTHER_VALUE_CHARACTERS = 100
ENGAGEMENT_MS = 100
"""As Google's own examples have it: without one the event does not show in the realtime report."""


def event_for(event: Event, currency: str | None = None) -> dict[str, Any] | None:
    """`{"name", "params"}`, or None where GA4 has no word for the event."""
    if event.type in ("identify", "alias"):
        return None
    if event.type in ("page", "screen"):
        name = "page_view"
        params = {key: one for key, one in event.properties.items() if key not in PAGE_PROPERTIES}
    elif event.type == "group":
        name, params = "join_group", {"group_id": event.group_id}
    else:
        name, params = event_name(event.event or ""), _track_params(event, currency)
    return {"name": name, "params": _fitting({**_common(event), **params})}


def event_name(name: str) -> str:
    """GA4's word for the event, else its own name within GA4's rules, `custom_` before what is reserved."""
    known = _plain(ga4(name))
    if not known[:1].isalpha() or known in RESERVED_EVENTS or RESERVED_PREFIX.match(known):
        known = f"custom_{known or 'event'}"
    return known[:NAME_CHARACTERS].rstrip("_")


def _plain(name: str) -> str:
    """`Video Watched (50%)` -> `video_watched_50`."""
    return re.sub(r"[^a-z0-9]+", "_", snake(name)).strip("_")


def _common(event: Event) -> dict[str, Any]:
    """What goes first, so that the limit of parameters never cuts it."""
    page = event.context.get("page") if isinstance(event.context.get("page"), dict) else None
    known = page or {}
    return {
        "session_id": _session_id(event.context),
        "engagement_time_msec": event.properties.get("engagement_time_msec", ENGAGEMENT_MS),
        "page_location": event.properties.get("url") or known.get("url"),
        "page_referrer": event.properties.get("referrer") or known.get("referrer"),
        "page_title": event.properties.get("title") or known.get("title") or event.name,
    }


def _session_id(context: Mapping[str, Any]) -> str | None:
    """GA4 takes digits only."""
    session = context.get("session")
    found = str(session.get("id", "")) if isinstance(session, dict) else ""
    return found if found.isascii() and found.isdecimal() else None


def _track_params(event: Event, currency: str | None) -> dict[str, Any]:
    name = event_name(event.event or "")
    properties = event.properties
    if name not in ITEM_EVENTS:
        # A name without a single letter of GA4's alphabet would otherwise be lost.
        own = {} if _plain(event.event or "") else {"event_name": event.event}
        return own | _renamed(properties, PARAMETERS)
    products = _products(properties)
    items = [_item(one) for one in products][:MAX_ITEMS]
    rest = {key: one for key, one in properties.items() if key not in _told_elsewhere(properties)}
    code = _first(properties, *products, name="currency") or currency
    return {
        **_money(name, properties, items, code),
        **_renamed(rest, {**PARAMETERS, **OWN_PARAMETERS.get(name, {})}),
        "items": items or None,
    }


def _first(*given: Mapping[str, Any], name: str) -> Any:
    return next((one[name] for one in given if one.get(name)), None)


def _told_elsewhere(properties: Mapping[str, Any]) -> frozenset[str]:
    """Properties that become items or money, and would only use up places of the 25."""
    told = frozenset({"products", "items", "revenue", "value", "currency"})
    return told | ITEM_NAMES | frozenset(ITEM_PARAMETERS) if _is_product(properties) else told


def _money(
    name: str, properties: Mapping[str, Any], items: list[dict[str, Any]], code: str | None
) -> dict[str, Any]:
    value = None if name in VALUELESS_EVENTS else _value(properties, items)
    return {"currency": code} if value is None else {"value": value, "currency": code}


def _products(properties: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The list of products, else the one product that the properties themselves describe."""
    for name in ("products", "items"):
        if isinstance(properties.get(name), list):
            return [_flattened(one) for one in properties[name] if isinstance(one, dict)]
    return [properties] if _is_product(properties) else []


def _flattened(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Commanders Act's item says what is sold in `product`; what the item says of itself goes before that."""
    product = item.get("product")
    return {**product, **item} if isinstance(product, dict) else item


def _is_product(properties: Mapping[str, Any]) -> bool:
    has_list = any(isinstance(properties.get(name), list) for name in ("products", "items"))
    return not has_list and any(properties.get(name) for name in PRODUCT_SIGNS)


def _item(product: Mapping[str, Any]) -> dict[str, Any]:
    renamed = _renamed(product, ITEM_PARAMETERS)
    fitting = {name: _value_fitting(name, renamed[name]) for name in renamed if name in ITEM_NAMES}
    return {name: value for name, value in fitting.items() if value is not None}


def _value(properties: Mapping[str, Any], items: list[dict[str, Any]]) -> float | int | None:
    """GA4's value leaves out tax and shipping, and so does everybody's revenue.

    Segment's and Commanders Act's `value` has them in, GA4's own has not: so the lesser of two counts.
    """
    for names in (("value", "revenue"), ("subtotal",)):
        stated: list[float | int] = [properties[one] for one in names if _is_number(properties.get(one))]
        if stated:
            return min(stated, key=abs)
    prices = [one["price"] * one.get("quantity", 1) for one in items if _is_priced(one)]
    total = properties.get("total")
    return round(sum(prices), 2) if prices else (total if _is_number(total) else None)


def _is_priced(item: Mapping[str, Any]) -> bool:
    return _is_number(item.get("price")) and _is_number(item.get("quantity", 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """With GA4's names; what already has GA4's name wins over a value that would get it."""
    renamed: dict[str, Any] = {}
    for name, new in names.items():
        if values.get(name) is not None:
            renamed.setdefault(new, values[name])
    own = {name: value for name, value in values.items() if name not in names and value is not None}
    return renamed | own


def _fitting(params: Mapping[str, Any]) -> dict[str, Any]:
    """Only what GA4 takes: 25 parameters with fitting names and values, nested objects flattened."""
    fitting: dict[str, Any] = {}
    for path, value in _flat(params):
        name = re.sub(r"[^A-Za-z0-9_]+", "_", path)[:NAME_CHARACTERS]
        fit = value if name == "items" else _value_fitting(name, value)
        if fit is not None and name[:1].isalpha() and not RESERVED_PREFIX.match(name.lower()):
            fitting.setdefault(name, fit)
        if len(fitting) == MAX_PARAMETERS:
            break
    return fitting


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"a": {"b": 1}}` -> `a_b`; the door has bounded the depth."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", value


def _value_fitting(name: str, value: Any) -> str | int | float | None:
    """Text cut to GA4's length, numbers as they are, booleans as words; lists and nothing are left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value[: VALUE_CHARACTERS.get(name, OTHER_VALUE_CHARACTERS)] or None
    return value if isinstance(value, int | float) else None

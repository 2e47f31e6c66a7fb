"""What Google Analytics 4 is sent for Commanders Act's standard events (wire-formats.md, 1.9)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from datafly_lite.events import Event
from datafly_lite.twins import ga4 as ga4_twin
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.declaration import EXAMPLE_NOW_MS, Outgoing, with_defaults

GA4 = VENDORS["ga4"]
CONFIG = {"measurement_id": "G-TEST1234", "api_secret": "s3cret"}
TIMES = {"timestamp": "2026-03-01T10:00:00.000Z", "receivedAt": "2026-03-01T10:00:01.000Z"}
SHIRT = {
    "id": "12345",
    "name": "Trex tshirt",
    "price": 9.99,
    "currency": "EUR",
    "category_1": "clothes",
    "category_2": "t-shirts",
    "category_3": "boy",
    "brand": "Lacoste",
    "colors": ["red", "blue"],
    "size": "128",
}
ITEM = {
    "id": "SKU_12345",
    "quantity": 2,
    "variant": "red",
    "coupon": "CHRISTMAS",
    "discount": 1.99,
    "affiliation": "DOWNLOAD",
    "list_position": 4,
    "product": SHIRT,
}
SENT_ITEM = {
    "item_id": "SKU_12345",
    "item_name": "Trex tshirt",
    "item_brand": "Lacoste",
    "item_category": "clothes",
    "item_category2": "t-shirts",
    "item_category3": "boy",
    "item_variant": "red",
    "index": 4,
    "price": 9.99,
    "quantity": 2,
    "coupon": "CHRISTMAS",
    "discount": 1.99,
    "affiliation": "DOWNLOAD",
}
MONEY = {"value": 22.53, "revenue": 16.0, "currency": "EUR"}
ORDER = {"id": "O_12345", "type": "online", "shipping_amount": 3.33, "tax_amount": 3.2, **MONEY}


def sent(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The one event of the request, which keeps all of Google's rules."""
    given = {
        "type": "track",
        "event": name,
        "messageId": "m-1",
        "anonymousId": "20261121093015447120934",
        "properties": properties,
        **TIMES,
    }
    request = GA4.request_for(
        [Outgoing(msgspec.convert(given, Event))], with_defaults(GA4, CONFIG), EXAMPLE_NOW_MS
    )
    assert request is not None
    assert ga4_twin.messages(request.body, EXAMPLE_NOW_MS) == []
    event: dict[str, Any] = msgspec.json.decode(request.body)["events"][0]
    assert event["params"].pop("engagement_time_msec") == 100
    return event


@pytest.mark.parametrize(
    ("name", "properties", "params"),
    [
        ("login", {"method": "LinkedIn"}, {"method": "LinkedIn"}),
        ("sign_up", {"method": "LinkedIn"}, {"method": "LinkedIn"}),
        ("search", {"search_term": "t-shirts"}, {"search_term": "t-shirts"}),
        (
            "select_content",
            {"content_type": "product", "item_id": "I_1"},
            {"content_type": "product", "item_id": "I_1"},
        ),
        (
            "generate_lead",
            {"id": "L-1", "value": 22.53, "currency": "EUR"},
            {"id": "L-1", "value": 22.53, "currency": "EUR"},
        ),
        (
            "view_item",
            {"revenue": 9.99, "currency": "EUR", "items": [ITEM]},
            {"value": 9.99, "currency": "EUR", "items": [SENT_ITEM]},
        ),
        (
            "view_item_list",
            {"item_list_name": "Related products", "items": [ITEM, ITEM]},
            {"item_list_name": "Related products", "currency": "EUR", "items": [SENT_ITEM, SENT_ITEM]},
        ),
        (
            "select_item",
            {"item_list_name": "Related products", "items": [ITEM]},
            {"item_list_name": "Related products", "currency": "EUR", "items": [SENT_ITEM]},
        ),
        (
            "add_to_cart",
            {"value": 8, "currency": "EUR", "items": [ITEM]},
            {"value": 8, "currency": "EUR", "items": [SENT_ITEM]},
        ),
        ("view_cart", {"items": [ITEM]}, {"value": 19.98, "currency": "EUR", "items": [SENT_ITEM]}),
        (
            "begin_checkout",
            {**MONEY, "coupon": "CHRISTMAS", "items": [ITEM]},
            {"value": 16.0, "currency": "EUR", "coupon": "CHRISTMAS", "items": [SENT_ITEM]},
        ),
        (
            "add_shipping_info",
            {"value": 22.53, "currency": "EUR", "shipping_tier": "Ground", "items": [ITEM]},
            {"value": 22.53, "currency": "EUR", "shipping_tier": "Ground", "items": [SENT_ITEM]},
        ),
        (
            "add_payment_info",
            {**MONEY, "payment_method": "card"},
            {"value": 16.0, "currency": "EUR", "payment_type": "card"},
        ),
        (
            "purchase",
            {**ORDER, "payment_method": "card", "status": "in_progress", "items": [ITEM]},
            {
                "transaction_id": "O_12345",
                "value": 16.0,
                "tax": 3.2,
                "shipping": 3.33,
                "currency": "EUR",
                "payment_type": "card",
                "type": "online",
                "status": "in_progress",
                "items": [SENT_ITEM],
            },
        ),
        (
            "refund",
            ORDER,
            {
                "transaction_id": "O_12345",
                "value": 16.0,
                "tax": 3.2,
                "shipping": 3.33,
                "currency": "EUR",
                "type": "online",
            },
        ),
        (
            "select_promotion",
            {"promotion_id": "P", "promotion_name": "Sale", "creative_slot": "top", "items": [ITEM]},
            {
                "promotion_id": "P",
                "promotion_name": "Sale",
                "creative_slot": "top",
                "currency": "EUR",
                "items": [SENT_ITEM],
            },
        ),
        ("ad_click", {"medium": "cpc", "source": "g"}, {"medium": "cpc", "source": "g"}),
        ("video_start", {"content_asset_id": ["a"], "cursor_position": 3}, {"cursor_position": 3}),
    ],
)
def test_a_standard_event_has_ga4s_parameters(
    name: str, properties: dict[str, Any], params: dict[str, Any]
) -> None:
    reserved = name in ga4_twin.RESERVED_EVENTS
    assert sent(name, properties) == {"name": f"custom_{name}" if reserved else name, "params": params}


def item_of(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = sent("view_item", {"items": [item]})["params"]["items"][0]
    return found


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"id": "S", "product": {"name": "x"}}, {"item_id": "S", "item_name": "x"}),
        ({"product": {"id": "P"}}, {"item_id": "P"}),
        ({"id": None, "sku": "S"}, {"item_id": "S"}),
        ({"sku": "S", "product_id": "P"}, {"item_id": "P"}),
        ({"item_id": None, "id": "S"}, {"item_id": "S"}),
        ({"id": "S", "price": 5, "currency": "EUR", "product": {"price": 9}}, {"item_id": "S", "price": 5}),
        ({"id": "S", "product": "Mug"}, {"item_id": "S"}),
        ({"id": "S", "product": {"product": {"name": "deep"}}}, {"item_id": "S"}),
        (
            {"item_id": "S", "item_category5": "e", "item_list_id": "l"},
            {"item_id": "S", "item_category5": "e", "item_list_id": "l"},
        ),
    ],
)
def test_an_item_is_read_with_its_product(item: dict[str, Any], expected: dict[str, Any]) -> None:
    assert item_of(item) == expected


@pytest.mark.parametrize(
    ("properties", "currency"),
    [
        ({"currency": "USD", "items": [ITEM]}, "USD"),
        ({"items": [{"id": "S"}, ITEM]}, "EUR"),
        ({"items": [{"id": "S", "product": "Mug"}]}, None),
    ],
)
def test_the_currency_is_the_events_else_its_products(
    properties: dict[str, Any], currency: str | None
) -> None:
    assert sent("view_item", properties)["params"].get("currency") == currency


@pytest.mark.parametrize(
    ("properties", "value"),
    [
        ({"value": 30, "revenue": 25}, 25),
        ({"value": 25, "revenue": 30}, 25),
        ({"value": -30, "revenue": -25}, -25),
        ({"value": "30", "revenue": 25, "subtotal": 3}, 25),
        ({"subtotal": 3, "total": 5}, 3),
    ],
)
def test_of_value_and_revenue_the_one_without_tax_counts(properties: dict[str, Any], value: float) -> None:
    assert (
        sent("begin_checkout", {**properties, "currency": "EUR", "items": [ITEM]})["params"]["value"] == value
    )


def test_a_transaction_has_its_id_only_where_id_means_that() -> None:
    assert sent("begin_checkout", {"id": "O", "items": [ITEM]})["params"]["id"] == "O"
    assert sent("purchase", {"id": "O", "order_id": "P", "items": [ITEM]})["params"]["transaction_id"] == "P"

"""What GA4 is sent for the usual events: documentation and tests at once."""

from __future__ import annotations

from typing import Any

import msgspec

from datafly_lite.vendors.declaration import Example, Request

SETTINGS = {"measurement_id": "G-TEST1234", "api_secret": "s3cret"}
QUERY = "measurement_id=G-TEST1234&api_secret=s3cret"
URL = f"https://www.google-analytics.com/mp/collect?{QUERY}"
VISITOR = "8f7b7a2e-6f0d-4c53-9d0b-0c1a2b3c4d5e"
TIMES = {"timestamp": "2026-03-01T10:00:00.000Z", "receivedAt": "2026-03-01T10:00:01.000Z"}


def _request(url: str, body: dict[str, Any]) -> Request:
    return Request("POST", url, {"content-type": "application/json"}, msgspec.json.encode(body))


def _event(kind: str, number: int, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "messageId": f"m-{number}", "anonymousId": VISITOR, **TIMES, **fields}


ORDER = Example(
    "an order becomes a purchase: items, revenue without tax and shipping, refused advertising consent",
    SETTINGS,
    _event(
        "track",
        1,
        event="Order Completed",
        userId="u-1",
        vendorIds={"ga4_client_id": "GA1.2.1234567.1690000000"},
        properties={
            "order_id": "O-1",
            "total": 58,
            "tax": 4,
            "shipping": 4,
            "currency": "GBP",
            "coupon": "SPRING",
            "products": [{"product_id": "P", "name": "Mug", "price": 25.0, "quantity": 2, "brand": "Ox"}],
        },
        context={
            "page": {"url": "https://shop.example/thanks", "title": "Thank you"},
            "session": {"id": "1772359000"},
            "consent": {"marketing": False},
        },
    ),
    _request(
        URL,
        {
            "client_id": "1234567.1690000000",
            "user_id": "u-1",
            "timestamp_micros": 1_772_359_200_000_000,
            "consent": {"ad_user_data": "DENIED", "ad_personalization": "DENIED"},
            "events": [
                {
                    "name": "purchase",
                    "params": {
                        "session_id": "1772359000",
                        "engagement_time_msec": 100,
                        "page_location": "https://shop.example/thanks",
                        "page_title": "Thank you",
                        "value": 50.0,
                        "currency": "GBP",
                        "transaction_id": "O-1",
                        "total": 58,
                        "tax": 4,
                        "shipping": 4,
                        "coupon": "SPRING",
                        "items": [
                            {
                                "item_id": "P",
                                "item_name": "Mug",
                                "item_brand": "Ox",
                                "price": 25.0,
                                "quantity": 2,
                            }
                        ],
                    },
                }
            ],
        },
    ),
)

COMMANDERS_ACT_ORDER = Example(
    "a purchase as Commanders Act writes it: the product within each item, a value with tax and shipping",
    SETTINGS,
    _event(
        "track",
        7,
        event="purchase",
        properties={
            "id": "O-2",
            "type": "online",
            "value": 58.5,
            "revenue": 50,
            "tax_amount": 4.5,
            "shipping_amount": 4,
            "currency": "EUR",
            "payment_method": "card",
            "items": [
                {
                    "id": "SKU-1",
                    "quantity": 2,
                    "variant": "red",
                    "list_position": 3,
                    "discount": 1.5,
                    "product": {
                        "id": "12345",
                        "name": "Mug",
                        "price": 25.0,
                        "category_1": "Kitchen",
                        "category_2": "Cups",
                        "brand": "Ox",
                        "colors": ["red"],
                    },
                }
            ],
        },
    ),
    _request(
        URL,
        {
            "client_id": "295150979.1526796741",
            "timestamp_micros": 1_772_359_200_000_000,
            "events": [
                {
                    "name": "purchase",
                    "params": {
                        "engagement_time_msec": 100,
                        "value": 50,
                        "currency": "EUR",
                        "payment_type": "card",
                        "tax": 4.5,
                        "shipping": 4,
                        "transaction_id": "O-2",
                        "type": "online",
                        "items": [
                            {
                                "item_id": "SKU-1",
                                "item_name": "Mug",
                                "item_brand": "Ox",
                                "item_category": "Kitchen",
                                "item_category2": "Cups",
                                "item_variant": "red",
                                "index": 3,
                                "price": 25.0,
                                "quantity": 2,
                                "discount": 1.5,
                            }
                        ],
                    },
                }
            ],
        },
    ),
)

PRODUCT = Example(
    "one product becomes an item; the client id follows from the anonymousId, the currency from the settings",
    {**SETTINGS, "currency": "EUR", "region": "eu"},
    _event(
        "track",
        2,
        event="Product Added",
        properties={"product_id": "P", "name": "Mug", "price": 25.0, "quantity": 2, "list": "home"},
    ),
    _request(
        f"https://region1.google-analytics.com/mp/collect?{QUERY}",
        {
            "client_id": "295150979.1526796741",
            "timestamp_micros": 1_772_359_200_000_000,
            "events": [
                {
                    "name": "add_to_cart",
                    "params": {
                        "engagement_time_msec": 100,
                        "value": 50.0,
                        "currency": "EUR",
                        "item_list_name": "home",
                        "items": [{"item_id": "P", "item_name": "Mug", "price": 25.0, "quantity": 2}],
                    },
                }
            ],
        },
    ),
)

PAGE = Example(
    "a page, to another endpoint with a query of its own",
    {**SETTINGS, "endpoint": "https://collect.example/mp/collect?shop=uk"},
    _event(
        "page",
        3,
        name="Mugs",
        properties={"url": "https://shop.example/mugs", "path": "/mugs"},
        context={"userAgent": "Mozilla/5.0", "ip": "198.51.100.7"},
    ),
    _request(
        f"https://collect.example/mp/collect?shop=uk&{QUERY}",
        {
            "client_id": "295150979.1526796741",
            "timestamp_micros": 1_772_359_200_000_000,
            "user_agent": "Mozilla/5.0",
            "events": [
                {
                    "name": "page_view",
                    "params": {
                        "engagement_time_msec": 100,
                        "page_location": "https://shop.example/mugs",
                        "page_title": "Mugs",
                        "path": "/mugs",
                    },
                }
            ],
        },
    ),
)

OWN = Example(
    "an event of the shop's own under a name that GA4 reserves; what GA4 cannot take is left out",
    {**SETTINGS, "user_properties": "plan", "send_ip": True},
    _event(
        "track",
        4,
        event="Error",
        properties={"code": 17, "where": {"file": "cart.js"}, "_private": 1, "seen": True, "tags": ["a"]},
        context={"ip": "198.51.100.7", "traits": {"plan": "gold", "email": "ann@example.com"}},
    ),
    _request(
        URL,
        {
            "client_id": "295150979.1526796741",
            "timestamp_micros": 1_772_359_200_000_000,
            "user_properties": {"plan": {"value": "gold"}},
            "ip_override": "198.51.100.7",
            "events": [
                {
                    "name": "custom_error",
                    "params": {
                        "engagement_time_msec": 100,
                        "code": 17,
                        "where_file": "cart.js",
                        "seen": "true",
                    },
                }
            ],
        },
    ),
)

GROUP = Example(
    "a group is joined",
    SETTINGS,
    _event("group", 5, groupId="g-1"),
    _request(
        URL,
        {
            "client_id": "295150979.1526796741",
            "timestamp_micros": 1_772_359_200_000_000,
            "events": [{"name": "join_group", "params": {"engagement_time_msec": 100, "group_id": "g-1"}}],
        },
    ),
)

IDENTIFY = Example(
    "identify sends nothing: its user id goes with the events that follow",
    SETTINGS,
    _event("identify", 6, userId="u-1", traits={"plan": "gold"}),
    None,
)

EXAMPLES = (ORDER, COMMANDERS_ACT_ORDER, PRODUCT, PAGE, OWN, GROUP, IDENTIFY)

"""One table of what an event is called: our own id, and the names of Segment, GA4 and Commanders Act.

Sources: spec/datafly-signal.md, 3.7 and 3.9 (ids in snake_case, and the advice to keep such a table);
Segment, "Spec: V2 Ecommerce Events" (twilio.com/docs/segment/connections/spec/ecommerce/v2), whose notes
name the older names too, "Spec: V1 Ecommerce Events" and "Spec: B2B SaaS" beside it; Google,
developers.google.com/analytics/devguides/collection/protocol/ga4/reference/events and
support.google.com/analytics/answer/9267735; Commanders Act, spec/wire-formats.md, 1.9.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class EventName(NamedTuple):
    """One event in each vocabulary; None where a vocabulary has no word for it.

    Several rows may go to one name of GA4's; that name then stands for the first of them.
    `also` lists further spellings that mean this event.
    """

    canonical: str
    segment: str | None = None
    ga4: str | None = None
    commanders_act: str | None = None
    also: tuple[str, ...] = ()


EVENT_NAMES = (
    EventName("products_searched", "Products Searched", "search", "search", ("product_searched",)),
    EventName(
        "product_list_viewed",
        "Product List Viewed",
        "view_item_list",
        "view_item_list",
        ("Viewed Product Category",),
    ),
    EventName("product_list_filtered", "Product List Filtered", "view_item_list"),
    EventName(
        "promotion_viewed", "Promotion Viewed", "view_promotion", "view_promotion", ("Viewed Promotion",)
    ),
    EventName(
        "promotion_clicked",
        "Promotion Clicked",
        "select_promotion",
        "select_promotion",
        ("Clicked Promotion",),
    ),
    EventName("product_clicked", "Product Clicked", "select_item", "select_item", ("Clicked Product",)),
    EventName("product_viewed", "Product Viewed", "view_item", "view_item", ("Viewed Product",)),
    EventName("product_added", "Product Added", "add_to_cart", "add_to_cart", ("Added Product",)),
    EventName(
        "product_removed", "Product Removed", "remove_from_cart", "remove_from_cart", ("Removed Product",)
    ),
    EventName("cart_viewed", "Cart Viewed", "view_cart", "view_cart"),
    EventName("checkout_started", "Checkout Started", "begin_checkout", "begin_checkout", ("Started Order",)),
    EventName("checkout_step_viewed", "Checkout Step Viewed", also=("Viewed Checkout Step",)),
    EventName("checkout_step_completed", "Checkout Step Completed", also=("Completed Checkout Step",)),
    EventName("shipping_info_entered", None, "add_shipping_info", "add_shipping_info"),
    EventName("payment_info_entered", "Payment Info Entered", "add_payment_info", "add_payment_info"),
    EventName("order_updated", "Order Updated", also=("Updated Order",)),
    EventName("order_completed", "Order Completed", "purchase", "purchase", ("Completed Order",)),
    EventName("order_refunded", "Order Refunded", "refund", "refund"),
    EventName("order_cancelled", "Order Cancelled"),
    EventName("coupon_entered", "Coupon Entered"),
    EventName("coupon_applied", "Coupon Applied"),
    EventName("coupon_denied", "Coupon Denied"),
    EventName("coupon_removed", "Coupon Removed"),
    EventName("product_added_to_wishlist", "Product Added to Wishlist", "add_to_wishlist", "add_to_wishlist"),
    EventName("product_removed_from_wishlist", "Product Removed from Wishlist"),
    EventName("wishlist_product_added_to_cart", "Wishlist Product Added to Cart", "add_to_cart"),
    # GA4 shares anything: its word means neither of Segment's two, though each of them goes there.
    EventName("share", None, "share"),
    EventName("product_shared", "Product Shared", "share"),
    EventName("cart_shared", "Cart Shared", "share"),
    EventName("product_reviewed", "Product Reviewed"),
    EventName("signed_up", "Signed Up", "sign_up", "sign_up"),
    EventName("signed_in", "Signed In", "login", "login"),
    EventName("lead_submitted", None, "generate_lead", "generate_lead"),
)


def snake(name: str) -> str:
    """`Order Completed`, `orderCompleted`, `order-completed`, `order.completed` -> `order_completed`.

    A capital after a small letter begins a word; runs of white space, `-`, `.` and `_` part words;
    then all is lower case. Every other character stays.
    """
    split = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    return re.sub(r"[\s._-]+", "_", split).strip("_").lower()


def _spellings(row: EventName) -> tuple[str, ...]:
    return tuple(
        name for name in (row.canonical, row.segment, row.ga4, row.commanders_act, *row.also) if name
    )


BY_SPELLING: dict[str, EventName] = {
    snake(name): row for row in reversed(EVENT_NAMES) for name in _spellings(row)
} | {row.canonical: row for row in EVENT_NAMES}
"""Reversed, so that of several rows with one name the first is found."""


def canonical(name: str) -> str:
    """Our id of the event that any vocabulary's name means; a name of nobody's stays as it is."""
    row = BY_SPELLING.get(snake(name))
    return row.canonical if row else name


def ga4(name: str) -> str:
    """GA4's name of the event; a name that it has no other word for stays as it is."""
    row = BY_SPELLING.get(snake(name))
    return row.ga4 if row and row.ga4 else name

"""The table of events' names: every spelling is found, and docs/events.md shows the same table."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.event_names import EVENT_NAMES, EventName, canonical, ga4, snake
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway import BY_NAME
from datafly_lite.twins import ga4 as ga4_twin
from datafly_lite.vendors.ga4_events import NAME_CHARACTERS

DOCUMENT = Path(__file__).parent.parent / "docs" / "events.md"
ROWS = pytest.mark.parametrize("row", EVENT_NAMES, ids=[row.canonical for row in EVENT_NAMES])

GOOGLE = """add_payment_info add_shipping_info add_to_cart add_to_wishlist begin_checkout generate_lead login
purchase refund remove_from_cart search select_item select_promotion share sign_up view_cart view_item
view_item_list view_promotion"""
"""Of the Measurement Protocol's reference of events, those that this table has a word for."""

COMMANDERS_ACT = """login sign_up search generate_lead view_item view_item_list select_item add_to_cart
remove_from_cart view_cart add_to_wishlist begin_checkout add_shipping_info add_payment_info purchase refund
select_promotion view_promotion"""
"""wire-formats.md, 1.9, without what only they have (page_view, select_content, ad_*, video_*)."""

SEGMENT = """Products Searched|Product List Viewed|Product List Filtered|Promotion Viewed|Promotion Clicked|
Product Clicked|Product Viewed|Product Added|Product Removed|Cart Viewed|Checkout Started|
Checkout Step Viewed|Checkout Step Completed|Payment Info Entered|Order Completed|Order Updated|
Order Refunded|Order Cancelled|Coupon Entered|Coupon Applied|Coupon Denied|Coupon Removed|
Product Added to Wishlist|Product Removed from Wishlist|Wishlist Product Added to Cart|Product Shared|
Cart Shared|Product Reviewed|Signed Up|Signed In"""
"""All of "Spec: V2 Ecommerce Events", in its own order where that does not matter, and two of "B2B SaaS"."""


@ROWS
def test_every_spelling_means_the_event(row: EventName) -> None:
    for name in (row.canonical, row.segment, *row.also):
        assert name is None or (canonical(name), ga4(name)) == (row.canonical, row.ga4 or name)


@pytest.mark.parametrize("spelling", [str.lower, str.upper, lambda name: name.replace(" ", "-"), snake])
@ROWS
def test_case_spaces_and_hyphens_do_not_matter(row: EventName, spelling: object) -> None:
    assert callable(spelling)
    for name in (row.segment, *row.also):
        assert name is None or canonical(spelling(name)) == row.canonical


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("purchase", "order_completed"),
        ("orderCompleted", "order_completed"),
        ("OrderCompleted", "order_completed"),
        ("  order\u00a0 completed ", "order_completed"),
        ("Viewed Product", "product_viewed"),
        ("view_item_list", "product_list_viewed"),
        ("add_to_cart", "product_added"),
        ("share", "share"),
        ("Product Shared", "product_shared"),
        ("product_searched", "products_searched"),
    ],
)
def test_names_of_any_vocabulary_have_one_id(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize(
    "name", ["Video Watched (50%)", "Order Completed!", "日本 purchase", "purchases", "", " ", "_", "Page"]
)
def test_a_name_of_nobodys_stays_as_it_is(name: str) -> None:
    assert (canonical(name), ga4(name)) == (name, name)


@given(st.text())
def test_an_id_is_its_own_id(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)


def test_the_words_are_those_that_each_of_them_published() -> None:
    assert sorted({row.ga4 for row in EVENT_NAMES if row.ga4}) == sorted(GOOGLE.split())
    assert sorted(row.commanders_act for row in EVENT_NAMES if row.commanders_act) == sorted(
        COMMANDERS_ACT.split()
    )
    assert sorted(row.segment for row in EVENT_NAMES if row.segment) == sorted(
        SEGMENT.replace("\n", "").split("|")
    )


def test_an_id_is_in_snake_case_and_is_told_once() -> None:
    ids = [row.canonical for row in EVENT_NAMES]
    assert len(set(ids)) == len(ids)
    assert [one for one in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)*", one)] == []


def test_no_spelling_is_of_two_events() -> None:
    """GA4's words alone may stand in several rows."""
    told = [snake(name) for row in EVENT_NAMES for name in (row.canonical, *row.also)]
    assert sorted(set(told)) == sorted(told)
    assert [row for row in EVENT_NAMES if row.segment and snake(row.segment) != row.canonical] == []


def test_ga4_takes_its_words() -> None:
    taken = {row.ga4 for row in EVENT_NAMES if row.ga4}
    assert not taken & ga4_twin.RESERVED_EVENTS
    assert all(ga4_twin.NAME.fullmatch(one) and len(one) <= NAME_CHARACTERS for one in taken)


def table() -> list[str]:
    """As docs/events.md shows it."""
    lines = ["| id | Segment | GA4 | Commanders Act | also |", "|---|---|---|---|---|"]
    for row in EVENT_NAMES:
        ids = [f"`{row.canonical}`", row.segment or ""]
        words = [f"`{name}`" if name else "" for name in (row.ga4, row.commanders_act)]
        lines.append(f"| {' | '.join([*ids, *words, ', '.join(row.also)])} |")
    return lines


def test_the_document_shows_the_table() -> None:
    shown = DOCUMENT.read_text(encoding="utf-8").splitlines()
    start = shown.index(table()[0])
    assert shown[start : start + len(table())] == table()
    assert shown[start + len(table())] == ""


@pytest.mark.parametrize("struct", [Event, Envelope])
def test_the_document_says_what_every_field_means(struct: type[Event | Envelope]) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1 if struct is Event else 2]
    rows = re.findall(r"^\| `(\w+)` \| .+ \|$", section, re.MULTILINE)
    assert rows == [field.encode_name for field in msgspec.structs.fields(struct)]


def test_the_document_has_a_place_for_every_wire_format() -> None:
    headings = re.findall(r"^### (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(headings))) == sorted(BY_NAME)

"""The catalogue: one file and one line a vendor."""

from datafly_lite.vendors.declaration import Vendor
from datafly_lite.vendors.ga4 import GA4
from datafly_lite.vendors.webhook import WEBHOOK

VENDORS: dict[str, Vendor] = {
    vendor.name: vendor
    for vendor in (
        WEBHOOK,
        GA4,
    )
}
"""By name, which is what an integration's `vendor` says."""

__all__ = ["VENDORS", "Vendor"]

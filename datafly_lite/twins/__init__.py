"""Vendor twins: local servers that answer as vendors do and check what they are sent. For dev mode.

They know the vendors' published rules, not the product's mappings, so they can find fault with these.
"""

from datafly_lite.twins.app import twins_app
from datafly_lite.twins.webhook import DEMO_WEBHOOK_SECRET

__all__ = ["DEMO_WEBHOOK_SECRET", "twins_app"]

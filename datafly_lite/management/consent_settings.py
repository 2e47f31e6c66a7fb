"""What the organisation says of consent: codes, what holds unsaid, what must be agreed to (section 7)."""

from __future__ import annotations

from datafly_lite import consent
from datafly_lite.consent import ConsentSettings
from datafly_lite.management.auditing import Audited
from datafly_lite.management.versioned import Rules

RULES = Rules(
    "consent_settings",
    ConsentSettings,
    consent.problems,
    Audited("consent_settings.updated", "consent_settings"),
)

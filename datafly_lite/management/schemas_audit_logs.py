"""The audit log (audit_logs.py; spec/datafly-signal.md, 9.5)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from datafly_lite.management.schemas import From, Instant, KeyText, PageQuery, To


class AuditLogFilters(PageQuery, kw_only=True):
    """Empty ones do not count. An `action` such as `pipeline.updated`; entries are kept for 90 days."""

    action: KeyText | UnsetType = UNSET
    user_id: KeyText | UnsetType = UNSET
    resource_type: KeyText | UnsetType = UNSET
    resource_id: KeyText | UnsetType = UNSET
    from_: From | UnsetType = field(default=UNSET, name="from")
    to: To | UnsetType = UNSET


class AuditChange(Struct):
    """As the API shows it; null where there was none. A secret is `***`, another one `*** (changed)`."""

    old: Any
    new: Any


class AuditLogEntry(Struct):
    """`changes` is by field. A `user_id` of null: the program, its operator, or, with the `user_email` that
    was tried, a log-in that failed.
    """

    id: str
    action: str
    user_id: str | None
    user_email: str | None
    resource_type: str
    resource_id: str | None
    changes: dict[str, AuditChange]
    ip_address: str | None
    user_agent: str | None
    timestamp: Instant

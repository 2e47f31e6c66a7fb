"""People and their roles, as the rest of the program knows them."""

from __future__ import annotations

import re
import sqlite3

import msgspec

from datafly_lite.clock import iso_s
from datafly_lite.errors import AdminError

ROLES = ("viewer", "editor", "admin", "owner")
"""From the least to the most."""

EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")
LONGEST_EMAIL = 300
LONGEST_NAME = 200


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may come in. Times as the management API prints them."""

    id: str
    email: str
    name: str
    role: str
    status: str
    last_login_at: str | None
    created_at: str
    updated_at: str


def user_of(row: sqlite3.Row) -> User:
    """From a row of the users."""
    last_login_at_ms = row["last_login_at_ms"]
    return User(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        role=row["role"],
        status=row["status"],
        last_login_at=iso_s(last_login_at_ms) if last_login_at_ms is not None else None,
        created_at=iso_s(row["created_at_ms"]),
        updated_at=iso_s(row["updated_at_ms"]),
    )


def has_role(role: str, needed: str) -> bool:
    """Whether a role is this one or a greater one."""
    return ROLES.index(role) >= ROLES.index(needed)


def lesser(role: str, other: str) -> str:
    """The one of two roles that may do less."""
    return min(role, other, key=ROLES.index)


def require(user: User, role: str) -> None:
    """Raise FORBIDDEN unless the user has this role or a greater one."""
    if not has_role(user.role, role):
        raise AdminError("FORBIDDEN", f"this needs the role {role}; yours is {user.role}")


def checked_email(email: str) -> str:
    """In lower case. Raises VALIDATION_ERROR for what is no address."""
    email = email.strip().lower()
    if not EMAIL.fullmatch(email):
        raise AdminError.invalid("email", "must be an e-mail address")
    return email


def checked_name(name: str) -> str:
    """The name. Raises VALIDATION_ERROR where it is too long."""
    if len(name) > LONGEST_NAME:
        raise AdminError.invalid("name", f"must have at most {LONGEST_NAME} characters")
    return name

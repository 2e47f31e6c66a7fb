"""Setting up, logging in, people (api.md, section 2; spec/datafly-signal.md, 9.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from datafly_lite.management.schemas import LINE, Instant, Name

Role = Literal["viewer", "editor", "admin", "owner"]
Email = Annotated[
    str,
    Meta(
        max_length=300,
        pattern=r"^[^@\s\x00-\x1f\x7f-\x9f\u2028\u2029]{1,64}@[^@\s\x00-\x1f\x7f-\x9f\u2028\u2029]{1,190}$",
        examples=["ada@example.com"],
    ),
]
PersonName = Annotated[str, Meta(max_length=200)]
PersonLine = Annotated[str, Meta(max_length=200, pattern=LINE)]
Status = Literal["active", "invited", "disabled"]
Token = Annotated[str, Meta(max_length=200)]
Password = Annotated[str, Meta(max_length=1024, description="At least 12 characters.")]
NewPassword = Annotated[str, Meta(min_length=12, max_length=1024)]
OwnerPassword = Annotated[str, Meta(min_length=12, max_length=1024)]


class SetUp(Struct, forbid_unknown_fields=True):
    """The first owner. `token` is the one-time token that the program prints at its first start."""

    token: Token
    email: Email
    password: OwnerPassword
    name: PersonName | UnsetType = UNSET


class Login(Struct, forbid_unknown_fields=True):
    """An e-mail address and its password."""

    email: Annotated[str, Meta(max_length=300)]
    password: Password


class Refresh(Struct, forbid_unknown_fields=True):
    """A refresh token works once: its second use ends all that its user has."""

    refresh_token: Token


class PasswordChange(Struct, forbid_unknown_fields=True):
    """Ends all sessions and tokens of the caller; the answer has new ones."""

    current_password: Password
    new_password: NewPassword


class Tokens(Struct):
    """`expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class Person(Struct):
    """Somebody who may come in."""

    id: str
    email: str
    name: str
    role: Role
    status: Status
    last_login_at: Instant | None
    created_at: Instant
    updated_at: Instant


# ── People and API keys ──────────────────────────────────────────────────────────────────────


class Acceptance(Struct, forbid_unknown_fields=True):
    """`token` stands in the invitation's link. Without a name, or an empty one, the inviter's stays."""

    token: Token
    password: NewPassword
    name: PersonName | UnsetType = UNSET


class NewPerson(Struct, forbid_unknown_fields=True):
    """Only the owner invites admins."""

    email: Email
    role: Literal["viewer", "editor", "admin"]
    name: PersonLine | UnsetType = UNSET


class Invitation(Person):
    """`invite_url` is for the invited person: it is good once, until `expires_at`, and shown here only."""

    invite_url: str
    expires_at: Instant


class PersonChange(Struct, forbid_unknown_fields=True):
    """The fields to change. Those that never change may be sent back as they were read."""

    name: PersonLine | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class NewApiKey(Struct, forbid_unknown_fields=True):
    """The role is the caller's own at most. Without `expires_at` the key has no end."""

    name: Name
    role: Role
    expires_at: Instant | UnsetType | None = UNSET


class ApiKey(Struct):
    """It acts for its maker, with its role or the maker's present one, whichever is less. `last_used_at` is
    right to the minute.
    """

    id: str
    name: str
    prefix: str
    role: Role
    user_id: str
    user_email: str
    expires_at: Instant | None
    last_used_at: Instant | None
    created_at: Instant


class ApiKeyCreated(ApiKey):
    """`key` is shown here only."""

    key: str

"""What a start tells the person at the terminal: where to go first, and with which link."""

from __future__ import annotations

import click

from datafly_lite import dev
from datafly_lite.app import Appliance, open_store, writing
from datafly_lite.auth import Authority, User
from datafly_lite.clock import new_token, system_clock
from datafly_lite.settings import Settings


async def announce(appliance: Appliance, demo_key: str | None) -> None:
    """Print the links: the UI, in dev mode the demo shop, the health page."""
    authority, base_url = appliance.services.authority, appliance.settings.base_url
    rows = [await _way_in(authority, base_url, demo=demo_key is not None)]
    if demo_key is not None:
        rows.append(("Demo shop", f"{base_url}/demo/shop"))
        rows.append(("Vendor twins", f"http://127.0.0.1:{dev.twins_port(appliance.settings)}/"))
    rows.append(("Health", f"{base_url}/readyz"))
    width = max(len(name) for name, _ in rows)
    click.echo("\n".join(["", *(f"  {name:<{width}}  {link}" for name, link in rows), ""]))


async def _way_in(authority: Authority, base_url: str, *, demo: bool) -> tuple[str, str]:
    owner = await authority.owner()
    if owner is None and demo:
        owner = await _demo_owner(authority)
    if owner is None:
        return "Set up (one use, 30 minutes)", str(await authority.new_setup_link(base_url))
    if demo:
        return "UI (signs in once, 30 minutes)", await authority.new_sign_in_link(base_url, owner.id)
    return "UI", f"{base_url}/"


async def _demo_owner(authority: Authority) -> User | None:
    """An owner with a password that nobody knows: the one-time link is the way in."""
    return await authority.ensure_owner(dev.DEMO_OWNER, new_token("pw"))


async def create_owner(settings: Settings, email: str, password: str) -> str:
    """Make the owner of a stopped appliance, or give the owner a new password; what was done, in words."""
    store, _ = await open_store(settings)
    try:
        async with writing(store):
            authority = Authority(store, settings, system_clock)
            owner = await authority.owner()
            if owner is None:
                owner = await authority.ensure_owner(email, password)
                return f"{owner.email if owner else email} is the owner now"
            await authority.reset_password(owner, password)
            return f"the owner {owner.email} has a new password, and is signed out everywhere"
    finally:
        await store.close()

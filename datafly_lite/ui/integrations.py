"""The integrations of a pipeline: attached, paused, changed, detached."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from starlette.responses import Response

from datafly_lite.auth import User
from datafly_lite.errors import AdminError
from datafly_lite.management import integrations
from datafly_lite.ui import dry_run
from datafly_lite.ui.delivery_health import health_of
from datafly_lite.ui.dry_run_offer import OWN_EVENT, offer, sample_of
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.pipeline import find
from datafly_lite.ui.revisions import history, readable
from datafly_lite.ui.steps_form import Pressed, pressed, read
from datafly_lite.ui.steps_words import around
from datafly_lite.ui.vendor_form import (
    check,
    config_of,
    endpoint_field,
    field_labels,
    field_names,
    fields,
    form_of,
)
from datafly_lite.ui.visit import Visit
from datafly_lite.vendors import VENDORS, Vendor

ACTIONS: dict[str, dict[str, Any]] = {
    "pause": {"mode": "paused"},
    "resume": {"mode": "live"},
    "shadow": {"mode": "shadow"},
    "enable": {"enabled": True},
    "disable": {"enabled": False},
}
"""A button of the list -> what it changes."""


def _list_path(visit: Visit) -> str:
    return f"/pipelines/{visit.path('pipeline_id')}/integrations"


async def show_list(visit: Visit) -> Response:
    """What is attached, and what could be."""
    pipeline = await find(visit)
    attached = await integrations.list_attachments(visit.services, pipeline["id"])
    taken = {one["integration_id"] for one in attached}
    everyone = await integrations.list_integrations(visit.services)
    return visit.page(
        "integrations.html",
        pipeline=pipeline,
        attached=attached,
        health=await health_of(visit, [one["id"] for one in attached]),
        steps={one["id"]: readable(await _config(visit, one, one["revision_number"])) for one in attached},
        others=[one for one in everyone if one["id"] not in taken],
        vendors=list(VENDORS.values()),
        labels={vendor.name: vendor.label for vendor in VENDORS.values()},
    )


async def attach_existing(visit: Visit) -> Response:
    """Attach an integration that another pipeline may have too."""
    form = await visit.form()
    integration_id = form.word("integration_id")
    if not integration_id:
        return visit.go(_list_path(visit), "none-selected")
    await integrations.attach(visit.services, visit.path("pipeline_id"), {"integration_id": integration_id})
    return visit.go(_list_path(visit), "attached")


async def change(visit: Visit) -> Response:
    """One of ACTIONS, or the move to the newest revision."""
    pipeline_id, attachment_id = visit.path("pipeline_id"), visit.path("attachment_id")
    action = (await visit.form()).word("action")
    if action == "newest":
        changed = {"revision_id": await _newest_revision(visit)}
    elif action in ACTIONS:
        changed = ACTIONS[action]
    else:
        raise AdminError("VALIDATION_ERROR", "there is no such action")
    await integrations.update_attachment(visit.services, pipeline_id, attachment_id, changed)
    return visit.go(_list_path(visit), "saved")


async def _newest_revision(visit: Visit) -> str:
    attached = await _attachment(visit)
    integration = await integrations.get_integration(visit.services, attached["integration_id"])
    return str(integration["revision"]["id"])


async def _attachment(visit: Visit) -> dict[str, Any]:
    pipeline_id, attachment_id = visit.path("pipeline_id"), visit.path("attachment_id")
    for one in await integrations.list_attachments(visit.services, pipeline_id):
        if one["id"] == attachment_id:
            return one
    raise AdminError("NOT_FOUND", "there is no such integration on this pipeline")


async def confirm_detach(visit: Visit) -> Response:
    """Say what detaching does, and ask."""
    attached = await _attachment(visit)
    return visit.page(
        "confirm.html",
        heading="Detach the integration",
        text=f"{attached['integration_name']} gets no more events of this pipeline, and what still waits for "
        "it is not sent. The integration itself stays and can be attached again. To keep what waits, "
        "pause it instead.",
        action=f"{_list_path(visit)}/{attached['id']}/detach",
        button="Detach the integration",
        back=_list_path(visit),
    )


async def detach(visit: Visit) -> Response:
    """Detach it."""
    await integrations.detach(visit.services, visit.path("pipeline_id"), visit.path("attachment_id"))
    return visit.go(_list_path(visit), "detached")


# ── A new one ────────────────────────────────────────────────────────────────────────────────


def _vendor(name: str) -> Vendor:
    if name not in VENDORS:
        raise AdminError("NOT_FOUND", "there is no such vendor")
    return VENDORS[name]


async def show_new(visit: Visit) -> Response:
    """The form of the vendor that the query names."""
    vendor = _vendor(visit.query("vendor"))
    pipeline = await find(visit)
    form = form_of(vendor, {}, f"{vendor.label} of {pipeline['name']}"[:200])
    return await _form_page(visit, vendor, form, Problems())


async def create(visit: Visit) -> Response:
    """Make the integration and attach it."""
    form, problems = await visit.form(), Problems()
    vendor = _vendor(form.word("vendor"))
    if press := pressed(form, problems):
        return await _form_page(visit, vendor, form, problems, press=press)
    config = config_of(vendor, form, problems)
    check(visit.services.settings, vendor, config, form, problems)
    await _check_name(visit, form, problems)
    made = None
    if not problems:
        try:
            made = await _create(visit, visit.somebody, vendor, form, config)
        except AdminError as error:
            problems = problems_of(error, field_names(vendor))
    if made is None:
        return await _form_page(visit, vendor, form, problems, 422)
    await integrations.attach(visit.services, visit.path("pipeline_id"), {"integration_id": made["id"]})
    return visit.go(_list_path(visit), "attached")


async def _check_name(visit: Visit, form: Form, problems: Problems) -> None:
    """Here too, so that it is said together with all the rest."""
    name = form.word("name")
    if not name:
        problems.add("name", "must not be empty")
    elif name in {one["name"] for one in await integrations.list_integrations(visit.services)}:
        problems.add("name", "another integration has it")


async def _create(
    visit: Visit, user: User, vendor: Vendor, form: Form, config: dict[str, Any]
) -> dict[str, Any]:
    await find(visit)
    given = {"name": form.word("name"), "vendor": vendor.name, "config": config}
    return await integrations.create_integration(visit.services, given, user.id)


async def _form_page(
    visit: Visit,
    vendor: Vendor,
    form: Form,
    problems: Problems,
    status: int = 200,
    attached: dict[str, Any] | None = None,
    stored: dict[str, Any] | None = None,
    base_revision: int | None = None,
    press: Pressed | None = None,
) -> Response:
    shown = press or Pressed(read(form), "")
    return visit.page(
        "integration_form.html",
        status,
        pipeline=await find(visit),
        vendor=vendor,
        attached=attached,
        form=form,
        fields=fields(vendor, form, stored),
        endpoint=endpoint_field(form),
        problems=problems,
        labels=field_labels(vendor, form),
        base_revision=base_revision or (attached["revision_number"] if attached else None),
        offer=await offer(visit, visit.path("pipeline_id"), form),
        revisions=await _history(visit, attached) if attached else [],
        press=press,
        focus=shown.focus,
        step_note=shown.note,
        **around(shown.editor, problems),
    )


# ── A new revision ───────────────────────────────────────────────────────────────────────────


async def show_edit(visit: Visit) -> Response:
    """The form, filled by the revision that the pipeline uses."""
    attached = await _attachment(visit)
    vendor = _vendor(attached["vendor"])
    config = await _config(visit, attached, attached["revision_number"])
    return await _form_page(
        visit, vendor, form_of(vendor, config), Problems(), attached=attached, stored=config
    )


async def save(visit: Visit) -> Response:
    """A new revision, which this pipeline uses from now on; others keep theirs."""
    form, problems = await visit.form(), Problems()
    attached = await _attachment(visit)
    base = _base_revision(form, attached)
    vendor, stored = _vendor(attached["vendor"]), await _config(visit, attached, base)
    if press := pressed(form, problems):
        return await _form_page(visit, vendor, form, problems, 200, attached, stored, base, press)
    config = config_of(vendor, form, problems, stored)
    check(visit.services.settings, vendor, config, form, problems, stored)
    given = {"config": config, "change_summary": form.word("change_summary"), "base_revision": base}
    made = None
    if not problems:
        try:
            made = await integrations.create_revision(
                visit.services, attached["integration_id"], given, visit.somebody.id
            )
        except AdminError as error:
            problems = problems_of(error, field_names(vendor))
    if made is None:
        return await _form_page(visit, vendor, form, problems, 422, attached, stored, base)
    await integrations.update_attachment(
        visit.services, visit.path("pipeline_id"), attached["id"], {"revision_id": made["id"]}
    )
    return visit.go(_list_path(visit), "saved")


def _base_revision(form: Form, attached: dict[str, Any]) -> int:
    """The one that the form was filled by, whichever the pipeline uses meanwhile: its secrets are kept."""
    text = form.word("base_revision")
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if is_number else int(attached["revision_number"])


async def _revisions(visit: Visit, attached: dict[str, Any]) -> list[dict[str, Any]]:
    return await integrations.list_revisions(visit.services, attached["integration_id"])


async def _history(visit: Visit, attached: dict[str, Any]) -> list[dict[str, Any]]:
    return await anyio.to_thread.run_sync(history, await _revisions(visit, attached))


async def _config(visit: Visit, attached: dict[str, Any], number: int) -> dict[str, Any]:
    revision = await integrations.get_revision(visit.services, attached["integration_id"], number)
    config: dict[str, Any] = revision["config"]
    return config


# ── Before it is saved ───────────────────────────────────────────────────────────────────────

NEW = "new"
"""In the place of an attachment's id: the form of a new one."""


async def try_it(visit: Visit) -> Response:
    """What the form would do to events, if it were saved."""
    form, problems = await visit.form(), Problems()
    pipeline, target, stored = await find(visit), dict[str, Any](), dict[str, Any]()
    if visit.path("attachment_id") == NEW:
        vendor = _vendor(form.word("vendor"))
        target["vendor"], title = vendor.name, vendor.label
        against = "A new integration: there is nothing before it to compare it with."
    else:
        attached = await _attachment(visit)
        base = _base_revision(form, attached)
        vendor, stored = _vendor(attached["vendor"]), await _config(visit, attached, base)
        target = {"integration_id": attached["integration_id"], "base_revision": base}
        title = attached["integration_name"]
        against = f"Against revision {attached['revision_number']}, which the pipeline uses."
    config = config_of(vendor, form, problems, stored)
    check(visit.services.settings, vendor, config, form, problems, stored)
    fields = {"pipeline_id": pipeline["id"], "config": config, **target}
    return await dry_run.show(
        visit,
        {**fields, **sample_of(form, problems)},
        problems,
        names=[*field_names(vendor), OWN_EVENT],
        labels=field_labels(vendor, form),
        title=f"{title} on {pipeline['name']}",
        against=against,
        back=_list_path(visit),
        words=dry_run.OF_NEW if "vendor" in target else dry_run.OF_CHANGE,
    )

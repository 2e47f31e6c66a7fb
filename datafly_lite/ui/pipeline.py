"""One pipeline: how to send to it, its collector, its settings, its secret, its end."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from datafly_lite.collector.snippet import snippet
from datafly_lite.errors import AdminError
from datafly_lite.management import collector, pipelines
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.pipeline_fields import FIELDS, changed_fields, form_of
from datafly_lite.ui.visit import Visit
from datafly_lite.ui.ways_in import ways_in

COLLECTOR = "#collector"


async def find(visit: Visit) -> dict[str, Any]:
    """The pipeline of the path. Raises NOT_FOUND."""
    return await pipelines.get_pipeline(visit.services, visit.path("pipeline_id"))


async def show(visit: Visit) -> Response:
    """The key, what to paste into a page, a command to try it, the collector's build."""
    pipeline = await find(visit)
    build = await collector.build_status(visit.services, pipeline["id"])
    builder = pipeline["js_builder_config"]
    base_url = visit.services.settings.base_url
    return visit.page(
        "pipeline.html",
        pipeline=pipeline,
        build=build,
        snippet=snippet(
            base_url, pipeline["pipeline_key"], builder["script_filename"], builder["global_variable"]
        ),
        curl=curl(base_url, pipeline["pipeline_key"]),
        ways_in=ways_in(base_url, pipeline["pipeline_key"]),
        script_url=f"{base_url}/c/{pipeline['pipeline_key']}/{builder['script_filename']}",
    )


def curl(base_url: str, pipeline_key: str) -> str:
    """A command that sends one event (seed 000)."""
    event = {"type": "track", "event": "Test Event", "properties": {"source": "curl"}}
    return (
        f"curl -X POST {base_url}/v1/t \\\n"
        f'  -H "Authorization: Bearer {pipeline_key}" \\\n'
        f"  -d '{json.dumps(event)}'"
    )


async def build(visit: Visit) -> Response:
    """Start a build of the collector."""
    pipeline_id = visit.path("pipeline_id")
    await collector.start_build(visit.services, pipeline_id)
    return visit.go(f"/pipelines/{pipeline_id}{COLLECTOR}")


async def download(visit: Visit) -> Response:
    """The collector's script as a file."""
    filename, script = await collector.download(visit.services, visit.path("pipeline_id"))
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(script, headers=headers, media_type="text/javascript")


# ── Settings ─────────────────────────────────────────────────────────────────────────────────


async def show_settings(visit: Visit) -> Response:
    """The form, or for a viewer the same as text."""
    pipeline = await find(visit)
    return _settings_page(visit, pipeline, form_of(pipeline), Problems())


async def save_settings(visit: Visit) -> Response:
    """Change what somebody changed in the form."""
    pipeline, form, problems = await find(visit), await visit.form(), Problems()
    fields = changed_fields(form, pipeline, problems)
    if not problems:
        try:
            await pipelines.update_pipeline(visit.services, pipeline["id"], fields)
        except AdminError as error:
            problems = problems_of(error, FIELDS)
        else:
            return visit.go(f"/pipelines/{pipeline['id']}/settings", "saved")
    return _settings_page(visit, pipeline, form, problems, 422)


def _settings_page(
    visit: Visit, pipeline: dict[str, Any], form: Form, problems: Problems, status: int = 200
) -> Response:
    return visit.page("pipeline_settings.html", status, pipeline=pipeline, form=form, problems=problems)


# ── What cannot be taken back ────────────────────────────────────────────────────────────────


async def confirm_rotate(visit: Visit) -> Response:
    """Say what rotating does, and ask."""
    pipeline = await find(visit)
    return visit.page(
        "confirm.html",
        heading="Rotate the secret",
        text=f"The secret of {pipeline['name']} that begins with {pipeline['pipeline_key_secret_prefix']} "
        "ends at once: what servers sign with it is refused from then on. Browsers do not use it.",
        action=f"/pipelines/{pipeline['id']}/rotate",
        button="Rotate the secret",
        back=f"/pipelines/{pipeline['id']}/settings",
    )


async def rotate(visit: Visit) -> Response:
    """A new secret, in this answer and never again."""
    pipeline = await find(visit)
    made = {**pipeline, **await pipelines.rotate_secret(visit.services, pipeline["id"])}
    return visit.page("secret.html", heading="The secret is rotated", name=pipeline["name"], made=made)


async def confirm_delete(visit: Visit) -> Response:
    """Say what deleting does, and ask."""
    pipeline = await find(visit)
    return visit.page(
        "confirm.html",
        heading="Delete the pipeline",
        text=f"{pipeline['name']} stops taking events at once: its key is refused, and what still waits for "
        "its integrations is not sent. Events that were taken stay in the list.",
        action=f"/pipelines/{pipeline['id']}/delete",
        button="Delete the pipeline",
        back=f"/pipelines/{pipeline['id']}/settings",
    )


async def delete(visit: Visit) -> Response:
    """Delete it."""
    await pipelines.delete_pipeline(visit.services, visit.path("pipeline_id"))
    return visit.go("/pipelines", "deleted")

"""The list of pipelines, and making one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.management import pipelines
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.pipeline_fields import FIELDS, fields_of
from datafly_lite.ui.visit import Visit, with_query

PAGE_SIZE = 50
ENABLED = {"": None, "true": True, "false": False}
FILTERS = ("search", "type", "label", "enabled", "group")


async def show_list(visit: Visit) -> Response:
    """With search, filters, groups and pages; all of that is in the address."""
    filters = visit.filters(*FILTERS)
    number = _page_number(visit.query("page"))
    found = await pipelines.list_pipelines(
        visit.services,
        search=filters["search"],
        type=filters["type"] if filters["type"] in pipelines.TYPES else None,
        label=filters["label"] or None,
        enabled=ENABLED.get(filters["enabled"]),
        limit=PAGE_SIZE,
        offset=(number - 1) * PAGE_SIZE,
    )
    return visit.page(
        "pipelines.html",
        filters=filters,
        is_filtered=any(filters[name] for name in ("search", "type", "label", "enabled")),
        groups=grouped(found["pipelines"], filters["group"]),
        total=found["total"],
        labels=found["available_labels"],
        prefixes=prefixes_of(found["available_labels"]),
        types=pipelines.TYPES,
        number=number,
        page_size=PAGE_SIZE,
        previous=_page_link(filters, number - 1) if number > 1 else None,
        next=_page_link(filters, number + 1) if found["total"] > number * PAGE_SIZE else None,
    )


def prefixes_of(labels: Iterable[str]) -> list[str]:
    """`["env:test", "brand:a", "plain"]` -> `["brand", "env"]`: what can be grouped by (seed 001)."""
    return sorted({label.partition(":")[0] for label in labels if ":" in label})


def grouped(found: Sequence[Mapping[str, Any]], prefix: str) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """(heading, pipelines) of each value of the prefix; those without one at the end.

    A pipeline with two labels of the prefix stands in both groups. Without a prefix there is one group.
    """
    if not prefix:
        return [("", list(found))] if found else []
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for pipeline in found:
        values = [label[len(prefix) + 1 :] for label in pipeline["labels"] if label.startswith(f"{prefix}:")]
        for value in values or [""]:
            groups.setdefault(value, []).append(pipeline)
    ordered = sorted(groups.items(), key=lambda group: (not group[0], group[0]))
    return [(f"{prefix}: {value}" if value else f"Without {prefix}", members) for value, members in ordered]


def _page_number(text: str) -> int:
    return max(int(text), 1) if text.isascii() and text.isdecimal() and len(text) < 7 else 1


def _page_link(filters: Mapping[str, str], number: int) -> str:
    return with_query("/pipelines", {**filters, "page": str(number) if number > 1 else ""})


# ── Making one ───────────────────────────────────────────────────────────────────────────────


async def show_new(visit: Visit) -> Response:
    """The form, with what most want filled in."""
    return _new_page(visit, Form([("type", "web"), ("rate_limit_rps", "1000")]), Problems())


async def create(visit: Visit) -> Response:
    """Make it, and show its secret: in this answer and never again."""
    form, problems = await visit.form(), Problems()
    fields = {**fields_of(form, problems), "type": form.word("type") or "web", "enabled": True}
    if not problems:
        try:
            made = await pipelines.create_pipeline(visit.services, fields)
        except AdminError as error:
            problems = problems_of(error, FIELDS)
        else:
            return visit.page("secret.html", heading="The pipeline is made", name=made["name"], made=made)
    return _new_page(visit, form, problems, 422)


def _new_page(visit: Visit, form: Form, problems: Problems, status: int = 200) -> Response:
    return visit.page(
        "pipeline_new.html",
        status,
        form=form,
        problems=problems,
        types=(("web", "Web: pages, with the collector"), ("app", "App"), ("server", "Server")),
    )

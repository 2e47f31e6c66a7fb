"""What the twins received, as a page without scripts."""

from __future__ import annotations

from html import escape

from datafly_lite.twins.record import Received, Record

SHOWN_BODY_CHARACTERS = 4_000

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Vendor twins</title>
<h1>Vendor twins</h1>
<p>Local stand-ins for vendors. They answer as the real ones do, and say what these would find wrong.
The same as JSON: <a href="/received">/received</a>. Reload to see more.</p>
"""


def page(record: Record) -> str:
    """The requests, newest first."""
    if not record.received:
        return f"{HEAD}<p>Nothing has been received yet.</p>"
    rows = "".join(_row(one) for one in reversed(record.received))
    columns = "".join(
        f'<th scope="col">{name}</th>' for name in ("Time", "Twin", "Request", "Answer", "Verdict", "Body")
    )
    return f"{HEAD}<table border><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"


def _row(one: Received) -> str:
    verdict = "; ".join(one.problems) or "fine"
    cells = [one.at, one.twin, f"{one.method} {one.path}", str(one.status), verdict]
    shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    body = escape(one.body[:SHOWN_BODY_CHARACTERS])
    return f"<tr>{shown}<td><details><summary>show</summary><pre>{body}</pre></details></td></tr>"

"""A webhook receiver: checks JSON, and at /webhook/demo the Standard Webhooks signature."""

from __future__ import annotations

import binascii

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from datafly_lite.twins.record import BODY_LIMIT_BYTES

DEMO_WEBHOOK_SECRET = "whsec_ZGF0YWZseS1saXRlIGRlbW8gc2VjcmV0IQ=="  # noqa: S105 - public, and only for the twin
"""What /webhook/demo verifies with."""

SIGNED = "demo"


def receive(request: Request, body: bytes) -> tuple[list[str], Response]:
    """200, 400 for what is not JSON, 401 for a signature that does not hold, 413 for too much."""
    if len(body) > BODY_LIMIT_BYTES:
        return ["the body is too large"], _refusal(413, "too large")
    if request.path_params["name"] == SIGNED and (problem := _signature_problem(request, body)):
        return [problem], _refusal(401, problem)
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [f"not JSON: {error}"], _refusal(400, "not JSON")
    missing = [] if request.headers.get("webhook-id") else ["no webhook-id to tell repeats by"]
    return missing, JSONResponse({"received": True})


def _signature_problem(request: Request, body: bytes) -> str | None:
    try:
        Webhook(DEMO_WEBHOOK_SECRET).verify(body, dict(request.headers), json_parse=False)
    except WebhookVerificationError as error:
        return f"signature: {error}"
    except (ValueError, binascii.Error, UnicodeDecodeError):
        return "signature: not of the form v1,base64"
    return None


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)

"""The form of what answers say of ours: headers that tell where a request stands, and errors as the clients of each
address expect them."""

from __future__ import annotations

import json
import math
from typing import Any

from router.errors import Refusal
from router.store.ticket import Place


def place_headers(model: str, place: Place | Refusal) -> dict[str, str]:
    """The headers that tell a caller where it stands; what is not known is left out. Seconds are whole."""
    headers = {"X-Hearth-Model": model, "X-Hearth-Phase": place.phase}
    if place.position:
        headers["X-Hearth-Position"] = str(place.position)
    if place.expected_seconds is not None:
        headers["X-Hearth-Expected-Seconds"] = f"{place.expected_seconds:.0f}"
    if place.at_most_seconds is not None:
        headers["X-Hearth-At-Most-Seconds"] = str(math.ceil(place.at_most_seconds))
    return {name: value for name, value in headers.items() if value}


def waited_headers(seconds: float | None) -> dict[str, str]:
    """The header of an answer that had to wait; none for one that did not."""
    return {} if seconds is None else {"X-Hearth-Waited-Seconds": f"{seconds:.1f}"}


def refusal_headers(refusal: Refusal) -> dict[str, str]:
    """The headers that tell a refused caller where it stands. Retry-After: whole seconds, rounded up, at least 1."""
    headers = place_headers(refusal.model, refusal)
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after)))
    return headers


def error_body(error: dict[str, Any], path: str) -> bytes:
    """The body of an error answer on `path`."""
    return json.dumps({"type": "error", "error": error} if path.endswith("/messages") else {"error": error}).encode()


def in_openai_form(body: bytes, status: int, path: str) -> bytes:
    """An error body as it is, or, when it is the web framework's own ({"detail": ...}), in OpenAI's form."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return body
    if isinstance(detail, list):  # one entry for each wrong part
        detail = "; ".join(f"{'.'.join(map(str, entry.get('loc', ())))}: {entry.get('msg', '')}" for entry in detail)
    kind = "invalid_request_error" if status < 500 else "internal_server_error"
    return error_body({"message": str(detail), "type": kind, "param": None, "code": str(status)}, path)


def error_in_stream(body: bytes, path: str) -> bytes:
    """An error body of LiteLLM as the last events of a stream on `path`."""
    try:
        parsed = json.loads(body)
        error = parsed.get("error") or parsed.get("detail") or parsed
    except (ValueError, AttributeError):
        error = body.decode("utf-8", "replace")
    if not isinstance(error, dict):
        error = {"message": str(error), "type": "internal_server_error", "param": None, "code": "500"}
    if path.endswith("/messages"):
        detail = {"type": error.get("type") or "api_error", "message": error.get("message", "")}
        return _event({"type": "error", "error": detail}, "error")
    if path.endswith("/responses"):
        detail = {key: error.get(key) for key in ("code", "message", "param")}
        return _event({"type": "error", "sequence_number": 0, **detail}, "error")
    return _event({"error": error}) + b"data: [DONE]\n\n"


def _event(data: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()

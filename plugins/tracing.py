"""OpenTelemetry traces: LiteLLM's own, with the wait for a model as a span in them. Off unless a collector is named.

LiteLLM makes the spans of the request, the key check and the engine's answer; plugins/trace_export.py sends them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from plugins.request_scope import RequestScope

log = logging.getLogger(__name__)

#: Where a collector is.
COLLECTOR = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: What LiteLLM calls the exporter of plugins/trace_export.py.
EXPORTER = "hearth"
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.instrumentation.fastapi")


def prepare(environment: MutableMapping[str, str]) -> bool:
    """Have LiteLLM trace if a collector is named. Must be called before its import. Returns whether it will."""
    named = next((name for name in COLLECTOR if environment.get(name)), None)
    if named is None:
        return False
    if not all(_installed(module) for module in _NEEDED):
        log.warning("there are no traces, although %s is set: install OpenTelemetry with hearth[otel]", named)
        return False
    environment["LITELLM_OTEL_V2"] = "true"
    environment["OTEL_EXPORTER"] = EXPORTER
    environment.setdefault("OTEL_SERVICE_NAME", "hearth")
    return True


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def trace_wait(scope: RequestScope, outcome: str) -> None:
    """Add the wait of a request that waited to the trace that it is in, afterwards. outcome: "granted", or a refusal's
    type."""
    ticket = scope.ticket
    if ticket is None or ticket.waited is None or not trace.get_current_span().is_recording():
        return
    now = time.time_ns()
    span = trace.get_tracer("hearth").start_span(
        "hearth.wait",
        start_time=now - int(ticket.waited * 1e9),
        attributes={
            "hearth.request_id": scope.id,
            "hearth.model": ticket.model,
            "hearth.position": ticket.joined_at,
            "hearth.wait_seconds": round(ticket.waited, 3),
            "hearth.outcome": outcome,
        },
    )
    if outcome != "granted":
        span.set_status(trace.Status(trace.StatusCode.ERROR, outcome))
    span.end(now)

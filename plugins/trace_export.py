"""Traces on their way to a collector, without what could be a part of a request.

LiteLLM leaves prompts out, but not the words of errors, which quote them, the tools, and what a client calls its users.
Here only what is known to be harmless goes on; the types of errors do, their words and stack traces do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from litellm.integrations.otel.plumbing.providers import register_exporter_factory
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from plugins.tracing import EXPORTER

_HARMLESS = re.compile(
    r"""
    hearth\. .*
    | error\.(type|code) | exception\.type
    | http\.(method|route|scheme|flavor|status_code|request\.method|response\.status_code)
    | (net|network|server)\. .* | url\.scheme
    | gen_ai\.(system|operation\.name|provider\.name|usage\. .*)
    | gen_ai\.request\.(model|max_tokens|stream)
    | gen_ai\.response\.(model|id|finish_reasons|time_to_first_chunk)
    | litellm\.(call_id|call_type|api_key\.hash|cost\. .*|provider\.model|request\.(route|streaming|tools\.declared))
    | litellm\.provider\.error\.(code|llm_provider)
    | litellm\.metadata\.user_api_key_(alias|user_id|team_id|team_alias|hash)
    | db\.(system\.name|operation\.name|collection\.name)
    """,
    re.VERBOSE,
)


class DiscreetExporter(SpanExporter):
    """Hands spans on with only their harmless attributes."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_discreet(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def install() -> None:
    """Make the exporter known to LiteLLM. It reads where the collector is from OpenTelemetry's own variables."""
    register_exporter_factory(EXPORTER, lambda _: DiscreetExporter(OTLPSpanExporter()))


def _discreet(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_harmless(span.attributes),
        events=[Event(each.name, _harmless(each.attributes), each.timestamp) for each in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _harmless(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if _HARMLESS.fullmatch(name)}

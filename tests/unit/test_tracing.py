"""Traces: when there are any, and what of a span goes to the collector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from plugins import tracing
from plugins.trace_export import DiscreetExporter
from plugins.tracing import EXPORTER, prepare, trace_wait
from router.store.ticket import Ticket

SECRET = "what the user said"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def tracer(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> trace.Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(DiscreetExporter(kept)))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return provider.get_tracer("test")


def test_without_a_collector_nothing_changes() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "PATH": "/bin"}
    assert prepare(environment) is False
    assert environment == {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "PATH": "/bin"}


@pytest.mark.parametrize("name", tracing.COLLECTOR)
def test_a_collector_switches_traces_on(name: str) -> None:
    environment = {name: "http://127.0.0.1:4318"}
    assert prepare(environment) is True
    assert environment["LITELLM_OTEL_V2"] == "true"
    assert environment["OTEL_EXPORTER"] == EXPORTER
    assert environment["OTEL_SERVICE_NAME"] == "hearth"
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" not in environment


def missing(module: str) -> Callable[[str], object]:
    def find(name: str) -> object:
        if name.startswith(module):
            raise ModuleNotFoundError(name)
        return object()

    return find


@pytest.mark.parametrize("module", tracing._NEEDED)
def test_a_missing_library_is_said_and_changes_nothing(
    module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "find_spec", missing(module))
    environment = dict(ENDPOINT)
    with caplog.at_level(logging.WARNING):
        assert prepare(environment) is False
    assert environment == ENDPOINT
    assert "hearth[otel]" in caplog.text


def test_only_what_is_harmless_goes_to_the_collector(kept: Kept, tracer: trace.Tracer) -> None:
    harmless = {
        "gen_ai.request.model": "m",
        "error.type": "ValueError",
        "litellm.metadata.user_api_key_alias": "ada",
    }
    with tracer.start_as_current_span("chat m") as span:
        span.set_attributes(harmless)
        for name in (
            "error.message",
            "gen_ai.tool.0.name",
            "gen_ai.input.messages",
            "gen_ai.prompt.0.content",
            "llm.request.functions.0.description",
            "litellm.metadata.user_api_key_end_user_id",
            "litellm.metadata.anything",
            "litellm.provider.error.stack_trace",
            "http.url",
            "http.target",
            "url.query",
            "hearthless",
        ):
            span.set_attribute(name, SECRET)
        span.record_exception(ValueError(SECRET))
        span.set_status(trace.StatusCode.ERROR, SECRET)
    (sent,) = kept.spans
    assert SECRET not in sent.to_json()
    assert dict(sent.attributes or {}) == harmless
    assert sent.status.status_code is trace.StatusCode.ERROR
    (event,) = sent.events
    assert dict(event.attributes or {}) == {"exception.type": "ValueError"}
    assert sent.context == span.get_span_context()


def scope(ticket: Ticket | None) -> Any:
    return SimpleNamespace(id="r1", ticket=ticket)


async def waited(seconds: float) -> Ticket:
    ticket = Ticket("m")
    ticket.joined, ticket.started, ticket.joined_at = 100.0, 100.0 + seconds, 3
    return ticket


async def test_a_wait_is_a_span_as_long_as_it_was(kept: Kept, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("POST") as parent:
        trace_wait(scope(await waited(2.5)), "granted")
    wait, _ = kept.spans
    assert wait.parent == parent.get_span_context()
    assert (wait.end_time or 0) - (wait.start_time or 0) == 2_500_000_000
    assert dict(wait.attributes or {}) == {
        "hearth.request_id": "r1",
        "hearth.model": "m",
        "hearth.position": 3,
        "hearth.wait_seconds": 2.5,
        "hearth.outcome": "granted",
    }
    assert wait.status.status_code is trace.StatusCode.UNSET


async def test_a_wait_that_was_refused_is_an_error(kept: Kept, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("POST"):
        trace_wait(scope(await waited(1)), "model_failed")
    assert kept.spans[0].status.status_code is trace.StatusCode.ERROR
    assert (kept.spans[0].attributes or {})["hearth.outcome"] == "model_failed"


async def test_who_did_not_wait_or_is_not_traced_has_no_span(kept: Kept, tracer: trace.Tracer) -> None:
    trace_wait(scope(await waited(1)), "granted")
    with tracer.start_as_current_span("POST"):
        trace_wait(scope(Ticket("m")), "granted")
        trace_wait(scope(None), "granted")
    assert [span.name for span in kept.spans] == ["POST"]

"""What a gateway talks to in a test of its traces and logs: a collector of traces, and an engine that quotes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from threaded_server import ThreadedServer


class _Answering(ThreadedServer):
    """Answers each POST with the status and the JSON that `answer` gives for its path and body."""

    def __init__(self, answer: Callable[[str, bytes], tuple[int, bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status, document = answer(self.path, body)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        self.listen(Handler)


class Collector(_Answering):
    """Receives traces as OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(self._take)
        self._spans: list[Span] = []
        self.bodies: list[bytes] = []

    def _take(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/v1/traces"
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self._spans.extend(scope.spans)
        return 200, b""

    def trace_with(self, name: str, **attributes: str) -> dict[str, Span]:
        """The spans, by name, of the trace in which a span of that name has these attributes; empty without one."""
        for span in list(self._spans):
            if span.name == name and attributes.items() <= values(span).items():
                return {each.name: each for each in list(self._spans) if each.trace_id == span.trace_id}
        return {}


def values(span: Span) -> dict[str, Any]:
    """A span's attributes."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in span.attributes}


class QuotingEngine(_Answering):
    """Answers each request with an error that has the whole request in it. status: the next answers' status."""

    def __init__(self) -> None:
        super().__init__(self._quote)
        self.status = 400

    def _quote(self, _: str, body: bytes) -> tuple[int, bytes]:
        said = f"I do not like {body.decode('utf-8', 'replace')}"
        error = {"message": said, "type": "BadRequestError", "param": said, "code": self.status}
        return self.status, json.dumps({"error": error}).encode()

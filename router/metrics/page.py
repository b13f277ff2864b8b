"""The text that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST

# When each series was made: it would double their number, and Prometheus sees a restart without it.
disable_created_metrics()  # type: ignore[no-untyped-call]


def render(*collectors: Collector) -> str:
    """All that these collect, as text of the type CONTENT_TYPE."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()

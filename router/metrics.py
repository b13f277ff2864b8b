"""Prometheus metrics of the fleet, made from one snapshot at scrape time: nothing is counted twice or kept here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router.api.views import gpu_views
from router.config import Config
from router.store.state import FleetState, Phase

CONTENT_TYPE = CONTENT_TYPE_LATEST


class _Fleet(Collector):
    def __init__(self, state: FleetState, config: Config, free: Mapping[str, int | None]) -> None:
        self._state = state
        self._config = config
        self._free = free

    def collect(self) -> Iterator[Metric]:
        state = self._state
        phase = GaugeMetricFamily(
            "hearth_model_phase", "1 for the phase that a model is in.", labels=["model", "phase"]
        )
        in_flight = GaugeMetricFamily("hearth_leases", "Requests in flight.", labels=["model"])
        waiting = GaugeMetricFamily("hearth_waiting_requests", "Requests in line.", labels=["model"])
        failures = GaugeMetricFamily("hearth_model_failures", "Failed starts in a row.", labels=["model"])
        load = GaugeMetricFamily("hearth_model_load_seconds", "Learned time of a load.", labels=["model"])
        oldest = GaugeMetricFamily("hearth_oldest_wait_seconds", "How long the oldest request in line has waited.")
        for name, model in state.models.items():
            for candidate in Phase:
                phase.add_metric([name, candidate], float(model.phase is candidate))
            in_flight.add_metric([name], model.in_flight)
            waiting.add_metric([name], sum(request.model == name for request in state.line))
            failures.add_metric([name], model.failures)
            if model.load_seconds is not None:
                load.add_metric([name], model.load_seconds)
        oldest.add_metric([], max((state.now - request.joined for request in state.line), default=0.0))
        yield from (phase, in_flight, waiting, failures, load, oldest)
        yield from self._memory()

    def _memory(self) -> Iterator[Metric]:
        room = GaugeMetricFamily("hearth_gpu_room_bytes", "Memory that models may claim.", labels=["gpu"])
        claimed = GaugeMetricFamily("hearth_gpu_claimed_bytes", "Memory that models claim now.", labels=["gpu"])
        free = GaugeMetricFamily("hearth_gpu_free_bytes", "Memory that is free by measurement.", labels=["gpu"])
        used = GaugeMetricFamily("hearth_model_memory_bytes", "Learned memory of a model, per GPU.", labels=["model"])
        for gpu in gpu_views(self._config, self._state, self._free):
            room.add_metric([gpu.name], gpu.room)
            claimed.add_metric([gpu.name], gpu.claimed)
            if gpu.free is not None:
                free.add_metric([gpu.name], gpu.free)
        for name, model in self._state.models.items():
            if model.measured_memory is not None:
                used.add_metric([name], model.measured_memory)
        yield from (room, claimed, free, used)


def render(state: FleetState, config: Config, free: Mapping[str, int | None]) -> str:
    """The text that Prometheus reads. free: measured bytes by GPU, None or missing where nothing is measured."""
    registry = CollectorRegistry()
    registry.register(_Fleet(state, config, free))
    return generate_latest(registry).decode()

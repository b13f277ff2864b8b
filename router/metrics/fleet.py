"""The fleet as it is now: gauges made from one snapshot at scrape time, so nothing is kept here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router.api.views import gpu_views
from router.config import Config
from router.store.state import FleetState, Phase


class Fleet(Collector):
    """free: measured bytes by GPU, None or missing where nothing is measured. expected: seconds until each model would
    answer a request made now, None where nobody knows. trouble: what keeps the router from acting; None while it does
    not act, and so has not asked."""

    def __init__(
        self,
        config: Config,
        state: FleetState,
        free: Mapping[str, int | None],
        expected: Mapping[str, float | None],
        trouble: str | None,
        version: str,
    ) -> None:
        self._config = config
        self._state = state
        self._free = free
        self._expected = expected
        self._trouble = trouble
        self._version = version

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("hearth_build", "The running version.", value={"version": self._version})
        yield GaugeMetricFamily(
            "hearth_router_acting", "1 while this router acts, 0 while it stands by.", float(self._trouble is not None)
        )
        if self._trouble is not None:
            up = GaugeMetricFamily("hearth_runtime_up", "1 while engines can be started and stopped.")
            up.add_metric([], float(not self._trouble))
            yield up
        yield from self._phases()
        yield from self._line()
        yield from self._learned()
        yield from self._gpus()

    def _phases(self) -> Iterator[Metric]:
        phase = GaugeMetricFamily(
            "hearth_model_phase", "1 for the phase that a model is in.", labels=["model", "phase"]
        )
        since = GaugeMetricFamily(
            "hearth_model_phase_start_timestamp_seconds", "When that phase began, unix time.", labels=["model"]
        )
        pinned = GaugeMetricFamily("hearth_model_pinned", "1 for one that idleness does not stop.", labels=["model"])
        failures = GaugeMetricFamily("hearth_model_failures", "Failures in a row.", labels=["model"])
        for name, model in self._state.models.items():
            for candidate in Phase:
                phase.add_metric([name, candidate], float(model.phase is candidate))
            if model.since:
                since.add_metric([name], model.since)
            pinned.add_metric([name], float(model.pinned))
            failures.add_metric([name], model.failures)
        yield from (phase, since, pinned, failures)

    def _line(self) -> Iterator[Metric]:
        leases = GaugeMetricFamily("hearth_leases", "Requests in flight.", labels=["model"])
        waiting = GaugeMetricFamily("hearth_waiting_requests", "Requests in line.", labels=["model"])
        oldest = GaugeMetricFamily(
            "hearth_oldest_wait_seconds", "How long the oldest request in line has waited, 0 without one.",
            labels=["model"],
        )  # fmt: skip
        expected = GaugeMetricFamily(
            "hearth_expected_wait_seconds", "What a request made now is told to expect.", labels=["model"]
        )
        lengths = Counter(request.model for request in self._state.line)
        first = {request.model: request.joined for request in reversed(self._state.line)}
        for name, model in self._state.models.items():
            leases.add_metric([name], model.in_flight)
            waiting.add_metric([name], lengths[name])
            oldest.add_metric([name], max(0.0, self._state.now - first.get(name, self._state.now)))
            if (seconds := self._expected.get(name)) is not None:
                expected.add_metric([name], seconds)
        yield from (leases, waiting, oldest, expected)

    def _learned(self) -> Iterator[Metric]:
        load = GaugeMetricFamily("hearth_model_load_seconds", "Learned time of a load.", labels=["model"])
        used = GaugeMetricFamily("hearth_model_memory_bytes", "Learned memory of a model, per GPU.", labels=["model"])
        declared = GaugeMetricFamily(
            "hearth_model_declared_memory_bytes", "What a model claims of each of its GPUs.", labels=["model"]
        )
        for name, model in self._state.models.items():
            if model.load_seconds is not None:
                load.add_metric([name], model.load_seconds)
            if model.measured_memory is not None:
                used.add_metric([name], model.measured_memory)
            declared.add_metric([name], self._config.models[name].memory)
        yield from (load, used, declared)

    def _gpus(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily("hearth_gpu_memory_bytes", "All of a GPU's memory.", labels=["gpu"])
        room = GaugeMetricFamily("hearth_gpu_room_bytes", "Memory that models may claim.", labels=["gpu"])
        claimed = GaugeMetricFamily("hearth_gpu_claimed_bytes", "Memory that models claim now.", labels=["gpu"])
        free = GaugeMetricFamily("hearth_gpu_free_bytes", "Memory that is free by measurement.", labels=["gpu"])
        for gpu in gpu_views(self._config, self._state, self._free):
            memory.add_metric([gpu.name], gpu.memory)
            room.add_metric([gpu.name], gpu.room)
            claimed.add_metric([gpu.name], gpu.claimed)
            if gpu.free is not None:
                free.add_metric([gpu.name], gpu.free)
        yield from (memory, room, claimed, free)

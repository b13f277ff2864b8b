"""What has happened since this router began: counters and histograms, made of the streams that the store keeps anyway.

Nothing on a request's way counts for Prometheus. Whoever scrapes any router, acting or not, sees the same happenings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from router.scheduling.reasons import Why, for_whom, why
from router.store.fleet import FleetStore
from router.store.state import EndedRequest, Phase

_WAIT = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_WAKE = (1, 5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 900)
_STOP = (0.5, 1, 2, 5, 10, 20, 30, 60, 120)
_SERVICE = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)

#: Events that are read from Redis at a time.
_PAGE = 1000

#: Reasons for which a request is turned away at once: `count_refusal` in the store's scripts.
REFUSALS = ("failed", "unavailable", "no_wait", "line_full")


class History(Collector):
    """since: unix seconds. `catch_up` reads what is new; only these models are counted."""

    def __init__(self, store: FleetStore, models: Collection[str], since: float) -> None:
        self._store = store
        self._models = list(models)
        self._event = self._request = f"{int(since * 1000)}-0"
        self._reading = asyncio.Lock()
        self._refusals: Mapping[tuple[str, str], int] = {}
        self._starting: dict[str, float] = {}
        self._stopping: dict[str, float] = {}
        self._room_made: set[str] = set()
        self._registry = CollectorRegistry()
        self._make_metrics()

    def _make_metrics(self) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=self._registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, meaning, ["model"], registry=self._registry, buckets=buckets)

        self._requests = counter("hearth_requests_total", "Requests that are over.", "model", "outcome")
        self._wait = histogram("hearth_wait_seconds", "Time in line of requests that got their lease.", _WAIT)
        self._service = histogram("hearth_service_seconds", "From lease to end of completed requests.", _SERVICE)
        self._wakes = counter("hearth_wakes_total", "Starts of engines that are over.", "model", "outcome")
        self._wake = histogram("hearth_wake_seconds", "From the order to start until ready.", _WAKE)
        self._stops = counter("hearth_stops_total", "Stops of engines that were ordered.", "model", "reason")
        self._stop = histogram("hearth_stop_seconds", "From the order to stop until its memory is back.", _STOP)
        self._swaps = counter("hearth_swaps_total", "Starts that other models had to make room for.", "model")
        self._deaths = counter("hearth_engine_deaths_total", "Ready engines that ended by themselves.", "model")
        self._findings = counter("hearth_memory_findings_total", "Surprises with memory.", "model", "finding")
        self._workers = counter("hearth_gateway_workers_lost_total", "Gateway workers that vanished or said goodbye.")
        self._takeovers = counter("hearth_router_takeovers_total", "Times that a router began to act.")
        for name in self._models:  # what rarely happens is there before, so that its first time is an increase
            self._wait.labels(name)
            self._wake.labels(name)
            self._swaps.labels(name)
            self._deaths.labels(name)
            self._requests.labels(name, "completed")
            for outcome in ("ready", "failed"):
                self._wakes.labels(name, outcome)
            self._stops.labels(name, Why.SWAP)
            self._findings.labels(name, "late")

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()
        refusals = CounterMetricFamily(
            "hearth_refusals", "Requests that were turned away at once.", labels=["model", "reason"]
        )
        for name in self._models:
            for reason in REFUSALS:
                refusals.add_metric([name, reason], self._refusals.get((name, reason), 0))
        yield refusals

    async def catch_up(self) -> None:
        """Read what has happened since the last time. Raises StoreUnavailable."""
        async with self._reading:
            self._refusals = await self._store.refusals()
            while events := await self._store.events(self._event, count=_PAGE):
                for event in events:
                    self._event = event["id"]
                    self._count(event)
            while requests := await self._store.ended_requests(self._request):
                for self._request, request in requests:
                    self._count_request(request)

    def _count_request(self, request: EndedRequest) -> None:
        if request.model not in self._models:
            return
        self._requests.labels(request.model, request.outcome).inc()
        if request.granted is not None:
            self._wait.labels(request.model).observe(max(0.0, request.granted - request.joined))
            if request.completed:
                self._service.labels(request.model).observe(max(0.0, request.ended - request.granted))

    def _count(self, event: Mapping[str, str]) -> None:
        kind, model = event["event"], event["model"]
        if kind == "worker-gone":
            self._workers.inc()
        elif kind == "router-acting":
            self._takeovers.inc()
        elif model in self._models:
            if kind.startswith("memory-"):
                self._findings.labels(model, kind.removeprefix("memory-")).inc()
            else:
                self._count_move(kind, model, event, int(event["at"]) / 1000)

    def _count_move(self, kind: str, model: str, event: Mapping[str, str], at: float) -> None:
        """A phase has changed. Starts and stops are timed from their order; what was ordered before is not timed."""
        match kind:
            case "starting":
                self._starting[model] = at
                if model in self._room_made:
                    self._room_made.discard(model)
                    self._swaps.labels(model).inc()
            case "ready":
                self._end_of_wake(model, "ready", at)
            case "draining" | "stopping":
                reason = event.get("detail", "")
                if whom := for_whom(reason, self._models):
                    self._room_made.add(whom)
                if kind == "stopping":
                    self._stops.labels(model, why(reason)).inc()
                    self._stopping[model] = at
                    self._end_of_wake(model, "broken_off", at)
            case "failed" | "died":
                if not self._end_of_wake(model, "failed", at):
                    self._deaths.labels(model).inc()
                if event.get("phase") == Phase.STOPPING:
                    self._stopping[model] = at
            case "stopped":
                if (began := self._stopping.pop(model, None)) is not None:
                    self._stop.labels(model).observe(max(0.0, at - began))

    def _end_of_wake(self, model: str, outcome: str, at: float) -> bool:
        """Whether there was one."""
        began = self._starting.pop(model, None)
        if began is None:
            return False
        self._wakes.labels(model, outcome).inc()
        if outcome == "ready":
            self._wake.labels(model).observe(max(0.0, at - began))
        return True

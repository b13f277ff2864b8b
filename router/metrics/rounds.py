"""What the scheduler of this process has decided, and how long that took it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
#: The scheduler's actions, as labels: few, and known before the first happens.
ACTIONS = {
    "Grant": "grant",
    "Start": "start",
    "Stop": "stop",
    "CloseGate": "close_gate",
    "OpenGate": "open_gate",
    "Refuse": "refuse",
}


class Rounds:
    """Counts for the controller."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "hearth_scheduler_decision_seconds",
            "How long one decision of the scheduler took.",
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self._actions = Counter(
            "hearth_scheduler_actions_total",
            "Actions that the scheduler decided on and this router carried out.",
            ["action"],
            registry=self.registry,
        )
        for label in ACTIONS.values():
            self._actions.labels(label)

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Times the decision that is made inside."""
        began = time.perf_counter()
        yield
        self._seconds.observe(time.perf_counter() - began)

    def carried_out(self, action: object) -> None:
        """One of the scheduler's actions was carried out."""
        self._actions.labels(ACTIONS[type(action).__name__]).inc()

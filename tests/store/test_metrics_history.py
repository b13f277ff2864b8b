"""What Prometheus is told has happened, of a router that acts, through the real store."""

from __future__ import annotations

import pytest
from eventually import eventually
from fake_runtime import Engine
from prometheus_client.parser import text_string_to_metric_families
from stage import Stage

from router.errors import CallerLimit, ClientGone, ModelFailed
from router.metrics.history import History
from router.metrics.page import render
from router.store.fleet import FleetStore
from router.store.state import Phase


class Counted:
    """The counters, read again with each question."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def all(self) -> dict[str, dict[tuple[str, ...], float]]:
        await self._history.catch_up()
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(render(self._history)):
            for sample in family.samples:
                if sample.value and "le" not in sample.labels:
                    found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    async def until(self, name: str, expected: dict[tuple[str, ...], float]) -> None:
        async def there() -> bool:
            return (await self.all()).get(name) == expected

        await eventually(there, f"{name} is {expected}")


@pytest.fixture
async def counted(fleet_store: FleetStore) -> Counted:
    now = await fleet_store.now_ms()
    return Counted(History(fleet_store, ["a", "b", "small"], now / 1000))


async def test_a_swap_with_a_wait(stage: Stage, counted: Counted) -> None:
    router = await stage.router()
    first = await stage.ask("a").granted()
    first.ticket.completed = True
    first.end()
    second = await stage.ask("b").granted()
    second.end()
    await counted.until("hearth_requests_total", {("a", "completed"): 1, ("b", "cut_short"): 1})
    found = await counted.all()
    assert found["hearth_wakes_total"] == {("a", "ready"): 1, ("b", "ready"): 1}
    assert found["hearth_wake_seconds_count"] == {("a",): 1, ("b",): 1}
    assert found["hearth_swaps_total"] == {("b",): 1}
    assert found["hearth_stops_total"] == {("a", "swap"): 1}
    assert found["hearth_stop_seconds_count"] == {("a",): 1}
    assert found["hearth_wait_seconds_count"] == {("a",): 1, ("b",): 1}
    assert found["hearth_service_seconds_count"] == {("a",): 1}
    assert found["hearth_router_takeovers_total"] == {(): 1}
    actions = render(router.controller.rounds.registry)
    for expected in ('action="grant"} 2.0', 'action="start"} 2.0', 'action="stop"} 1.0'):
        assert f"hearth_scheduler_actions_total{{{expected}" in actions


async def test_every_way_out_of_the_line_has_its_own_outcome(
    stage: Stage, counted: Counted, fleet_store: FleetStore
) -> None:
    stage.machine.engines["a"] = Engine(ready=False)
    await stage.router()
    leaves, cancelled, short = stage.ask("a"), stage.ask("a"), stage.ask("a", limit=0.05)
    with pytest.raises(CallerLimit):
        await short.granted()
    short.end()
    await stage.in_line(2)
    await fleet_store.cancel(cancelled.ticket.id, ["a"], None)
    stage.gateway.abandon(leaves.ticket)
    with pytest.raises(ClientGone):
        await leaves.granted()
    leaves.end()
    await stage.in_line(0)
    fails = stage.ask("a")
    await stage.in_line(1)
    await eventually(lambda: stage.machine.engines["a"].running)
    stage.machine.end("a", 3)
    with pytest.raises(ModelFailed):
        await fails.granted()
    await stage.until("a", Phase.FAILED)
    await counted.until(
        "hearth_requests_total",
        {("a", "timed_out"): 1, ("a", "left"): 1, ("a", "cancelled"): 1, ("a", "failed"): 1},
    )
    found = await counted.all()
    assert found["hearth_wakes_total"] == {("a", "failed"): 1}
    assert "hearth_wait_seconds_count" not in found


async def test_requests_that_are_turned_away_are_counted_by_reason(stage: Stage, counted: Counted) -> None:
    stage.machine.engines["a"] = Engine(exit_at_start=1)
    await stage.router()
    for _ in range(2):
        call = stage.ask("b", limit=0)
        with pytest.raises(CallerLimit):
            await call.granted()
        call.end()
    for _ in range(2):  # the second one finds it cooling
        call = stage.ask("a")
        with pytest.raises(ModelFailed):
            await call.granted()
        call.end()
    await counted.until("hearth_refusals_total", {("b", "no_wait"): 2, ("a", "failed"): 1})

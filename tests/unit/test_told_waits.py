"""What a waiting caller is told at most is kept: random models, loads, arrivals, failures and cancellations."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from test_wait_bound import Placed, WarmWorld, box, clients, faults, fleets, policies, sessions, wishes

from router.scheduling.forecast import outlook
from router.scheduling.policy import Policy
from router.scheduling.warm import Strength
from router.settings import Role
from router.simulator.ours import Hearth
from router.simulator.workload import Session, SimulatedModel, Step
from router.simulator.world import Faults, Request

pytestmark = [pytest.mark.unit, pytest.mark.timeout(120)]


class Told(WarmWorld):
    """A world in which every request is told, when it joins the line, how long it waits at most."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.told: dict[str, float] = {}
        self.late: list[tuple[str, float, float]] = []

    def _settle(self) -> None:
        # of those that join at the same instant the name decides, so what the last of them changes is told to all
        if fresh := [waiting for waiting, request in self.line.values() if request.joined == self.clock.now]:
            found = outlook(self.snapshot())
            for waiting in fresh:
                limit = found.waiting_at_most[waiting.model]
                assert 0 <= (found.expected[waiting.model] or 0) <= limit <= found.at_most[waiting.model]
                self.told[waiting.id] = self.clock.now + limit
        super()._settle()

    def _grant(self, request: Request) -> None:
        if self.clock.now > self.told.get(request.id, float("inf")) + 1e-6:
            self.late.append((request.id, self.clock.now, self.told[request.id]))
        super()._grant(request)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(fleets, clients, policies, faults, wishes)
def test_nobody_waits_longer_than_told(
    fleet: list[Placed],
    found: list[tuple[float, int, int, int, float]],
    policy: Policy,
    wrong: Faults,
    wished: list[tuple[float, float, int, Strength]],
) -> None:
    world = Told(box(fleet, wrong.slow), sessions(found, len(fleet)), Hearth(policy=policy), faults=wrong)
    world.wished = wished
    world.run()
    assert world.late == []


def test_what_is_told_is_not_far_off_where_nothing_can_come_between() -> None:
    """Alone on the box: at most the load."""
    one = SimulatedModel("", 60.0, 5.0, 1.0, 1.0)
    world = Told(box([(one, ("0",), Role.NORMAL)]), [Session("c", 0.0, (Step("m0", 0, 5),))], Hearth(), faults=Faults())
    world.run()
    assert world.told == {"r1": pytest.approx(60.0)}

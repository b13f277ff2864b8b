"""Small fleets for tests: specs, snapshots and configurations with short times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from router.config import Config, ModelSpec
from router.scheduler import STRICT, Policy, Snapshot, Warm, Wish
from router.settings import GpuSettings, LifecycleSettings, Role, Scheduling
from router.store.state import FleetState, ModelState, Phase, Waiting

ROOM = {"0": 10}


def spec(name: str, memory: int = 6, role: Role = Role.NORMAL, **fields: Any) -> ModelSpec:
    """A model of `memory` units on GPU 0."""
    values: dict[str, Any] = {
        "api_base": f"http://{name}.invalid/v1",
        "health_url": f"http://{name}.invalid/health",
        "container": name,
        "command": None,
        "environment": {},
        "gpus": ("0",),
        "idle_timeout": 100.0,
        "start_timeout": 60.0,
        "stop_timeout": 5.0,
        "drain_timeout": 50.0,
    }
    return ModelSpec(name=name, memory=memory, role=role, **(values | fields))


def snapshot(
    *models: tuple[ModelSpec, ModelState], line: tuple[tuple[str, str, float], ...] = (), now: float = 1000.0,
    room: dict[str, int] | None = None, policy: Policy = STRICT, warm: dict[str, Wish] | None = None,
) -> Snapshot:  # fmt: skip
    """line: id, model and the time of joining of each waiting request, in any order."""
    waiting = sorted((Waiting(id=each, model=model, joined=joined) for each, model, joined in line),
                     key=lambda request: request.joined)  # fmt: skip
    states = {found.name: state for found, state in models}
    return Snapshot({found.name: found for found, _ in models}, room or ROOM, FleetState(now, states, tuple(waiting)),
                    policy, warm=Warm(warm or {}))  # fmt: skip


def fit_together(specs: Iterable[ModelSpec], room: Mapping[str, int]) -> bool:
    """Whether all of these may run at once: the rule as it is documented, not as the scheduler decides it."""
    found = list(specs)
    for gpu, units in room.items():
        here = [each for each in found if gpu in each.gpus]
        if sum(each.memory for each in here) > units:
            return False
        if len(here) > 1 and any(each.role is Role.EXCLUSIVE for each in here):
            return False
    return True


def config(*specs: ModelSpec, room: int = 10, **settings: Any) -> Config:
    """One GPU with `room` units, the given models, and global settings; models take turns strictly by age."""
    gpus = {"0": GpuSettings(memory=room, reserve=0)}
    settings.setdefault("scheduling", Scheduling(patience=0, minimum_service=0, hold_share=0))
    return Config(settings=LifecycleSettings(gpus=gpus, **settings), models={each.name: each for each in specs})


ASLEEP = ModelState()
#: Asleep, with a load of which it is known that it takes long.
SLEEPING_LONG = ModelState(load_seconds=60.0, unload_seconds=5.0, service_seconds=5.0)


def ready(in_flight: int = 0, last_used: float = 990.0, **fields: Any) -> ModelState:
    return ModelState(phase=Phase.READY, since=900.0, in_flight=in_flight, last_used=last_used, **fields)


def in_phase(phase: Phase, since: float = 900.0, **fields: Any) -> ModelState:
    return ModelState(phase=phase, since=since, **fields)

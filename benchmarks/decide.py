"""What a decision of the scheduler costs with much to decide on: 50 models, 8 GPUs and 10,000 waiting requests.

And what a simulated day of some 10,000 requests takes, which is a few ten thousand decisions.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable

from benchmarks.outcome import Outcome, Row, options
from router.config import ModelSpec
from router.scheduler import Policy, Snapshot, decide, outlook
from router.settings import Role
from router.simulator.fleet import SimulatedModel, one_gpu
from router.simulator.lengths import BUILT_IN
from router.simulator.ours import Hearth
from router.simulator.outcome import simulate
from router.simulator.workload import agent_sessions
from router.store.state import CallerState, FleetState, ModelState, Phase, Waiting

_NOW = 100_000.0
_GPUS = 8
_ROOM = 100
_REPEATS = 40


def crowd(models: int, waiting: int, seed: int = 1) -> Snapshot:
    """Eight busy GPUs, and requests for everything."""
    chance = random.Random(seed)
    specs = {f"m{number}": _spec(f"m{number}", str(number % _GPUS)) for number in range(models)}
    states = {
        name: ModelState(
            phase=Phase.READY if number < _GPUS else Phase.ASLEEP,
            since=_NOW - 500,
            ready_at=_NOW - 500,
            in_flight=3 if number < _GPUS else 0,
            last_used=_NOW - 1,
            load_seconds=chance.uniform(30, 300),
            unload_seconds=5.0,
            service_seconds=5.0,
            callers={f"c{each}": CallerState(_NOW - chance.uniform(0, 10)) for each in range(20)},
        )
        for number, name in enumerate(specs)
    }
    line = sorted(
        (
            Waiting(
                str(each), f"m{chance.randrange(models)}", _NOW - chance.uniform(0, 400), f"c{chance.randrange(50)}"
            )
            for each in range(waiting)
        ),
        key=lambda request: request.joined,
    )
    room = {str(gpu): _ROOM for gpu in range(_GPUS)}
    return Snapshot(specs, room, FleetState(_NOW, states, tuple(line)), Policy())


def _spec(name: str, gpu: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        api_base="http://model.invalid/v1",
        health_url="http://model.invalid/health",
        container=name,
        command=None,
        environment={},
        gpus=(gpu,),
        memory=60,
        role=Role.NORMAL,
        idle_timeout=0.0,
        start_timeout=600.0,
        stop_timeout=30.0,
        drain_timeout=600.0,
    )


def _milliseconds(work: Callable[[], object]) -> list[float]:
    """Of processor time: others use this machine too."""
    found: list[float] = []
    for _ in range(_REPEATS):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1000)
    return found


def main() -> int:
    given = options("decide", __doc__).parse_args()
    full, half, small = crowd(50, 10_000), crowd(50, 5_000), crowd(50, 100)
    samples = {
        "decide, 10,000 waiting": _milliseconds(lambda: decide(full)),
        "decide, 5,000 waiting": _milliseconds(lambda: decide(half)),
        "decide, 100 waiting": _milliseconds(lambda: decide(small)),
        "what callers are told, 10,000 waiting": _milliseconds(lambda: outlook(full)),
    }
    models = [SimulatedModel(name, seconds) for name, seconds in (("a", 60.0), ("b", 110.0), ("c", 280.0), ("d", 90.0))]
    sessions = agent_sessions(models, BUILT_IN, per_hour=14, hours=24, seed=1)
    began = time.perf_counter()
    outcome = simulate(one_gpu(models), sessions, Hearth()).outcome
    day = time.perf_counter() - began
    medians = {name: statistics.median(found) for name, found in samples.items()}
    first, *others = medians.items()
    rows = [Row.at_most(f"{first[0]}, p50", first[1], 5, "ms")]
    rows += [Row(f"{name}, p50", f"{value:.2f} ms") for name, value in others]
    rows.append(Row.at_most(f"a simulated day of {outcome.requests} requests", day, 10, "s"))
    return Outcome("decide", rows, samples).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())

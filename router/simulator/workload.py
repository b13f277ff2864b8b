"""What the simulated clients do: made once from a seed, and then the same for every policy."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.simulator.fleet import SimulatedModel
from router.simulator.lengths import Lengths

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Step:
    """One request: its model, its length in tokens, and the client's pause (s) before it.

    seconds: how long it runs, when that is known and not to be computed; it then queues for nobody in the engine.
    patience: its client leaves when it has waited for so long (s)."""

    model: str
    context: int
    generated: int
    pause: float = 0.0
    seconds: float | None = None
    patience: float | None = None

    def service_seconds(self, model: SimulatedModel) -> float:
        """How long it takes when it does not queue."""
        return model.service_seconds(self.context, self.generated) if self.seconds is None else self.seconds


@dataclass(frozen=True, slots=True)
class Session:
    """One client that sends its steps one after the other, the first at `start` (s)."""

    caller: str
    start: float
    steps: tuple[Step, ...]

    def alone_seconds(self, models: Mapping[str, SimulatedModel]) -> float:
        """How long it takes when every model is loaded and nobody else is there."""
        return sum(
            (step.pause if index else 0.0) + step.service_seconds(models[step.model])
            for index, step in enumerate(self.steps)
        )


def agent_sessions(
    models: Sequence[SimulatedModel],
    lengths: Lengths,
    *,
    per_hour: float,
    hours: float,
    seed: int,
    steps: float = 30.0,
    think: float = 4.0,
    callers: int = 0,
) -> list[Session]:
    """Agent sessions that begin at random; their numbers of steps and their pauses are exponential with these means.
    callers: how many keys share them; 0 is a key for each session."""
    chance = random.Random(seed)
    shares = [model.share for model in models]
    sessions: list[Session] = []
    time = chance.expovariate(per_hour / HOUR)
    while time < hours * HOUR:
        name = chance.choices(models, shares)[0].name
        count = max(1, round(chance.expovariate(1 / steps)))
        session = [Step(name, *chance.choice(lengths), _pause(chance, think)) for _ in range(count)]
        caller = f"caller-{chance.randrange(callers) if callers else len(sessions)}"
        sessions.append(Session(caller, time, tuple(session)))
        time += chance.expovariate(per_hour / HOUR)
    return sessions


def open_arrivals(
    models: Sequence[SimulatedModel], lengths: Lengths, *, per_minute: float, hours: float, seed: int, run: float = 1.0
) -> list[Session]:
    """Single requests that arrive at random. run: mean number in a row that ask for the same model."""
    chance = random.Random(seed)
    shares = [model.share for model in models]
    found: list[Session] = []
    time = chance.expovariate(per_minute / 60)
    name = chance.choices(models, shares)[0].name
    while time < hours * HOUR:
        found.append(Session(f"caller-{len(found)}", time, (Step(name, *chance.choice(lengths)),)))
        time += chance.expovariate(per_minute / 60)
        if chance.random() < 1 / run:
            name = chance.choices(models, shares)[0].name
    return found


def alternating_clients(
    models: Sequence[SimulatedModel], lengths: Lengths, *, clients: int, rounds: int, seed: int, think: float = 4.0
) -> list[Session]:
    """Programs that call one model after the other in turn, each starting with another one."""
    chance = random.Random(seed)
    found: list[Session] = []
    for client in range(clients):
        names = [models[(client + index) % len(models)].name for index in range(rounds * len(models))]
        steps = [Step(name, *chance.choice(lengths), _pause(chance, think)) for name in names]
        found.append(Session(f"caller-{client}", chance.uniform(0, 60), tuple(steps)))
    return found


def _pause(chance: random.Random, mean: float) -> float:
    return chance.expovariate(1 / mean) if mean > 0 else 0.0

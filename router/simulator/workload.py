"""What the simulated clients do: made once from a seed, and then the same for every policy."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """One model: seconds to load and unload, tokens per second of each request, requests side by side, its share of
    the work, and its memory as a part of the GPU's (which is 1)."""

    name: str
    load_seconds: float
    unload_seconds: float = 5.0
    prefill_tps: float = 2000.0
    decode_tps: float = 40.0
    concurrency: int = 8
    share: float = 1.0
    memory: float = 1.0

    def service_seconds(self, context: int, generated: int) -> float:
        """How long one request takes when it does not queue."""
        return context / self.prefill_tps + generated / self.decode_tps


@dataclass(frozen=True, slots=True)
class Step:
    """One request: its model, its length in tokens, and the client's pause (s) before it."""

    model: str
    context: int
    generated: int
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Session:
    """One client that sends its steps one after the other, the first at `start` (s)."""

    caller: str
    start: float
    steps: tuple[Step, ...]

    def alone_seconds(self, models: dict[str, SimulatedModel]) -> float:
        """How long it takes when every model is loaded and nobody else is there."""
        return sum(
            (step.pause if index else 0.0) + models[step.model].service_seconds(step.context, step.generated)
            for index, step in enumerate(self.steps)
        )


Lengths = Sequence[tuple[int, int]]


def read_trace(path: Path) -> list[tuple[int, int]]:
    """Context and generated tokens of each request of a trace. Raises KeyError and ValueError when it is not one."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]


def made_up_lengths(seed: int, count: int = 5000) -> list[tuple[int, int]]:
    """Lengths for when there is no trace: log-normal, about 1,100 tokens in and 200 out."""
    chance = random.Random(seed)
    return [
        (1 + int(min(chance.lognormvariate(6.4, 1.1), 14_000)), 1 + int(min(chance.lognormvariate(4.9, 0.9), 1_000)))
        for _ in range(count)
    ]


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
        session = [Step(name, *chance.choice(lengths), chance.expovariate(1 / think)) for _ in range(count)]
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
        steps = [Step(name, *chance.choice(lengths), chance.expovariate(1 / think)) for name in names]
        found.append(Session(f"caller-{client}", chance.uniform(0, 60), tuple(steps)))
    return found

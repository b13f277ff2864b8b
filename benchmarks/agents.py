"""Agents that pause between their steps, on models that do not fit together: the swaps, and how long all of it takes.

Two agents, one on each of two models; then three overlapping ones that keep one model busy and one on the other. The
engines are simulators, so that a load and a request take what they are told; everything before them is real.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import httpx

from benchmarks.outcome import Outcome, Row, options
from benchmarks.processes import free_port
from benchmarks.stack import Stack, chat_body, configuration, model_entry, simulator

#: A request is so many tokens, so that its seconds are the engine's to keep.
_TOKENS = 10
_ANSWER_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Agent:
    """One program: `steps` requests for a model, each after a pause (s). It begins after `start` seconds."""

    model: str
    steps: int
    pause: float
    start: float = 0.0


@dataclass(slots=True)
class Ran:
    """What became of an agent: seconds from its start to its last answer, and how long each request took."""

    seconds: float = 0.0
    requests: list[float] = field(default_factory=list)


async def _run(client: httpx.AsyncClient, agent: Agent) -> Ran:
    await asyncio.sleep(agent.start)
    ran, began = Ran(), time.monotonic()
    for number in range(agent.steps):
        if number:
            await asyncio.sleep(agent.pause)
        asked = time.monotonic()
        body = chat_body(agent.model, max_tokens=_TOKENS, ignore_eos=True)
        (await client.post("/v1/chat/completions", json=body)).raise_for_status()
        ran.requests.append(time.monotonic() - asked)
    ran.seconds = time.monotonic() - began
    return ran


@dataclass(frozen=True, slots=True)
class Scene:
    """What happened: seconds until all were done, the loads, what callers of each model were told at most, and runs."""

    seconds: float
    loads: int
    at_most: dict[str, float]
    runs: list[Ran]


async def _play(agents: Sequence[Agent], load: float, request: float, lessons: int) -> Scene:
    """lessons: loads of each model before, so that what they take is known."""
    names = sorted({agent.model for agent in agents})
    ports = {name: free_port() for name in names}
    speed = ("--tokens-per-second", f"{_TOKENS / request:.3f}", "--answer-tokens", str(_TOKENS))
    entries = [
        model_entry(name, port, memory="60GiB", command=simulator(name, port, load, *speed))
        for name, port in ports.items()
    ]
    async with Stack.running_meanwhile(configuration(entries, "process")) as stack:
        for name in names * lessons:
            await asyncio.to_thread(stack.chat, name)
            await asyncio.to_thread(stack.act, name, "sleep")
            await asyncio.to_thread(stack.until_asleep, name)
        before = len(stack.starts())
        began = time.monotonic()
        async with httpx.AsyncClient(
            base_url=stack.url, headers=stack.headers, timeout=_ANSWER_LIMIT, trust_env=False
        ) as client:
            runs = await asyncio.gather(*(_run(client, agent) for agent in agents))
        seconds = time.monotonic() - began
        models = stack.api.get("/lifecycle/models").json()["models"]
        told = {model["name"]: model["at_most_seconds"] for model in models}
        return Scene(seconds, len(stack.starts()) - before, told, list(runs))


def main() -> int:
    parser = options("agents", __doc__)
    parser.add_argument("--load", type=float, default=5.0, help="seconds of a load")
    parser.add_argument("--request", type=float, default=1.0, help="seconds of a request")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    load, request, steps = given.load, given.request, given.steps
    two = asyncio.run(_play([Agent("a", steps, request), Agent("b", steps, request)], load, request, 0))
    taught = asyncio.run(_play([Agent("a", steps, request), Agent("b", steps, request)], load, request, 1))
    # three agents, each a third of the steps later, keep A busy for three times the steps' seconds
    busy = [Agent("a", steps, request / 2, start=number * steps / 2 * request) for number in range(3)]
    work_of_a = busy[-1].start + steps * request + (steps - 1) * request / 2
    late = Agent("b", steps // 2, request, start=2 * request)
    work_of_b = late.steps * request + (late.steps - 1) * late.pause
    four = asyncio.run(_play([*busy, late], load, request, 1))
    alone = 2 * (steps * request + (steps - 1) * request + load)
    whole = work_of_a + work_of_b + 2 * load
    rows = [
        Row(f"two agents of {steps} steps, one after the other", f"{alone:.0f} s, 2 loads"),
        Row.at_most("two agents, nothing learned", two.seconds, alone * 105 / 88, "s"),
        Row.no_more("two agents, nothing learned: loads", two.loads, 6),
        Row.at_most("two agents, loads learned", taught.seconds, alone * 105 / 88, "s"),
        Row.no_more("two agents, loads learned: loads", taught.loads, 6),
        Row.at_most("three on A and one on B: all done", four.seconds, 1.3 * whole, "s"),
        Row.at_most("three on A and one on B: B's longest wait", max(four.runs[-1].requests), four.at_most["b"], "s"),
        Row("three on A and one on B: loads", str(four.loads)),
    ]
    raw = {"two": asdict(two), "taught": asdict(taught), "four": asdict(four), "load": load, "request": request}
    return Outcome("agents", rows, raw).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())

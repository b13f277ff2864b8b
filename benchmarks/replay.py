"""Whether the simulator tells what really happens: agent sessions on real llama-servers in containers, then the same in
the simulator, with the lengths of requests that were measured and the costs that the router has learned.

Four models that do not fit together, with the loads of the comparison in docs/scheduling.md scaled down to 1 to 5 s,
and the policy's times with them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.containers import Engine, llama_servers
from benchmarks.outcome import Outcome, Row, options
from benchmarks.stack import Stack, chat_body, configuration
from router.config import load
from router.simulator.fleet import Learned, configured
from router.simulator.ours import Hearth
from router.simulator.outcome import simulate
from router.simulator.workload import Session, SimulatedModel, agent_sessions

#: Seconds of the whole comparison for each second here.
_SCALE = 60.0
_LOADS = (60.0, 110.0, 280.0, 90.0)
_SHARES = (0.45, 0.25, 0.1, 0.2)
#: What a container takes from its start to its first healthy answer without any delay.
_OWN_START = 0.4
_TOKENS = (100, 600)
_ANSWER_LIMIT = 300.0


def _document(engines: Sequence[Engine]) -> dict[str, Any]:
    document = configuration([engine.entry("60GiB") for engine in engines], "docker")
    document["general_settings"]["lifecycle"]["scheduling"] = {
        "patience": 2500 / _SCALE,
        "minimum_service": 60 / _SCALE,
        "planned_residency": 120 / _SCALE,
    }
    return document


def _workload(engines: Sequence[Engine], minutes: float, seed: int) -> list[Session]:
    models = [
        SimulatedModel(engine.model, load_seconds / _SCALE, share=share)
        for engine, load_seconds, share in zip(engines, _LOADS, _SHARES, strict=True)
    ]
    lengths = [(20, tokens) for tokens in range(*_TOKENS, 20)]
    return agent_sessions(models, lengths, per_hour=360, hours=minutes / 60, seed=seed, steps=12, think=0.5)


@dataclass(frozen=True, slots=True)
class Played:
    """sessions: with the seconds that each request really took once it had its model. took: of each session (s).
    waits: of each request (s)."""

    sessions: list[Session]
    took: list[float]
    waits: list[float]

    def stretch(self, models: Mapping[str, SimulatedModel]) -> float:
        """As the simulator counts it."""
        return sum(self.took) / sum(session.alone_seconds(models) for session in self.sessions)


async def _play(stack: Stack, sessions: Sequence[Session]) -> Played:
    """All sessions, as they come."""
    played = Played([], [], [])
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=stack.url, headers=stack.headers, timeout=_ANSWER_LIMIT, limits=limits, trust_env=False
    ) as client:

        async def one(session: Session) -> None:
            await asyncio.sleep(session.start)
            began, steps = time.monotonic(), []
            for index, step in enumerate(session.steps):
                if index:
                    await asyncio.sleep(step.pause)
                asked = time.monotonic()
                body = chat_body(step.model, max_tokens=step.generated, ignore_eos=True)
                answer = await client.post("/v1/chat/completions", json=body)
                answer.raise_for_status()
                waited = float(answer.headers.get("X-Hearth-Waited-Seconds", 0))
                steps.append(replace(step, seconds=max(time.monotonic() - asked - waited, 0.0)))
                played.waits.append(waited)
            played.took.append(time.monotonic() - began)
            # all of them have the same key, so the router takes them for one caller
            played.sessions.append(Session("one", session.start, tuple(steps)))

        async with asyncio.TaskGroup() as group:
            for session in sessions:
                group.create_task(one(session))
    return played


def main() -> int:
    parser = options("replay", __doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="for how long sessions begin")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with llama_servers([load_seconds / _SCALE - _OWN_START for load_seconds in _LOADS]) as (_, engines):
        document = _document(engines)
        with Stack.running(document) as stack:
            for engine in engines:  # so that every load is known
                stack.chat(engine.model)
            stack.act(engines[-1].model, "sleep")
            stack.until_all_asleep()
            known = len(stack.starts())
            live = asyncio.run(_play(stack, _workload(engines, given.minutes, given.seed)))
            models = stack.api.get("/lifecycle/models").json()["models"]
            starts = stack.starts()[known:]  # Docker itself remembers its last 256 events only
    learned = {model["name"]: Learned(model["load_seconds"], model["unload_seconds"]) for model in models}
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "models.yaml"
        config.write_text(yaml.safe_dump(document))
        fleet = configured(load(config), learned, [])
    simulated = simulate(fleet, live.sessions, Hearth(policy=fleet.policy)).outcome
    stretch = live.stretch(fleet.models)
    swaps_off = abs(simulated.swaps / len(starts) - 1)
    stretch_off = abs((simulated.session_stretch or 0.0) / stretch - 1)
    rows = [
        Row("sessions, requests", f"{len(live.sessions)}, {len(live.waits)}"),
        Row("swaps: live, simulated", f"{len(starts)}, {simulated.swaps}"),
        Row("session stretch: live, simulated", f"{stretch:.2f}, {simulated.session_stretch:.2f}"),
        Row("longest wait: live, simulated", f"{max(live.waits):.1f} s, {simulated.wait_max_s:.1f} s"),
        Row.at_most("swaps, off by", swaps_off * 100, 15, "%"),
        Row.at_most("session stretch, off by", stretch_off * 100, 15, "%"),
    ]
    raw = {
        "waits": live.waits,
        "starts": starts,
        "learned": {name: [each.load_seconds, each.unload_seconds] for name, each in learned.items()},
    }
    return Outcome("replay", rows, raw).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())

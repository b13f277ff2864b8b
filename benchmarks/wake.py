"""How long a request waits after its engine is ready: from the engine's first healthy answer to the request's arrival.

The simulator tells both times itself. For llama-server an independent prober asks for its health every 2 ms, from the
moment that Docker has answered its start, and a relay in front of it notes when the request passes. Some loads are
repeated with a router that probes once a second.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx

from benchmarks.containers import DockerCalls, Engine, llama_servers
from benchmarks.outcome import Outcome, Row, options
from benchmarks.processes import free_port
from benchmarks.relay import Relay
from benchmarks.samples import spread
from benchmarks.stack import Stack, configuration, model_entry, simulator

#: A wake: milliseconds from healthy to arrival, and the seconds from the request to the first healthy answer.
Wake = tuple[float, float]
#: How to wake a model, by its name.
Wakes = dict[str, Callable[[], Awaitable[Wake]]]

_LOADS = (0.3, 2.5)
_DELAYS = (0.0, 0.4, 0.8, 1.2, 1.6, 2.0)


async def _measure(stack: Stack, wakes: Wakes, order: Sequence[str], slow: int) -> dict[str, list[Wake]]:
    """Wake the models of `order` one after the other; the first `slow` of them also at one probe a second."""
    found: dict[str, list[Wake]] = {"own": [], "once a second": []}
    for number, model in enumerate(order):
        for pace, number_of_signal in (("once a second", signal.SIGUSR1), ("own", signal.SIGUSR2)):
            if pace == "own" or number < slow:
                stack.router.signal(number_of_signal)
                found[pace].append(await wakes[model]())
                await asyncio.to_thread(stack.act, model, "sleep")
                await asyncio.to_thread(stack.until_asleep, model)
    return found


def _simulators(count: int, slow: int) -> dict[str, list[Wake]]:
    step = (_LOADS[1] - _LOADS[0]) / max(1, count - 1)
    loads = {f"sim-{number}": _LOADS[0] + step * number for number in range(count)}
    ports = {name: free_port() for name in loads}
    entries = [
        model_entry(name, ports[name], command=simulator(name, ports[name], load), memory="40GiB")
        for name, load in loads.items()
    ]

    def wake_of(stack: Stack, name: str) -> Callable[[], Awaitable[Wake]]:
        async def wake() -> Wake:
            began = time.time()
            await asyncio.to_thread(stack.chat, name)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[name]}", trust_env=False) as client:
                ready = (await client.get("/_simulator/state")).json()["ready_at"]
                arrived = (await client.get("/_simulator/requests")).json()["requests"][0]["arrived"]
            return (arrived - ready) * 1000, ready - began

        return wake

    with Stack.running(configuration(entries, "process"), router="benchmarks.paced_router") as stack:
        return asyncio.run(_warmed(stack, {name: wake_of(stack, name) for name in loads}, _mixed(list(loads)), slow))


async def _containers(engines: list[Engine], count: int, slow: int) -> dict[str, list[Wake]]:
    relays = {engine.model: Relay(engine.port) for engine in engines}
    document = configuration([engine.entry("40GiB") for engine in engines], "docker")
    async with (
        DockerCalls.watched() as calls,
        Stack.running_meanwhile(document, router="benchmarks.paced_router", environment=calls.environment) as stack,
    ):

        def wake_of(engine: Engine) -> Callable[[], Awaitable[Wake]]:
            async def wake() -> Wake:
                began = time.time()
                probing = asyncio.create_task(calls.healthy(engine, since=began))
                await asyncio.to_thread(stack.chat, engine.model)
                healthy = await probing
                return (relays[engine.model].last("POST").began - healthy) * 1000, healthy - began

            return wake

        for engine in engines:
            await relays[engine.model].serve_port(engine.front)
        try:
            order = [engines[number % len(engines)].model for number in range(count)]
            return await _warmed(stack, {engine.model: wake_of(engine) for engine in engines}, order, slow)
        finally:
            for relay in relays.values():
                await relay.close()


async def _warmed(stack: Stack, wakes: Wakes, order: Sequence[str], slow: int) -> dict[str, list[Wake]]:
    """Measure after two wakes that do not count: the gateway loads parts of itself with the first requests."""
    await _measure(stack, wakes, [order[0]] * 2, 0)
    return await _measure(stack, wakes, order, slow)


def _mixed(names: Sequence[str]) -> list[str]:
    """Short and long loads in turn, so that the first few have both."""
    third = (len(names) + 2) // 3
    return [name for start in range(third) for name in names[start::third]]


def _rows(engine: str, found: dict[str, list[Wake]]) -> list[Row]:
    waits = spread([wait for wait, _ in found["own"]])
    loads = [load for _, load in found["own"]]
    rows = [
        Row.at_most(f"{engine}: p50 of {waits['count']} wakes", waits["p50"], 60, "ms"),
        Row.at_most(f"{engine}: p99", waits["p99"], 150, "ms", f" (greatest {waits['greatest']:.0f} ms)"),
        Row(f"{engine}: loads", f"{min(loads):.1f} to {max(loads):.1f} s"),
    ]
    if found["once a second"]:
        slow = spread([wait for wait, _ in found["once a second"]])
        text = f"p50 {slow['p50']:.0f} ms, greatest {slow['greatest']:.0f} ms"
        rows.append(Row(f"{engine}: {slow['count']} of these loads at one probe a second", text))
    return rows


def main() -> int:
    parser = options("wake", __doc__)
    parser.add_argument("--wakes", type=int, default=30, help="of each engine")
    parser.add_argument("--slow", type=int, default=8, help="how many of them also at one probe a second")
    given = parser.parse_args()
    with llama_servers(_DELAYS, relayed=True) as (_, engines):
        found = {"llama-server in Docker": asyncio.run(_containers(engines, given.wakes, given.slow))}
    found["simulator"] = _simulators(given.wakes, given.slow)
    rows = [row for engine, wakes in found.items() for row in _rows(engine, wakes)]
    return Outcome("wake", rows, {"wakes": found}).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())

"""How much a swap takes beyond Docker's own stop and start: two llama-servers that do not fit together, in turn.

A relay between the router and Docker notes when the stop and the start were asked for and answered; an independent
prober notes when the new engine was healthy. The rest of the time from the request to its answer is Hearth's,
LiteLLM's and the engine's own answer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.containers import DockerCalls, Engine, llama_servers
from benchmarks.outcome import Outcome, Row, options
from benchmarks.samples import percentile, spread
from benchmarks.stack import Stack, configuration

#: The gateway loads parts of itself with the first requests.
_UNCOUNTED = 2


@dataclass(frozen=True, slots=True)
class Swap:
    """One swap, in milliseconds: all of it, Docker's stop, and from Docker's start to the first healthy answer."""

    total: float
    stop: float
    start: float

    @property
    def rest(self) -> float:
        return self.total - self.stop - self.start


async def _swap(stack: Stack, calls: DockerCalls, there: Engine, gone: Engine) -> Swap:
    began = time.time()
    probing = asyncio.create_task(calls.healthy(there, since=began))
    await asyncio.to_thread(stack.chat, there.model)
    total = time.time() - began
    healthy = await probing
    stop, start = calls.last(gone, "stop"), calls.last(there, "start")
    if not began < stop.began < stop.answered < start.began < healthy:
        raise RuntimeError(f"not the order of a swap: {began}, {stop}, {start}, {healthy}")
    return Swap(total * 1000, (stop.answered - stop.began) * 1000, (healthy - start.began) * 1000)


async def _measure(engines: list[Engine], count: int) -> list[Swap]:
    document = configuration([engine.entry("60GiB") for engine in engines], "docker")
    async with (
        DockerCalls.watched() as calls,
        Stack.running_meanwhile(document, environment=calls.environment) as stack,
    ):
        await asyncio.to_thread(stack.chat, engines[0].model)
        pairs = [(engines[(number + 1) % 2], engines[number % 2]) for number in range(count + _UNCOUNTED)]
        return [await _swap(stack, calls, *pair) for pair in pairs][_UNCOUNTED:]


def main() -> int:
    parser = options("swap", __doc__)
    parser.add_argument("--swaps", type=int, default=20)
    given = parser.parse_args()
    with llama_servers((0.0, 0.0)) as (docker, engines):
        swaps = asyncio.run(_measure(engines, given.swaps))
        starts = len(docker.starts())
    rest = spread([swap.rest for swap in swaps])
    rows = [
        Row.at_most(f"beyond stop and start, p50 of {len(swaps)} swaps", rest["p50"], 150, "ms"),
        Row.at_most("beyond stop and start, greatest", rest["greatest"], 150, "ms"),
        Row("Docker's stop, p50", f"{percentile([swap.stop for swap in swaps], 0.5):.0f} ms"),
        Row("Docker's start to healthy, p50", f"{percentile([swap.start for swap in swaps], 0.5):.0f} ms"),
        Row("request to answer, p50", f"{percentile([swap.total for swap in swaps], 0.5):.0f} ms"),
        Row.exactly("container starts", starts, given.swaps + _UNCOUNTED + 1),
    ]
    return Outcome("swap", rows, {"swaps": [asdict(swap) for swap in swaps]}).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())

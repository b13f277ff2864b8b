"""Many callers at once on one sleeping model: one start of its container, an answer for each of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

import httpx

from benchmarks.containers import llama_servers
from benchmarks.outcome import Outcome, Row, options
from benchmarks.samples import percentile
from benchmarks.stack import Stack, chat_body, configuration

_ANSWER_LIMIT = 120.0


async def _stampede(stack: Stack, model: str, callers: int) -> list[tuple[int, float]]:
    """The status of each answer, and its seconds since all were sent."""
    began = time.monotonic()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=stack.url, headers=stack.headers, timeout=_ANSWER_LIMIT, limits=limits, trust_env=False
    ) as client:

        async def call() -> tuple[int, float]:
            answer = await client.post("/v1/chat/completions", json=chat_body(model))
            return answer.status_code, time.monotonic() - began

        return await asyncio.gather(*(call() for _ in range(callers)))


def main() -> int:
    parser = options("stampede", __doc__)
    parser.add_argument("--callers", type=int, default=200)
    given = parser.parse_args()
    with llama_servers((0.0, 0.0)) as (docker, engines):
        cold, other = engines
        with Stack.running(configuration([engine.entry("40GiB") for engine in engines], "docker")) as stack:
            stack.chat(other.model)  # the gateway loads parts of itself with the first request
            answers = asyncio.run(_stampede(stack, cold.model, given.callers))
            starts = docker.starts().count(cold.container)
    statuses = Counter(status for status, _ in answers)
    seconds = [took for _, took in answers]
    rows = [
        Row.exactly(f"answers to {given.callers} callers", statuses[200], given.callers),
        Row.exactly("container starts", starts, 1),
        Row("first and last answer", f"{min(seconds):.2f} and {max(seconds):.2f} s after the calls"),
        Row("p50 of the answers", f"{percentile(seconds, 0.5):.2f} s"),
    ]
    return Outcome("stampede", rows, {"statuses": dict(statuses), "seconds": seconds}).publish(given.out)


if __name__ == "__main__":
    sys.exit(main())

"""What the lifecycle costs a request to a model that is ready: LiteLLM with it against the same LiteLLM without it.

Both gateways run at once on one core of their own, the client and everything else on the other ones; short slices of
load go to the one and the other in turn, so that what else the machine does meets both.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import yaml

from benchmarks.load import Connection, in_flight
from benchmarks.outcome import Outcome, Row, options
from benchmarks.processes import Child, free_port, split_cores, until
from benchmarks.samples import interval, percentile
from benchmarks.stack import Stack, chat_body, clean_environment, configuration, model_entry

_CONCURRENCY = (1, 20)
_WARM_UP_SECONDS = 4.0


@dataclass(frozen=True)
class Slice:
    """A short time of load on one gateway. p50: ms; cpu: milliseconds of processor time per request."""

    requests: int
    seconds: float
    p50: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Pair:
    """Neighbouring slices of load on both."""

    ours: Slice
    plain: Slice


async def _slice(port: int, process: Child, concurrency: int, seconds: float) -> Slice:
    connections = [Connection(port, chat_body("stub")) for _ in range(concurrency)]
    try:
        before = process.cpu_seconds
        latencies, took = await in_flight(connections, seconds)
        cpu = (process.cpu_seconds - before) * 1000 / len(latencies)
    finally:
        for connection in connections:
            await connection.close()
    return Slice(len(latencies), took, percentile(latencies, 0.5) * 1000, cpu)


async def _measure(stack: Stack, plain: Child, plain_port: int, pairs: int, seconds: float) -> dict[int, list[Pair]]:
    sides = {"ours": (stack.port, stack.gateway), "plain": (plain_port, plain)}
    for port, process in sides.values():
        for concurrency in _CONCURRENCY:
            await _slice(port, process, concurrency, _WARM_UP_SECONDS)
    found: dict[int, list[Pair]] = {concurrency: [] for concurrency in _CONCURRENCY}
    for number in range(pairs):
        for concurrency in _CONCURRENCY:
            order = ["ours", "plain"] if number % 2 else ["plain", "ours"]
            slices = {side: await _slice(*sides[side], concurrency, seconds) for side in order}
            found[concurrency].append(Pair(slices["ours"], slices["plain"]))
    return found


def _throughput_ratio(pairs: Sequence[Pair]) -> float:
    """The median over the pairs, which a disturbance of one slice does not move."""
    return percentile([pair.ours.rate / pair.plain.rate for pair in pairs], 0.5)


def _latency_ratio(pairs: Sequence[Pair]) -> float:
    return percentile([pair.ours.p50 / pair.plain.p50 for pair in pairs], 0.5)


def _cost(pairs: Sequence[Pair]) -> float:
    return percentile([pair.ours.cpu - pair.plain.cpu for pair in pairs], 0.5)


def _rows(concurrency: int, pairs: Sequence[Pair]) -> list[Row]:
    def note(statistic: Any) -> str:
        low, high = interval(pairs, statistic)
        return f" ({low:.3f} to {high:.3f})"

    at = f"{concurrency} at once"
    ours = [pair.ours for pair in pairs]
    plain = [pair.plain for pair in pairs]

    def middle(values: Sequence[float]) -> float:
        return percentile(values, 0.5)

    rates = f"{middle([s.rate for s in ours]):.1f} against {middle([s.rate for s in plain]):.1f} requests/s"
    times = f"{middle([s.p50 for s in ours]):.2f} against {middle([s.p50 for s in plain]):.2f} ms"
    cost = f"{_cost(pairs):.3f} ms{note(_cost)} of {middle([s.cpu for s in plain]):.1f} ms"
    return [
        Row.at_least(f"throughput ratio, {at}", _throughput_ratio(pairs), 0.97, "", note(_throughput_ratio)),
        Row.at_most(f"p50 ratio, {at}", _latency_ratio(pairs), 1.05, "", note(_latency_ratio)),
        Row(f"throughput, {at}", rates),
        Row(f"p50, {at}", times),
        Row(f"processor time added to a request, {at}", cost),
    ]


def main() -> int:
    parser = options("hot_path", __doc__)
    parser.add_argument("--pairs", type=int, default=20, help="slices of each side at each concurrency")
    parser.add_argument("--slice-seconds", type=float, default=2.0)
    given = parser.parse_args()

    measured_core, other_cores = split_cores()
    engine_port, plain_port = free_port(), free_port()
    command = [sys.executable, "-m", "benchmarks.stub_engine", "--port", str(engine_port)]
    document = configuration([model_entry("stub", engine_port, command=command, memory="1GiB")], "process")
    if other_cores:
        os.sched_setaffinity(0, other_cores)
    with Stack.running(document, gateway_cores=measured_core, other_cores=other_cores) as stack:
        del document["general_settings"]["lifecycle"]
        del document["model_list"][0]["model_info"]
        config = stack.directory / "plain.yaml"
        config.write_text(yaml.safe_dump(document))
        environment = clean_environment() | {"CONFIG_FILE_PATH": str(config), "BENCHMARK_PORT": str(plain_port)}
        plain = Child(
            "plain", [sys.executable, "-m", "benchmarks.plain_litellm"], environment, stack.directory, measured_core
        )
        try:
            stack.chat("stub")
            until(lambda: _answers(plain, plain_port), "the plain LiteLLM answers")
            found = asyncio.run(_measure(stack, plain, plain_port, given.pairs, given.slice_seconds))
        finally:
            plain.stop()
    rows = [row for concurrency, pairs in found.items() for row in _rows(concurrency, pairs)]
    raw = {str(concurrency): [asdict(pair) for pair in pairs] for concurrency, pairs in found.items()}
    return Outcome("hot_path", rows, {"slice_seconds": given.slice_seconds, "pairs": raw}).publish(given.out)


def _answers(plain: Child, port: int) -> bool:
    plain.require_running()
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())

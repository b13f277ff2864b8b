"""What the lifecycle costs a request to a model that is ready: LiteLLM with it against the same LiteLLM without it.

The gateways run at once on one core of their own, the client and everything else on the other ones; short slices of
load go to each of them in turn, so that what else the machine does meets all. A third one is LiteLLM without the
lifecycle but with the gateway's shortcut past an import that fails with each request: it tells what the lifecycle
itself costs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

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
class Round:
    """Neighbouring slices of load on each. plain: stock LiteLLM. shortcut: the same with the gateway's shortcut."""

    ours: Slice
    plain: Slice
    shortcut: Slice


#: What two slices say about each other.
Ratio = Callable[[Slice, Slice], float]
_RATIOS: dict[str, Ratio] = {
    "throughput": lambda ours, other: ours.rate / other.rate,
    "p50": lambda ours, other: ours.p50 / other.p50,
    "cpu": lambda ours, other: ours.cpu - other.cpu,
}


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


async def _measure(sides: dict[str, tuple[int, Child]], rounds: int, seconds: float) -> dict[int, list[Round]]:
    for port, process in sides.values():
        for concurrency in _CONCURRENCY:
            await _slice(port, process, concurrency, _WARM_UP_SECONDS)
    found: dict[int, list[Round]] = {concurrency: [] for concurrency in _CONCURRENCY}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for concurrency in _CONCURRENCY:
            order = names[first:] + names[:first]
            slices = {name: await _slice(*sides[name], concurrency, seconds) for name in order}
            found[concurrency].append(Round(**slices))
    return found


def _median(rounds: Sequence[Round], of: Callable[[Round], float]) -> float:
    """Over the rounds: a disturbance of one slice does not move it."""
    return percentile([of(each) for each in rounds], 0.5)


def _compared(rounds: Sequence[Round], ratio: Ratio, other: str) -> tuple[float, str]:
    """The gateway against another, and the 95% interval as a note."""

    def statistic(some: Sequence[Round]) -> float:
        return _median(some, lambda each: ratio(each.ours, getattr(each, other)))

    low, high = interval(rounds, statistic)
    return statistic(rounds), f" ({low:.3f} to {high:.3f})"


def _rows(concurrency: int, rounds: Sequence[Round]) -> list[Row]:
    at = f"{concurrency} at once"
    throughput, throughput_note = _compared(rounds, _RATIOS["throughput"], "plain")
    p50, p50_note = _compared(rounds, _RATIOS["p50"], "plain")
    own_throughput, own_throughput_note = _compared(rounds, _RATIOS["throughput"], "shortcut")
    own_cpu, own_cpu_note = _compared(rounds, _RATIOS["cpu"], "shortcut")
    rates = [_median(rounds, lambda each: each.ours.rate), _median(rounds, lambda each: each.plain.rate)]
    times = [_median(rounds, lambda each: each.ours.p50), _median(rounds, lambda each: each.plain.p50)]
    cpu = _median(rounds, lambda each: each.shortcut.cpu)
    return [
        Row.at_least(f"throughput ratio, {at}", throughput, 0.97, "", throughput_note),
        Row.at_most(f"p50 ratio, {at}", p50, 1.05, "", p50_note),
        Row(f"throughput, {at}", f"{rates[0]:.1f} against {rates[1]:.1f} requests/s"),
        Row(f"p50, {at}", f"{times[0]:.2f} against {times[1]:.2f} ms"),
        Row(f"throughput ratio to LiteLLM with the shortcut, {at}", f"{own_throughput:.3f}{own_throughput_note}"),
        Row(f"the lifecycle's processor time, {at}", f"{own_cpu:.3f} ms{own_cpu_note} on top of {cpu:.1f} ms"),
    ]


def main() -> int:
    parser = options("hot_path", __doc__)
    parser.add_argument("--rounds", type=int, default=18, help="slices of each at each concurrency")
    parser.add_argument("--slice-seconds", type=float, default=1.5)
    given = parser.parse_args()

    measured_core, other_cores = split_cores()
    engine_port = free_port()
    command = [sys.executable, "-m", "benchmarks.stub_engine", "--port", str(engine_port)]
    document = configuration([model_entry("stub", engine_port, command=command, memory="1GiB")], "process")
    if other_cores:
        os.sched_setaffinity(0, other_cores)
    with Stack.running(document, gateway_cores=measured_core, other_cores=other_cores) as stack:
        stack.chat("stub")
        del document["general_settings"]["lifecycle"]
        del document["model_list"][0]["model_info"]
        config = stack.directory / "plain.yaml"
        config.write_text(yaml.safe_dump(document))
        sides = {"ours": (stack.port, stack.gateway)}
        try:
            for name, more in {"plain": {}, "shortcut": {"BENCHMARK_SHORTCUT": "1"}}.items():
                port = free_port()
                environment = clean_environment() | {"CONFIG_FILE_PATH": str(config), "BENCHMARK_PORT": str(port)}
                plain = [sys.executable, "-m", "benchmarks.plain_litellm"]
                child = Child(name, plain, environment | more, stack.directory, measured_core)
                sides[name] = (port, child)
            for port, child in sides.values():
                until(lambda: _answers(child, port), f"{child.name} answers")  # noqa: B023 - called before the next one
            found = asyncio.run(_measure(sides, given.rounds, given.slice_seconds))
        finally:
            for _, child in sides.values():
                if child is not stack.gateway:
                    child.stop()
    rows = [row for concurrency, rounds in found.items() for row in _rows(concurrency, rounds)]
    raw = {str(concurrency): [asdict(each) for each in rounds] for concurrency, rounds in found.items()}
    return Outcome("hot_path", rows, {"slice_seconds": given.slice_seconds, "rounds": raw}).publish(given.out)


def _answers(process: Child, port: int) -> bool:
    process.require_running()
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    sys.exit(main())

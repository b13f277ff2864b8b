"""The command line of the simulator."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from router.simulator.ours import Hearth
from router.simulator.outcome import Outcome, simulate
from router.simulator.peers import Refusing, RunningFirst, StrictFifo
from router.simulator.workload import (
    Session,
    SimulatedModel,
    agent_sessions,
    made_up_lengths,
    open_arrivals,
    read_trace,
)
from router.simulator.world import Contender

POLICIES: dict[str, Callable[[], Contender]] = {
    "hearth": Hearth,
    "running-first": RunningFirst,
    "strict-fifo": StrictFifo,
    "refuse": Refusing,
}


def read_models(path: Path) -> list[SimulatedModel]:
    """The models of a YAML list. Raises ValueError, with what is wrong, when it is not one."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, list) or not document:
        raise ValueError(f"{path}: is not a list of models")
    known = {field.name for field in dataclasses.fields(SimulatedModel)}
    models: list[SimulatedModel] = []
    for index, entry in enumerate(document):
        if not isinstance(entry, dict) or not entry.get("name") or "load_seconds" not in entry:
            raise ValueError(f"{path}: [{index}]: a model has at least a name and load_seconds")
        if unknown := sorted(set(entry) - known):
            raise ValueError(f"{path}: [{index}]: unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        models.append(SimulatedModel(**entry))
    return models


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it worked, 2 for a mistake in its input."""
    options = _parser().parse_args(argv)
    console = Console()
    try:
        models = read_models(options.models)
        sessions = _workload(options, models)
        outcomes = [simulate(models, sessions, POLICIES[name]()) for name in options.policy or list(POLICIES)]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}")
        return 2
    if options.json:
        console.print_json(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
    else:
        console.print(_table(outcomes))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hearth simulate", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="YAML list of models")
    rate = parser.add_mutually_exclusive_group(required=True)
    rate.add_argument("--sessions-per-hour", type=float, help="agent sessions")
    rate.add_argument("--arrivals-per-minute", type=float, help="single requests")
    parser.add_argument("--run", type=float, default=1.0, help="mean number of arrivals in a row for the same model")
    parser.add_argument("--trace", type=Path, help="CSV with ContextTokens and GeneratedTokens")
    parser.add_argument("--steps", type=float, default=30.0, help="mean requests of a session")
    parser.add_argument("--think", type=float, default=4.0, help="mean pause between them (s)")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", action="append", choices=list(POLICIES), help="repeatable; default: all")
    parser.add_argument("--json", action="store_true")
    return parser


def _workload(options: argparse.Namespace, models: Sequence[SimulatedModel]) -> list[Session]:
    lengths = read_trace(options.trace) if options.trace else made_up_lengths(options.seed)
    if options.sessions_per_hour is not None:
        return agent_sessions(
            models,
            lengths,
            per_hour=options.sessions_per_hour,
            hours=options.hours,
            seed=options.seed,
            steps=options.steps,
            think=options.think,
        )
    return open_arrivals(
        models, lengths, per_minute=options.arrivals_per_minute, hours=options.hours, seed=options.seed, run=options.run
    )


def _table(outcomes: Sequence[Outcome]) -> Table:
    """A column for each policy, a row for each number."""
    table = Table("", *(outcome.policy for outcome in outcomes))
    for name in [field.name for field in dataclasses.fields(Outcome)][1:]:
        values = [getattr(outcome, name) for outcome in outcomes]
        table.add_row(
            name,
            *("-" if each is None else f"{each:,.2f}" if isinstance(each, float) else f"{each:,}" for each in values),
        )
    return table

"""`hearth simulate` without its command line: options in, a table, JSON and a picture out."""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from router import config as configuration
from router.errors import ConfigError
from router.scheduling.costs import ASSUMED_LOAD
from router.simulator import timeline
from router.simulator.fleet import DRAIN_TIMEOUT, Fleet, Learned, configured, one_gpu, read_models
from router.simulator.lengths import BUILT_IN, Lengths, read_trace
from router.simulator.ours import Hearth
from router.simulator.outcome import Outcome, Run, simulate
from router.simulator.peers import Refusing, RunningFirst, StrictFifo
from router.simulator.replay import read_records, replay
from router.simulator.workload import Session, agent_sessions, open_arrivals
from router.simulator.world import Contender

POLICIES: dict[str, Callable[[Fleet], Contender]] = {
    "hearth": lambda fleet: Hearth(policy=fleet.policy),
    "running-first": lambda _: RunningFirst(),
    "strict-fifo": lambda _: StrictFifo(),
    "refuse": lambda _: Refusing(),
}
_HOURS = 24.0
#: Of an agent session: the mean number of its requests, and the mean pause between them (s).
_STEPS = 30.0
_THINK = 4.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; exactly one of the workloads sessions_per_hour, arrivals_per_minute and replay ("-": stdin).
    models: None is the config's. run: mean number of arrivals in a row for the same model. hours: None is 24, or all of
    a replay. policies: none is all. What describes another workload is told to be of no use."""

    models: Path | None
    config: Path
    sessions_per_hour: float | None
    arrivals_per_minute: float | None
    replay: str | None
    trace: Path | None
    steps: float | None
    think: float | None
    run: float | None
    hours: float | None
    seed: int
    policies: Sequence[str]
    json: bool
    plot: Path | None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a server has learned of its models, and where that is, for people; trouble: why there is nothing."""

    learned: Mapping[str, Learned]
    origin: str = ""
    trouble: str = ""


class _Wrong(ValueError):
    """The input cannot be used; the message is one line."""


def run(options: Options, ask: Callable[[], Knowledge], out: Console, err: Console) -> int:
    """The exit code: 0 when it worked, 2 for a mistake in its input. ask: called when the models are the config's."""
    try:
        names = _policies(options.policies)
        if options.plot is not None:
            timeline.require(options.plot)
        notes: list[str] = []
        fleet, sessions = _prepare(options, ask, notes)
        runs = _simulate(fleet, sessions, names, err)
    except OSError as error:
        return _os_fault(err, error)
    except ConfigError as error:
        first, *more = str(error).splitlines()
        where = "" if first.startswith(str(options.config)) else f"{options.config}: "
        _say(err, f"{where}{first}" + (f" (and {len(more)} more lines)" if more else ""))
        return 2
    except (ValueError, timeline.PlotUnavailable) as error:
        _say(err, str(error))
        return 2
    notes += [note for each in runs if (note := _cut_off(each))]
    if options.json:
        out.out(json.dumps([dataclasses.asdict(each.outcome) for each in runs], indent=2), highlight=False)
    else:
        out.print(_table([each.outcome for each in runs]))
    for note in notes:
        _say(err if options.json else out, note)
    try:  # last, so that what was computed is not lost with it
        if options.plot is not None:
            timeline.draw([(name, each) for name, each in zip(names, runs, strict=True)], fleet, options.plot)
    except OSError as error:
        return _os_fault(err, error)
    return 0


def _os_fault(err: Console, error: OSError) -> int:
    _say(err, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 2


def _policies(asked: Sequence[str]) -> list[str]:
    for name in asked:
        if name not in POLICIES:
            near = difflib.get_close_matches(name, POLICIES, n=1, cutoff=0.4)
            said = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(POLICIES)}"
            raise _Wrong(f"There is no policy {name!r}; {said}")
    return list(dict.fromkeys(asked)) or list(POLICIES)


def _prepare(options: Options, ask: Callable[[], Knowledge], notes: list[str]) -> tuple[Fleet, list[Session]]:
    """The box and what its clients do. notes: gets what the user should know of them."""
    given = [options.sessions_per_hour, options.arrivals_per_minute, options.replay]
    if sum(each is not None for each in given) != 1:
        raise _Wrong("Say what the clients do: one of --sessions-per-hour, --arrivals-per-minute and --replay.")
    notes.extend(_unused(options))
    lengths: Lengths = [] if options.replay is not None else read_trace(options.trace) if options.trace else BUILT_IN
    if options.models is None:
        fleet = _configured(options, ask, lengths, notes)
        return fleet, _workload(options, fleet, lengths, notes)
    models = read_models(options.models)
    fleet = one_gpu(models)
    sessions = _workload(options, fleet, lengths, notes)
    longest = max(step.service_seconds(fleet.models[step.model]) for each in sessions for step in each.steps)
    return one_gpu(models, drain_timeout=max(DRAIN_TIMEOUT, longest)), sessions


def _unused(options: Options) -> Iterator[str]:
    """A note for each option that says nothing of this workload."""
    sessions = options.sessions_per_hour is not None
    for name, given, used in (
        ("--steps", options.steps, sessions),
        ("--think", options.think, sessions),
        ("--run", options.run, options.arrivals_per_minute is not None),
        ("--trace", options.trace, options.replay is None),
    ):
        if given is not None and not used:
            yield f"{name} is not used: it says nothing of this workload."


def _configured(options: Options, ask: Callable[[], Knowledge], lengths: Lengths, notes: list[str]) -> Fleet:
    if not options.config.exists():
        raise _Wrong(f"{options.config}: there is no such file; name one with --config, or the models with --models")
    config = configuration.load(options.config)
    if not config.models:
        raise _Wrong(f"{options.config}: has no models with a lifecycle; give some with --models FILE")
    knowledge = ask()
    measured = [name for name in config.models if knowledge.learned.get(name, Learned()).load_seconds is not None]
    assumed = [name for name in config.models if name not in measured]
    said = f"Models of {options.config}."
    if measured:
        said += f" Loads measured by {knowledge.origin}: {', '.join(measured)}."
    if assumed:
        why = f" ({knowledge.trouble})" if knowledge.trouble else ""
        said += f" Loads assumed to take {ASSUMED_LOAD:.0f} s{why}: {', '.join(assumed)}."
    notes.append(said)
    return configured(config, knowledge.learned, lengths)


def _workload(options: Options, fleet: Fleet, lengths: Lengths, notes: list[str]) -> list[Session]:
    models = list(fleet.models.values())
    hours = _HOURS if options.hours is None else options.hours
    if options.replay is not None:
        sessions = _replayed(options, options.replay, fleet, notes)
    elif options.sessions_per_hour is not None:
        sessions = agent_sessions(
            models,
            lengths,
            per_hour=options.sessions_per_hour,
            hours=hours,
            seed=options.seed,
            steps=_STEPS if options.steps is None else options.steps,
            think=_THINK if options.think is None else options.think,
        )
    else:
        rate = options.arrivals_per_minute or 0.0
        row = 1.0 if options.run is None else options.run
        sessions = open_arrivals(models, lengths, per_minute=rate, hours=hours, seed=options.seed, run=row)
    if not sessions:
        raise _Wrong("Nobody asks for anything in this time: simulate more hours, or a higher rate.")
    return sessions


def _replayed(options: Options, source: str, fleet: Fleet, notes: list[str]) -> list[Session]:
    if source == "-":
        records = read_records(sys.stdin.buffer, "standard input")
    else:
        with Path(source).open("rb") as file:
            records = read_records(file, source)
    found = replay(records, fleet.models, options.hours)
    if found.unknown:
        them = ", ".join(f"{name} ({count})" for name, count in sorted(found.unknown.items()))
        if not found.sessions:
            raise _Wrong(f"{source}: asks only for models that are not here: {them}")
        notes.append(f"Left out, because these models are not here: {them}.")
    never = sum(step.patience is not None for session in found.sessions for step in session.steps)
    if never:
        notes.append(
            f"{never} recorded requests never ran: each leaves after it has waited for as long as it did then."
        )
    return found.sessions


def _simulate(fleet: Fleet, sessions: Sequence[Session], names: Sequence[str], err: Console) -> list[Run]:
    """One run after the other; on a terminal with a bar for each."""
    total = sum(len(session.steps) for session in sessions)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"), TimeElapsedColumn())
    runs: list[Run] = []
    progress = Progress(*columns, console=err, transient=True)
    with progress if err.is_terminal else nullcontext():  # elsewhere even an empty one would print a line
        for name in names:
            task = progress.add_task(name, total=total)

            def watch(ended: int, task: TaskID = task) -> None:
                progress.update(task, completed=ended)

            runs.append(simulate(fleet, sessions, POLICIES[name](fleet), watch=watch))
            progress.update(task, completed=total)
    return runs


def _cut_off(found: Run) -> str:
    count = sum(request.cut_off for request in found.history.requests)
    return f"{found.outcome.policy}: the drain limit cut off {count} requests." if count else ""


def _table(outcomes: Sequence[Outcome]) -> Table:
    """A column for each policy, a row for each number."""
    table = Table("", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for outcome in outcomes:
        table.add_column(outcome.policy, justify="right")
    for name in [field.name for field in dataclasses.fields(Outcome)][1:]:
        values = [getattr(outcome, name) for outcome in outcomes]
        digits = 2 if name == "session_stretch" else 1
        table.add_row(
            name,
            *(
                "-" if each is None else f"{each:,}" if isinstance(each, int) else f"{each:,.{digits}f}"
                for each in values
            ),
        )
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

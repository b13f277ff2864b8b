"""The router's own recorded requests as a workload, so that last week can be run again under another policy.

What is known of a request is when it was asked, when it ran and for how long. So:

- Requests of one caller of which each came at most gaps.HORIZON after the end of the one before form a session: after
  an answer the next request comes after the pause that was recorded, however long the answer took this time. Two that
  overlapped belong to two sessions. The first of a session comes at its recorded time.
- A request runs for as long as it did then, whatever runs beside it now.
- One that never ran is a client of its own that leaves after it has waited for as long as it did; if it gets its model
  before, it runs for the mean time of that model's requests.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from router.api.views import EndedRequestView
from router.scheduling.gaps import HORIZON
from router.simulator.workload import HOUR, Session, Step

#: The year 5138. Of what is much later a float keeps no milliseconds, and a clock that adds them stands still.
_LATEST = 1e11


@dataclass(frozen=True, slots=True)
class Replay:
    """sessions: the workload. unknown: models that were asked for and are not there, with how many requests."""

    sessions: list[Session]
    unknown: dict[str, int]


def read_records(lines: Iterable[bytes], name: str) -> list[EndedRequestView]:
    """Recorded requests, a JSON object a line; empty lines are left out. name: where they come from, for people.
    Raises ValueError with one line that says what is wrong."""
    found: list[EndedRequestView] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = EndedRequestView.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(str(part) for part in fault["loc"])
            raise ValueError(f"{name}: line {number}: {key + ': ' if key else ''}{fault['msg']}") from error
        granted = record.joined if record.granted is None else record.granted
        if not record.joined <= granted <= record.ended:
            raise ValueError(f"{name}: line {number}: joined, granted and ended are not in this order")
        if record.joined < 0 or record.ended > _LATEST:
            raise ValueError(f"{name}: line {number}: joined and ended are seconds since 1970")
        found.append(record)
    if not found:
        raise ValueError(f"{name}: has no requests; `hearth history` writes what the router has recorded")
    return found


def replay(records: Sequence[EndedRequestView], models: Collection[str], hours: float | None = None) -> Replay:
    """The workload of these records, from the first one on for `hours`; None: all of it."""
    unknown: dict[str, int] = {}
    ordered = sorted(records, key=lambda record: record.joined)
    begin = ordered[0].joined
    mean = {model: _mean_service(ordered, model) for model in models}
    open_sessions: dict[str, list[_Growing]] = {}
    sessions: list[_Growing] = []
    for record in ordered:
        if hours is not None and record.joined - begin >= hours * HOUR:
            break
        if record.model not in mean:
            unknown[record.model] = unknown.get(record.model, 0) + 1
            continue
        if record.granted is None:
            step = Step(record.model, 0, 0, seconds=mean[record.model], patience=record.ended - record.joined)
            sessions.append(_Growing(record.caller, record.joined - begin, [step], record.ended))
            continue
        own = open_sessions.setdefault(record.caller, [])
        own[:] = [each for each in own if record.joined - each.ended <= HORIZON]
        before = max((each for each in own if each.ended <= record.joined), key=lambda each: each.ended, default=None)
        if before is None:
            before = _Growing(record.caller, record.joined - begin, [], record.joined)
            own.append(before)
            sessions.append(before)
        pause = record.joined - before.ended
        before.steps.append(Step(record.model, 0, 0, pause, seconds=record.ended - record.granted))
        before.ended = record.ended
    return Replay([Session(each.caller, each.start, tuple(each.steps)) for each in sessions], unknown)


@dataclass(slots=True, eq=False)
class _Growing:
    """A session to which requests are still added. ended: when the last one did, on the records' clock."""

    caller: str
    start: float
    steps: list[Step]
    ended: float


def _mean_service(records: Iterable[EndedRequestView], model: str) -> float:
    ran = [record.ended - record.granted for record in records if record.model == model and record.granted is not None]
    return statistics.fmean(ran) if ran else 0.0

"""A picture of what each model did: a panel for each policy, a lane for each model. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.errors import HearthError
from router.quantities import format_duration
from router.simulator.fleet import Fleet
from router.simulator.history import History
from router.simulator.outcome import Outcome, Run
from router.store.state import Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Span = tuple[float, float]

#: Colours that differ in lightness too, from light to dark: they can be told apart in print and without colour vision.
_COLOURS: Final = {
    "loaded": "#d3e5f3",
    "loading": "#f2a93b",
    "draining": "#a56cc1",
    "serving": "#14508f",
    "unloading": "#1d1d1d",
}
_PHASES: Final = {
    Phase.READY: "loaded",
    Phase.STARTING: "loading",
    Phase.DRAINING: "draining",
    Phase.STOPPING: "unloading",
}
_WAIT_COLOUR: Final = "#c8102e"
#: A lane is 1 high: the model's band below, above it the waits, in so many rows so that few lie on each other.
_BAND: Final = (0.08, 0.52)
_WAITS: Final = (0.64, 0.3)
_WAIT_ROWS: Final = 12
#: A policy that takes longer than the quickest by more than this is cut there, or nothing of the others could be seen.
_LONGEST: Final = 1.25
#: Of the width: what is shorter is drawn as this long if it is a phase, and joined to its neighbour if it is a pause.
_SMALLEST: Final = 1 / 1500


class PlotUnavailable(HearthError):
    """The picture cannot be drawn; the message is one line."""


def require(path: Path) -> None:
    """Raises PlotUnavailable when no picture could be drawn to `path`."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotUnavailable("--plot needs matplotlib; install it with: pip install 'hearth[plot]'")
    if not path.absolute().parent.is_dir():
        raise PlotUnavailable(f"--plot: {path.absolute().parent} is not a directory")
    if path.is_dir():
        raise PlotUnavailable(f"--plot: {path} is a directory; name a file")


def draw(runs: Sequence[tuple[str, Run]], fleet: Fleet, path: Path) -> None:
    """Write a PNG with these policies, by name, one above the other on the same hours. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - optional, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    ends = {name: _end(run.history) for name, run in runs}
    width = min(max(ends.values()), min(ends.values()) * _LONGEST) or 1.0
    lanes = len(fleet.models)
    figure = Figure(figsize=(13, 0.9 + len(runs) * (0.75 + 0.5 * lanes)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    unit, unit_name = (3600.0, "hours") if width > 2 * 3600 else (60.0, "minutes")
    for (name, run), axes in zip(runs, panels, strict=True):
        _panel(axes, run, list(fleet.models), width, unit)
        late = f"; goes on until {ends[name] / unit:,.0f} {unit_name}" if ends[name] > width else ""
        axes.set_title(_title(name, run.outcome) + late, loc="left", fontsize=10)
    panels[-1].set_xlabel(f"simulated {unit_name}")
    marks = [Patch(facecolor=colour, edgecolor="#808080", linewidth=0.5) for colour in _COLOURS.values()]
    figure.legend(
        [*marks, Line2D([], [], color=_WAIT_COLOUR, linewidth=1.2)],
        [*(label.replace("loaded", "loaded, nothing runs") for label in _COLOURS), "a request waits"],
        loc="outside upper right",
        ncols=len(_COLOURS) + 1,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, format="png", dpi=110)


def _panel(axes: Axes, run: Run, models: Sequence[str], width: float, unit: float) -> None:
    history = run.history
    for lane, name in enumerate(models):
        end = _end(history)
        spans: dict[str, list[Span]] = {label: [] for label in _COLOURS}
        for phase, span in _phases(history, name, end):
            spans[_PHASES[phase]].append(span)
        spans["serving"] = [
            piece
            for span in _joined(_served(history, name), width * _SMALLEST)
            for loaded in spans["loaded"]
            if (piece := (max(span[0], loaded[0]), min(span[1], loaded[1])))[0] < piece[1]
        ]
        for label, colour in _COLOURS.items():
            shown = [span for span in spans[label] if span[0] < width]
            bars = [(begin / unit, max(stop - begin, width * _SMALLEST) / unit) for begin, stop in shown]
            axes.broken_barh(bars, (lane + _BAND[0], _BAND[1]), facecolor=colour, linewidth=0)
        _draw_waits(axes, history, name, lane, width, unit)
    axes.set_ylim(len(models), 0)
    axes.set_yticks([lane + _BAND[0] + _BAND[1] / 2 for lane in range(len(models))], models, fontsize=9)
    axes.set_xlim(0, width / unit)
    axes.tick_params(axis="y", length=0)
    for lane in range(1, len(models)):
        axes.axhline(lane, color="#e0e0e0", linewidth=0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_waits(axes: Axes, history: History, model: str, lane: int, width: float, unit: float) -> None:
    waits = [
        (request.joined, request.joined + request.wait)
        for request in history.requests
        if request.step.model == model and request.wait > width * _SMALLEST and request.joined < width
    ]
    height = _WAITS[1] / _WAIT_ROWS
    rows = [lane + _WAITS[0] + height * (number % _WAIT_ROWS) for number in range(len(waits))]
    axes.hlines(
        rows, [wait[0] / unit for wait in waits], [wait[1] / unit for wait in waits], colors=_WAIT_COLOUR, lw=0.7
    )


def _title(name: str, outcome: Outcome) -> str:
    stretch = "-" if outcome.session_stretch is None else f"{outcome.session_stretch:,.2f}"
    return f"{name}: session stretch {stretch}, longest wait {format_duration(outcome.wait_max_s)}"


def _phases(history: History, model: str, end: float) -> Iterator[tuple[Phase, Span]]:
    """What it went through, without the times when it was asleep."""
    changes = [*history.spans[model], (end, Phase.ASLEEP)]
    for (begin, phase), (stop, _) in pairwise(changes):
        if phase in _PHASES and stop > begin:
            yield phase, (begin, stop)


def _served(history: History, model: str) -> list[Span]:
    """When each of its requests ran, in the order of their beginnings."""
    return sorted(
        (request.granted, request.ended)
        for request in history.requests
        if request.step.model == model and request.granted is not None and request.ended is not None
    )


def _joined(spans: Iterable[Span], pause: float) -> Iterator[Span]:
    """Spans that overlap, or follow each other within `pause`, as one."""
    begin = stop = None
    for span in spans:
        if begin is None or stop is None:
            begin, stop = span
        elif span[0] - stop <= pause:
            stop = max(stop, span[1])
        else:
            yield begin, stop
            begin, stop = span
    if begin is not None and stop is not None:
        yield begin, stop


def _end(history: History) -> float:
    """When the last request has ended."""
    return max((request.ended or 0.0 for request in history.requests), default=0.0)

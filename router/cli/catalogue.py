"""The catalogue as `hearth models` shows it: what is known of each model, and beside it what the router says of it now.

Pure: the same entries give the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from router.api.views import CatalogueView, ModelsView, ModelView
from router.catalogue import Card, Status
from router.cli.tables import PHASE_STYLES, bare_table, clock
from router.config import Config
from router.quantities import format_duration, format_size

_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("MODEL", "left"),
    ("FAMILY", "left"),
    ("STATUS", "left"),
    ("CONTEXT", "right"),
    ("TOOLS", "left"),
    ("VISION", "left"),
    ("THINKS", "left"),
    ("PHASE", "left"),
    ("ROLE", "left"),
    ("MEMORY", "right"),
    ("LOADS IN", "right"),
    ("PROBLEMS WITH", "left"),
)
_STATUS_STYLES = {Status.PROVEN: "green", Status.EXPERIMENTAL: "", Status.DISABLED: "dim"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. role, memory (bytes per GPU): as configured; None for a model that is not served. state: what the
    router says; None without one, and for a model that is not served."""

    card: Card
    role: str | None = None
    memory: int | None = None
    state: ModelView | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data, the router's fields beside the card's."""
        state = {} if self.state is None else self.state.model_dump(mode="json")
        configured = {"status": self.card.catalogue.status.value, "role": self.role, "memory": self.memory}
        return {**self.card.model_dump(mode="json"), **configured, "phase": None, **state}


def of_server(catalogue: CatalogueView, models: ModelsView) -> list[Entry]:
    """What a server says, its models in its order; one that has no card, or no state, is there all the same."""
    states = {view.name: view for view in models.models}
    cards = {card.name: card for card in catalogue.cards}
    entries = []
    for name in {**cards, **states}:
        state = states.get(name)
        card = cards.get(name, Card(name=name))
        entries.append(Entry(card, state.role if state else None, state.memory if state else None, state))
    return entries


def of_config(config: Config) -> list[Entry]:
    """What a configuration says, with no router to ask."""
    specs = {name: config.models.get(name) for name in config.cards}
    return [
        Entry(config.cards[name], spec.role if spec else None, spec.memory if spec else None)
        for name, spec in specs.items()
    ]


def of_family(entries: Sequence[Entry], family: str) -> list[Entry]:
    """Those of one family; without one of just that name, of all whose names begin so (qwen: qwen2.5, qwen3 ...)."""
    exact = [entry for entry in entries if entry.card.catalogue.family == family]
    return exact or [entry for entry in entries if entry.card.catalogue.family.startswith(family)]


def families(entries: Sequence[Entry]) -> list[str]:
    """All there are, in the order of the entries."""
    return list(dict.fromkeys(entry.card.catalogue.family for entry in entries if entry.card.catalogue.family))


def table(entries: Sequence[Entry]) -> Table:
    """A row for each model. Columns of which nothing is known are left out."""
    rows = [_row(entry) for entry in entries]
    grid = bare_table()
    kept = [place for place in range(len(_COLUMNS)) if place == 0 or any(row[place].plain for row in rows)]
    for place in kept:
        heading, justify = _COLUMNS[place]
        grid.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        grid.add_row(*(row[place] for place in kept))
    return grid


def notes(entries: Sequence[Entry]) -> Text:
    """A line for each reason, each wish to keep a model warm, and each problem."""
    lines = []
    for entry in entries:
        name, catalogue = entry.card.name, entry.card.catalogue
        if catalogue.disabled:
            lines.append(Text(f"{name} is disabled: {catalogue.disabled}", "dim"))
        if entry.card.too_large:
            lines.append(Text(f"{name} is not served: {entry.card.too_large}", "red"))
        if entry.state is not None and (warm := entry.state.warm) is not None:
            until = "" if warm.until is None else f" until {clock(warm.until, day=True)}"
            lines.append(Text(f"{name} is to be kept warm: {warm.reason}{until}", "dim"))
        for problem in catalogue.known_problems:
            lines.append(Text(f"{name} with {problem.client}: {problem.problem}; instead: {problem.instead}", "yellow"))
    return Text("\n").join(lines)


def _row(entry: Entry) -> list[Text]:
    card, state = entry.card, entry.state
    catalogue = card.catalogue
    load = state.load_seconds if state else None
    return [
        Text(card.name),
        Text(catalogue.family),
        Text(catalogue.status, _STATUS_STYLES[catalogue.status]),
        Text("" if card.context is None else f"{card.context:,}"),
        Text(_able(card.tools)),
        Text(_able(card.vision)),
        Text(_able(card.reasoning)),
        Text(state.phase, PHASE_STYLES[state.phase]) if state else Text(),
        Text(entry.role or ""),
        Text("" if entry.memory is None else format_size(entry.memory)),
        Text("" if load is None else format_duration(load)),
        Text(", ".join(problem.client for problem in catalogue.known_problems)),
    ]


def _able(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"

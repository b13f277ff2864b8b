"""Which models a client is offered, and what it is told of each. Pure: the same server gives the same offer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.catalogue import Card, KnownProblem, Status, Task
from router.errors import HearthError


class NothingToOffer(HearthError):
    """No model is left for this client; the message says why, and what to do."""


class Client(StrEnum):
    """A program that entries are written for, by its own name."""

    OPENCODE = "OpenCode"
    CLINE = "Cline"
    OPEN_WEBUI = "Open WebUI"
    SDK = "SDK"

    @property
    def is_agent(self) -> bool:
        """Whether it can do nothing without tools."""
        return self in (Client.OPENCODE, Client.CLINE)


#: What an answer may take where nobody says it: an agent's longest files, and never more than a quarter of the context.
_OUTPUT = 8192


@dataclass(frozen=True, slots=True)
class Model:
    """One model as the client is told of it.

    context: tokens of prompt and answer together; output: of an answer; None where it is not known. tools: also where
    nobody has said that it has none. warnings: what is known to go wrong, and does not keep it from the client.
    """

    name: str
    context: int | None
    output: int | None
    tools: bool
    vision: bool
    reasoning: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """default: the model to begin with. small: for titles and summaries, which is the default one where there is no
    utility model. left_out: by name the reason."""

    models: tuple[Model, ...]
    default: str
    small: str
    left_out: Mapping[str, str]

    def model(self, name: str) -> Model:
        """One of the models."""
        return next(model for model in self.models if model.name == name)


def offer(
    client: Client,
    allowed: Sequence[str],
    cards: Sequence[Card],
    utilities: Collection[str],
    wanted: str | None = None,
) -> Offer:
    """allowed: what the key may use, as /v1/models lists it. utilities: the names of utility models. wanted: the
    model to begin with, if somebody chose one.

    Raises NothingToOffer when no model is left, or `wanted` is not among those that are.
    """
    known = {card.name: card for card in cards}
    models, left_out = list[Model](), dict[str, str]()
    for name in allowed:
        if (reason := _reason_against(client, name, known.get(name), name in utilities)) is not None:
            left_out[name] = reason
        else:
            models.append(_model(client, known[name]))
    able = [model for model in models if model.name not in utilities or not client.is_agent]
    if wanted is not None and wanted not in {model.name for model in able}:
        raise NothingToOffer(f"{wanted} is not for {client}: {_why_not(wanted, left_out, able)}.")
    if not able:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise NothingToOffer(f"This key has no model for {client}. {reasons or 'Ask an admin what it is for.'}")
    default = wanted or max(able, key=lambda model: _merit(known[model.name], client)).name
    small = next((model.name for model in models if model.name in utilities), default)
    return Offer(tuple(models), default, small, left_out)


def concerns(problem: KnownProblem, client: Client) -> bool:
    """Whether a known problem is this client's: `any`, `any agent`, its name, or its name with more words."""
    named = problem.client.casefold()
    if named in ("any", "any agent"):
        return named == "any" or client.is_agent
    return named == client.casefold() or named.startswith(f"{client.casefold()} ")


def _reason_against(client: Client, name: str, card: Card | None, utility: bool) -> str | None:
    """Why the client is not told of a model; None when it is."""
    if "*" in name:
        return "it stands for any name; add those that you mean by hand"
    if card is None:
        return "nothing is known of it here: an alias, or a model without a lifecycle; add it by hand"
    if card.catalogue.disabled is not None:
        return f"it is disabled: {card.catalogue.disabled}"
    if card.too_large:
        return f"it is not served: {card.too_large}"
    for problem in card.catalogue.known_problems:
        if problem.spoils == "model" and concerns(problem, client):
            whose = "" if problem.client == "any" else f"with {problem.client} "
            return f"{whose}it {problem.problem}; instead: {problem.instead}"
    if client.is_agent and card.tools is False and not utility:
        return f"it cannot call tools, and {client} does all its work with them"
    return None


def _model(client: Client, card: Card) -> Model:
    problems = [problem for problem in card.catalogue.known_problems if concerns(problem, client)]
    limits = card.catalogue.client_limits
    context = limits.context if limits else card.context
    output = limits.output if limits else card.output
    if output is None and context is not None:
        output = min(_OUTPUT, context // 4)
    return Model(
        name=card.name,
        context=context,
        output=output,
        tools=card.tools is not False,
        vision=card.vision is True and not any(problem.spoils == "images" for problem in problems),
        reasoning=card.reasoning is True,
        warnings=tuple(f"{problem.problem}; instead: {problem.instead}" for problem in problems),
    )


def _merit(card: Card, client: Client) -> tuple[bool, ...]:
    """The greatest is the default; among equals the first of the configuration."""
    good_for = card.catalogue.good_for
    task = Task.CODING in good_for or Task.AGENTS in good_for if client.is_agent else Task.CHAT in good_for
    return task, card.catalogue.status is Status.PROVEN


def _why_not(wanted: str, left_out: Mapping[str, str], able: Sequence[Model]) -> str:
    if wanted in left_out:
        return left_out[wanted]
    return f"this key may use {', '.join(model.name for model in able) or 'none'}"

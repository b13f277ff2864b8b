"""`model_info.catalogue`: what people should know of a model before they ask for it.

Only the data; `hearth models` and docs/models.md show it. A disabled model is kept with its reason, and is not served.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Task(StrEnum):
    """What somebody wants a model for."""

    CHAT = "chat"
    AGENTS = "agents"
    CODING = "coding"
    REASONING = "reasoning"
    LONG_CONTEXT = "long-context"
    IMAGES = "images"
    DOCUMENTS = "documents"
    LANGUAGES = "languages"
    WRITING = "writing"
    MATHS = "maths"
    SMALL_JOBS = "small-jobs"
    UNCENSORED = "uncensored"


class Status(StrEnum):
    """How far a model can be relied on."""

    PROVEN = "proven"
    EXPERIMENTAL = "experimental"
    DISABLED = "disabled"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KnownProblem(_Strict):
    """What goes wrong between one client and a model."""

    client: str = Field(min_length=1, description="The client, by its own name; `any` when all have the problem.")
    problem: str = Field(min_length=1, description="What goes wrong, after the model's name.")
    instead: str = Field(min_length=1, description="What to do: another model's name, or a few words.")
    spoils: Literal["model", "images", "nothing"] = Field(
        "model",
        description="What `hearth client` keeps from that client: the model, only its images, or nothing, where it is "
        "enough to know of the problem.",
    )


class ClientLimits(_Strict):
    """What a client should be told, where less than the whole context has proved good."""

    context: int = Field(ge=1, description="Tokens of prompt and answer together.")
    output: int = Field(ge=1, description="Tokens of one answer.")


class Catalogue(_Strict):
    """`model_info.catalogue`: what a model is, what it is good for, and what is known to go wrong."""

    family: str = Field("", description="The models that `hearth models --family` shows together.")
    weights: str | None = Field(
        None, pattern=r"^[\w.-]+/[\w.-]+$", description="The Hugging Face repository that the engine loads."
    )
    quantization: str = Field("", description="How the weights are stored.")
    good_for: tuple[Task, ...] = Field((), description=f"What to choose it for: {', '.join(Task)}.")
    experimental: bool = Field(
        True, description="Whether it has yet to prove that it runs well on this kind of box, for days on end."
    )
    disabled: str | None = Field(
        None,
        min_length=1,
        description="Why the model is not served, as a sentence about `it`. It is not listed, never woken, and a "
        "request for it is answered 404 with this reason.",
    )
    client_limits: ClientLimits | None = Field(
        None, description="What to set in a client, where less than the whole context has proved good."
    )
    known_problems: tuple[KnownProblem, ...] = Field((), description="What goes wrong, and with which client.")
    notes: str = Field("", description="What else is worth knowing.")

    @property
    def status(self) -> Status:
        """How far the model can be relied on."""
        if self.disabled is not None:
            return Status.DISABLED
        return Status.EXPERIMENTAL if self.experimental else Status.PROVEN


class Card(BaseModel):
    """One model of the catalogue, with what LiteLLM's own keys say of it; None where they say nothing.

    context and output: tokens, as in `max_input_tokens` and `max_output_tokens`. too_large: why it is not served, where
    it declares more memory than its GPU has.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    context: int | None = None
    output: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    reasoning: bool | None = None
    catalogue: Catalogue = Catalogue()
    too_large: str = ""


def card_of(name: str, model_info: Mapping[str, Any], catalogue: Catalogue) -> Card:
    """The card of an entry of `model_list`. A key of LiteLLM's with a value of another kind counts as not given."""

    def tokens(key: str) -> int | None:
        value = model_info.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    def able(key: str) -> bool | None:
        value = model_info.get(key)
        return value if isinstance(value, bool) else None

    return Card(
        name=name,
        context=tokens("max_input_tokens"),
        output=tokens("max_output_tokens"),
        tools=able("supports_function_calling"),
        vision=able("supports_vision"),
        reasoning=able("supports_reasoning"),
        catalogue=catalogue,
    )


def is_disabled(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of `model_list`, checked or not, says that it is not to be served."""
    catalogue = (entry.get("model_info") or {}).get("catalogue") or {}
    return bool(catalogue.get("disabled"))

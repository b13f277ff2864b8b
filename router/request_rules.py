"""`model_info.request_rules`: what a model can take. Requests are fitted to it, or refused before anything wakes.

Only the data; plugins/request_rules/ applies it. A model without rules gets its requests as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

#: What a request cannot do without, and what is LiteLLM's own: no rule takes these away.
ESSENTIAL = frozenset({"model", "messages", "prompt", "input", "instructions", "system", "stream"})

#: LiteLLM's own keys for what a model can take.
_LIMITS = {"context_length": "max_input_tokens", "max_output_tokens": "max_output_tokens"}

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "auto"]


def _switch(value: object) -> object:
    """YAML reads a bare on or off as true or false; within quotes it is meant the same."""
    return {"on": True, "off": False}.get(value, value) if isinstance(value, str) else value


Switch = Annotated[
    bool,
    BeforeValidator(_switch),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["on", "off"]}]}),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Thinking(_Strict):
    """How a model that can think before it answers is told whether to."""

    chat_template_kwarg: str = Field(
        "enable_thinking",
        min_length=1,
        description="The boolean among `chat_template_kwargs` that the model's chat template reads.",
    )
    default: Switch | None = Field(
        False, description="For requests that do not say: on, off, or null for whatever the chat template does."
    )


class Parameters(_Strict):
    """Which parameters of a request the model takes."""

    drop: frozenset[str] = Field(frozenset(), description="Left out of the request.")
    refuse: frozenset[str] = Field(frozenset(), description="A request with one of these is answered 400.")
    only: frozenset[str] | None = Field(
        None,
        description="The parameters that the model takes; `others` says what becomes of all others. Limits on the "
        "answer's length and tools, which have keys of their own, need not be in it.",
    )
    others: Literal["drop", "refuse"] = Field("drop", description="What becomes of parameters that `only` leaves out.")

    @model_validator(mode="after")
    def _no_contradiction(self) -> Parameters:
        for name in sorted(self.drop | self.refuse):
            if name in ESSENTIAL:
                raise ValueError(f"{name!r} cannot be left out of a request")
            if name in self.drop & self.refuse or name in (self.only or ()):
                raise ValueError(f"{name!r} stands in two lists")
        return self


class RequestRules(_Strict):
    """`model_info.request_rules`: what one model can take, and what becomes of requests for something else."""

    context_length: int | None = Field(
        None,
        ge=1,
        description="Tokens of prompt and answer together; a request that cannot fit is answered 400. "
        "Default: `model_info.max_input_tokens`.",
    )
    max_output_tokens: int | None = Field(
        None, ge=1, description="Most tokens of an answer; a request for more gets this many. "
        "Default: `model_info.max_output_tokens`.",
    )  # fmt: skip
    default_max_tokens: int | None = Field(
        None, ge=1, description="`max_tokens` for requests without it. Without this key it is left to the engine."
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="Counts the prompt: a tokenizer.json, its folder, or the name of a Hugging Face repository, used "
        "if its tokenizer is in the local cache. Nothing is downloaded; without one, LiteLLM's counter estimates. "
        "Default: `model_info.catalogue.weights`.",
    )
    image_tokens: int = Field(1024, ge=0, description="What one image takes of the context.")
    tools: Literal["native", "strip", "refuse", "force"] = Field(
        "native",
        description="native: tools are the model's own business. strip: they are left out of the request. refuse: a "
        "request with tools is answered 400. force: the model must call one, until it has a result.",
    )
    images: Literal["accept", "refuse"] = Field(
        "accept", description="refuse: a request with an image is answered 400."
    )
    flatten_text: bool = Field(
        False, description="Content given as a list of text parts becomes one text, for chat templates that need that."
    )
    alternate_roles: bool = Field(
        False, description="Messages in a row from the same side become one, for chat templates that need turns."
    )
    system_role: Literal["native", "user"] = Field(
        "native",
        description="user: system text goes in front of the first user message, for chat templates without it.",
    )
    thinking: Thinking | None = Field(None, description="For models whose thinking can be switched.")
    reasoning_effort: dict[Effort, Switch | str] | None = Field(
        None,
        description="What becomes of each `reasoning_effort`: on and off switch `thinking`; text is sent instead, and "
        "means on; one that is not listed is dropped. Default, with `thinking`: none and minimal are off, others on.",
    )
    parameters: Parameters = Field(Parameters(), description="Parameters that the model does not take.")

    @model_validator(mode="after")
    def _switches_something(self) -> RequestRules:
        if self.thinking is None and any(isinstance(value, bool) for value in (self.reasoning_effort or {}).values()):
            raise ValueError("reasoning_effort has on or off, but there is no thinking to switch")
        efforts: dict[Any, bool | str] = dict(self.reasoning_effort or {})
        for effort, text in efforts.items():
            if isinstance(text, str) and efforts.get(text, text) != text:
                raise ValueError(f"reasoning_effort makes {text} of {effort}, and something else of {text}")
        if self.thinking is not None and "chat_template_kwargs" in self.parameters.drop | self.parameters.refuse:
            raise ValueError("parameters takes chat_template_kwargs away, which thinking needs")
        return self


def rules_of(model_info: Mapping[str, Any]) -> RequestRules | None:
    """The rules in an entry's `model_info`, with what the rest of it says where they say nothing: LiteLLM's own limits,
    and the repository of the weights, which has their tokenizer. None when neither rules nor limits are there.

    Raises pydantic.ValidationError.
    """
    known = {ours: model_info.get(litellms) for ours, litellms in _LIMITS.items()}
    limits = {name: limit for name, limit in known.items() if isinstance(limit, int) and limit > 0}
    section = model_info.get("request_rules")
    if section is None and not limits:
        return None
    if section is not None and not isinstance(section, dict):
        return RequestRules.model_validate(section)
    catalogue = model_info.get("catalogue")
    weights = catalogue.get("weights") if isinstance(catalogue, dict) else None
    tokenizer = {"tokenizer": weights} if isinstance(weights, str) and weights else {}
    return RequestRules.model_validate({**limits, **tokenizer, **(section or {})})

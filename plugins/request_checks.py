"""Requests that no engine could answer are refused before anything wakes: wrong types and absurd sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from litellm.proxy._types import ProxyException
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

# in strict mode a float takes whole numbers too, but neither text nor booleans
_Number = Annotated[StrictFloat, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_Tokens = Annotated[StrictInt, Field(ge=0, le=2**31)]


class _Shape(BaseModel):
    """What every address has in common. Only what is checked is named; the rest is the engine's business."""

    model_config = ConfigDict(extra="ignore")

    stream: StrictBool | None = None
    temperature: _Number | None = None
    top_p: _Number | None = None
    presence_penalty: _Number | None = None
    frequency_penalty: _Number | None = None
    n: Annotated[StrictInt, Field(ge=1, le=1024)] | None = None
    seed: StrictInt | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    max_output_tokens: _Tokens | None = None
    stop: StrictStr | list[StrictStr] | None = None
    tools: list[dict[str, Any]] | None = None
    user: StrictStr | None = None
    metadata: dict[str, Any] | None = None
    # LiteLLM's own: it takes them from the body and fails late on wrong ones
    timeout: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)] | None = None
    num_retries: Annotated[StrictInt, Field(ge=0, le=100)] | None = None
    fallbacks: list[Any] | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: StrictStr
    content: StrictStr | list[dict[str, Any] | StrictStr] | None = None


class _Messages(_Shape):
    messages: Annotated[list[_Message], Field(min_length=1)]


class _Completion(_Shape):
    prompt: StrictStr | Annotated[list[StrictStr | StrictInt | list[StrictInt]], Field(min_length=1)]


class _Embedding(_Shape):
    input: StrictStr | Annotated[list[StrictStr | StrictInt | list[StrictInt]], Field(min_length=1)]


class _Response(_Shape):
    input: StrictStr | Annotated[list[dict[str, Any]], Field(min_length=1)]


class _Rerank(_Shape):
    query: StrictStr
    documents: Annotated[list[StrictStr | dict[str, Any]], Field(min_length=1)]


_SHAPES: dict[str, type[_Shape]] = {
    "acompletion": _Messages,
    "completion": _Messages,
    "anthropic_messages": _Messages,
    "atext_completion": _Completion,
    "text_completion": _Completion,
    "aembedding": _Embedding,
    "embeddings": _Embedding,
    "aresponses": _Response,
    "responses": _Response,
    "rerank": _Rerank,
    "arerank": _Rerank,
}


def check_shape(call_type: str, data: Mapping[str, Any]) -> None:
    """Raises ProxyException (400) that names the first wrong part of the request."""
    model = data.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 512:
        raise _refusal("model", "is the name of a model, as text")
    try:
        _SHAPES.get(call_type, _Shape).model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where, what = _explain(fault["loc"], fault["msg"])
        raise _refusal(where, what) from None


def _explain(location: tuple[int | str, ...], message: str) -> tuple[str, str]:
    """The fault's place in the request. Behind a choice of types Pydantic names the type it tried, not a key."""
    where = str(location[0])
    for part in location[1:]:
        if isinstance(part, int):
            where += f"[{part}]"
        elif part in _Message.model_fields:
            where += f".{part}"
        else:
            return where, "is of the wrong type"
    if "instance of" in message:
        message = "is an object"
    return where, message[0].lower() + message[1:]


def _refusal(where: str, what: str) -> ProxyException:
    return ProxyException(message=f"{where}: {what}", type="invalid_request_error", param=where, code=400)

"""Requests that no engine could answer are refused before LiteLLM sees them and before anything wakes.

LiteLLM answers 500 to many of them, and to others only once the engine has been woken and has refused them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

MOST_MESSAGES = 5_000
LONGEST_NAME = 512

_ADDS_A_MODEL = ("/model/new", "/model/update")
_ONLY_IN_THE_FILE = (
    "only the configuration file gives a model a lifecycle: an engine is a container of the box, and no key may name "
    "one. Leave it out; with the api_base of an engine that the file names, the model shares that engine's lifecycle"
)

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is refused. param: the part of it that is wrong."""

    message: str
    param: str | None = None
    status: int = 400
    type: str = "invalid_request_error"


# in strict mode a float takes whole numbers too, but neither text nor booleans
_Number = Annotated[StrictFloat, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_Object = dict[str, Any]
_Input = (
    StrictStr
    | Annotated[list[StrictStr], Field(min_length=1)]
    | Annotated[list[StrictInt], Field(min_length=1)]
    | Annotated[list[Annotated[list[StrictInt], Field(min_length=1)]], Field(min_length=1)]
)


class _Shape(BaseModel):
    """What every address has in common. Only what is checked is named; the rest is the engine's business. Limits on the
    answer's length are left to plugins/request_rules: what is wrong for one model is put right for another."""

    model_config = ConfigDict(extra="ignore")

    # it may be in the path instead; LiteLLM refuses a request without any
    model: Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_NAME)] = ""
    stream: StrictBool | None = None
    stream_options: _Object | None = None
    temperature: _Number | None = None
    top_p: _Number | None = None
    presence_penalty: _Number | None = None
    frequency_penalty: _Number | None = None
    n: Annotated[StrictInt, Field(ge=1, le=1024)] | None = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    logit_bias: _Object | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=-1, le=1000)] | None = None
    stop: StrictStr | list[StrictStr] | None = None
    stop_sequences: list[StrictStr] | None = None
    tools: list[_Object] | None = None
    tool_choice: StrictStr | _Object | None = None
    response_format: _Object | None = None
    user: StrictStr | None = None
    metadata: _Object | None = None
    # LiteLLM's own: it takes them from the body and fails late on wrong ones
    timeout: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)] | None = None
    num_retries: Annotated[StrictInt, Field(ge=0, le=100)] | None = None
    fallbacks: list[Any] | None = None
    extra_body: _Object | None = None
    cache: _Object | None = None
    guardrails: list[Any] | _Object | None = None
    tags: list[Any] | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: StrictStr
    content: StrictStr | list[_Object | StrictStr] | None = None


class _Chat(_Shape):
    logprobs: StrictBool | None = None
    messages: Annotated[list[_Message], Field(min_length=1, max_length=MOST_MESSAGES)]


class _Anthropic(_Chat):
    system: StrictStr | list[_Object] | None = None
    thinking: _Object | None = None


class _Completion(_Shape):
    prompt: _Input
    logprobs: Annotated[StrictInt, Field(ge=-1, le=1000)] | None = None


class _Embedding(_Shape):
    input: _Input
    dimensions: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    encoding_format: StrictStr | None = None


class _Response(_Shape):
    input: StrictStr | Annotated[list[_Object], Field(min_length=1, max_length=MOST_MESSAGES)]
    instructions: StrictStr | None = None
    previous_response_id: StrictStr | None = None


class _Rerank(_Shape):
    query: StrictStr
    documents: Annotated[list[StrictStr | _Object], Field(min_length=1)]
    top_n: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None


class _AddedInfo(BaseModel):
    model_config = ConfigDict(extra="ignore")

    lifecycle: None = None

    @field_validator("lifecycle", mode="before")
    @classmethod
    def _is_the_files(cls, value: Any) -> None:
        if value is not None:
            raise ValueError(_ONLY_IN_THE_FILE)


class _AddedModel(BaseModel):
    """What LiteLLM adds to its database while it runs."""

    model_config = ConfigDict(extra="ignore")

    model_info: _AddedInfo | None = None


#: By the end of the path; the first that fits counts.
_SHAPES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("/chat/completions", _Chat),
    ("/completions", _Completion),
    ("/embeddings", _Embedding),
    ("/responses", _Response),
    ("/v1/messages", _Anthropic),
    ("/rerank", _Rerank),
    *((path, _AddedModel) for path in _ADDS_A_MODEL),
)
_TAKES_A_FORM = "/audio/transcriptions"


def takes_json(path: str) -> bool:
    """Whether `path` takes a JSON object that is checked: the addresses of models, and those that add one."""
    return path.endswith(tuple(ending for ending, _ in _SHAPES))


def is_for_a_model(path: str) -> bool:
    """Whether a POST to `path` is for a model, so that its errors have OpenAI's form."""
    return (takes_json(path) and not path.endswith(_ADDS_A_MODEL)) or path.endswith(_TAKES_A_FORM)


def check_kind(path: str, content_type: str | None) -> Fault | None:
    """What is wrong with the kind of a body, before it has come. LiteLLM would read a form where JSON is meant, and
    the other way round."""
    is_form = (content_type or "").lower().startswith(_FORMS)
    if takes_json(path) and is_form:
        return Fault("This address takes JSON: send it with Content-Type: application/json.", status=415)
    if path.endswith(_TAKES_A_FORM) and not is_form:
        return Fault("This address takes a form with a file: send it as multipart/form-data.", status=415)
    return None


def check_body(path: str, body: bytes) -> Fault | None:
    """What is wrong with the whole body of a request to an address that takes JSON; None when nothing is."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Fault(f"The request body is not JSON: {error}.")
    if not isinstance(document, dict):
        return Fault("The request body is not a JSON object.")
    shape = next(shape for ending, shape in _SHAPES if path.endswith(ending))
    try:
        shape.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where, what = _explain(fault["loc"], fault["msg"].removeprefix("Value error, "))
        return Fault(f"{where}: {what}", where)
    return None


def _explain(location: tuple[int | str, ...], message: str) -> tuple[str, str]:
    """The fault's place in the request. Behind a choice of types Pydantic names the type it tried, not a key."""
    where = str(location[0])
    for part in location[1:]:
        if isinstance(part, int):
            where += f"[{part}]"
        elif part in (*_Message.model_fields, "lifecycle"):
            where += f".{part}"
        else:
            return where, "is of the wrong type"
    if "instance of" in message:
        message = "is an object"
    return where, message[0].lower() + message[1:]

"""Request bodies: read as JSON, with the types and limits that vLLM demands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from router.engine_simulator.api_errors import RefusedError, invalid, out_of_range, unknown_model
from router.engine_simulator.tokens import count_tokens

if TYPE_CHECKING:
    from router.engine_simulator.options import Options

_MESSAGE_OVERHEAD = 3
"""Tokens a chat template adds to each message."""
_PICTURE_TOKENS = 256


class Body:
    """A JSON object with typed access. Every method raises RefusedError when a field is not as it must be."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    @classmethod
    def read(cls, content_type: str, raw: bytes) -> Body:
        """Read the bytes of a request."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            problem = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
            raise RefusedError(problem, kind="Bad Request")
        try:
            fields = json.loads(raw)
        except json.JSONDecodeError as error:
            raise invalid(str(error.pos), "JSON decode error", "json_invalid") from None
        except (UnicodeDecodeError, RecursionError):
            raise RefusedError("There was an error parsing the body") from None
        if not isinstance(fields, dict):
            raise invalid("", "Input should be a valid dictionary or object to extract fields from",
                          "model_attributes_type")  # fmt: skip
        return cls(fields)

    def text(self, name: str, *, required: bool = False) -> str | None:
        """A string field."""
        value = self._present(name, required=required)
        if value is not None and not isinstance(value, str):
            raise invalid(name, "Input should be a valid string", "string_type")
        return value

    def whole(self, name: str, *, required: bool = False) -> int | None:
        """An integer field; text of digits counts as one, as in vLLM."""
        value = self._present(name, required=required)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, str) and value.strip().removeprefix("-").isdecimal() and len(value) < 19:
            return int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)
        raise invalid(name, "Input should be a valid integer", "int_parsing")

    def number(self, name: str) -> float | None:
        """A number field."""
        value = self.fields.get(name)
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        try:
            return float(value)
        except (TypeError, ValueError):
            raise invalid(name, "Input should be a valid number", "float_parsing") from None

    def flag(self, name: str) -> bool:
        """A boolean field; absent counts as false."""
        value = self.fields.get(name)
        words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False,
                 "off": False}  # fmt: skip
        if isinstance(value, str):
            value = words.get(value.lower(), value)
        elif isinstance(value, int) and value in (0, 1):
            value = bool(value)
        if value is not None and not isinstance(value, bool):
            raise invalid(name, "Input should be a valid boolean, unable to interpret input", "bool_parsing")
        return bool(value)

    def items(self, name: str, *, required: bool = False) -> list[Any] | None:
        """A list field."""
        value = self._present(name, required=required)
        if value is not None and not isinstance(value, list):
            raise invalid(name, "Input should be a valid list", "list_type")
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object field."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise invalid(name, "Input should be a valid dictionary", "dict_type")
        return value

    def messages(self) -> list[dict[str, Any]]:
        """The field `messages`: a list of objects with a role and a content of text or parts."""
        found: list[dict[str, Any]] = []
        for index, message in enumerate(self.items("messages", required=True) or []):
            if not isinstance(message, dict):
                raise invalid(f"messages.{index}", "Input should be a valid dictionary", "dict_type")
            if not isinstance(message.get("role"), str):
                raise invalid(f"messages.{index}.role", "Field required", "missing")
            if not isinstance(message.get("content"), (str, list, type(None))):
                raise invalid(f"messages.{index}.content", "Input should be a valid string", "string_type")
            found.append(message)
        return found

    def check_model(self, options: Options, *, required: bool = False) -> None:
        """Refuse a model that is not served; without one the served model is meant."""
        model = self.text("model", required=required)
        if model and model not in options.served_model_names:
            raise unknown_model(model, options.served_model_names)

    def check_sampling(self) -> None:
        """Refuse sampling values out of range."""
        temperature = self.number("temperature")
        if temperature is not None and temperature < 0:
            message = f"temperature must be non-negative, got {float(temperature)}."
            raise out_of_range("temperature", message, float(temperature))

    def _present(self, name: str, *, required: bool) -> Any:
        if required and name not in self.fields:
            raise invalid(name, "Field required", "missing")
        value = self.fields.get(name)
        if required and value is None:
            raise invalid(name, "Input should not be null", "none_not_allowed")
        return value


def check_length(options: Options, prompt_tokens: int) -> None:
    """Refuse a prompt that does not fit the context."""
    limit = options.max_model_len
    if prompt_tokens >= limit:
        message = (
            f"This model's maximum context length is {limit} tokens. However, your prompt contains at least "
            f"{limit + 1} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt."
        )
        raise out_of_range("input_tokens", message, limit + 1)


def answer_length(options: Options, prompt_tokens: int, limit: int | None, name: str) -> int:
    """How many tokens may be produced. `limit` is the caller's, from the field `name`."""
    most = options.max_model_len
    if limit is not None and limit < 1:
        raise out_of_range("max_tokens", f"max_tokens must be at least 1, got {limit}.", limit)
    if limit is not None and limit > most:
        message = f"{name}={limit} cannot be greater than max_model_len={most}. Please request fewer output tokens."
        raise out_of_range(name, message, limit)
    check_length(options, prompt_tokens)
    wanted = options.answer_tokens if limit is None or options.answers_end else limit
    return min(wanted, limit or wanted, most - prompt_tokens)


def is_cut(options: Options, length: int, limit: int | None) -> bool:
    """Whether the caller's limit ends an answer of that length."""
    return limit is not None and (length >= limit or not options.answers_end)


def content_text(content: object) -> str:
    """The text in a message's content, which is text itself or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(
        part if isinstance(part, str) else str(part.get("text") or part.get("content") or "")
        for part in parts
        if isinstance(part, (str, dict))
    )


def conversation_tokens(messages: list[dict[str, Any]]) -> int:
    """How many tokens a conversation is, with what a template adds."""
    total = 1
    for message in messages:
        content = message.get("content")
        total += _MESSAGE_OVERHEAD + count_tokens(content_text(content))
        if isinstance(content, list):
            total += sum(
                _PICTURE_TOKENS for part in content if isinstance(part, dict) and "image" in str(part.get("type"))
            )
        if message.get("tool_calls"):
            total += count_tokens(json.dumps(message["tool_calls"]))
    return total

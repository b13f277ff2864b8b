"""Requests that are refused, and the two JSON forms that vLLM gives its errors."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """A request that the engine does not take; answered with `status` and a JSON document."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def document(self, *, anthropic: bool = False) -> dict[str, Any]:
        """The body, in OpenAI's form or, for /v1/messages, in Anthropic's."""
        if anthropic and self.kind != "Bad Request":
            return {"type": "error", "error": {"type": self.kind, "message": str(self)}}
        return error_document(str(self), self.status, self.kind, self.param)


def error_document(message: str, status: int, kind: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's form of an error, with vLLM's fields."""
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def invalid(param: str, problem: str, kind: str = "value_error") -> RefusedError:
    """The refusal of a body that has not the right types; `param` is the path of the field."""
    where = f"body.{param}" if param else "body"
    message = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{where}', 'msg': '{problem}'}}"
    return RefusedError(message, kind="Bad Request", param=where)


def out_of_range(name: str, message: str, value: object) -> RefusedError:
    """The refusal of a value that has the right type and yet cannot be served."""
    return RefusedError(f"{message} (parameter={name}, value={value})", param=name)


def unknown_model(model: str, known: tuple[str, ...]) -> RefusedError:
    """The refusal of a model that is not served here."""
    message = f"The model `{model}` does not exist. Valid aliases: {', '.join(known)}."
    return RefusedError(message, status=404, kind="NotFoundError", param="model")

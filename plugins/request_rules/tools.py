"""Tools by what the model can do with them: left to it, left out, refused, or forced."""

from __future__ import annotations

from typing import Any

from plugins.request_rules.request import Request, Shape, parts_of
from router.errors import Unfit
from router.request_rules import RequestRules

#: Everything that speaks of tools, in every shape.
TOOL_PARAMETERS = frozenset(
    {"tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "functions", "function_call"}
)

_FORCED: dict[Shape, Any] = {Shape.CHAT: "required", Shape.RESPONSES: "required", Shape.MESSAGES: {"type": "any"}}
_FREE = (None, "auto", {"type": "auto"})


def has_tools(request: Request) -> bool:
    """Whether the model is offered any tool."""
    return any(given.get(name) for given in (request.data, request.extra) for name in ("tools", "functions"))


def apply(request: Request, rules: RequestRules) -> Request:
    """Raises Unfit for tools that are refused."""
    if rules.tools == "native":
        return request
    if rules.tools == "refuse":
        if has_tools(request):
            raise Unfit("This model cannot use tools. Leave `tools` out, or ask another model.",
                        param="tools", code="unsupported_parameter")  # fmt: skip
        return request
    if rules.tools == "strip":
        found = TOOL_PARAMETERS.intersection((*request.data, *request.extra))
        return request.changed("tools removed", without=found) if found else request
    return _forced(request)


def _forced(request: Request) -> Request:
    if request.shape not in _FORCED or not request.data.get("tools"):
        return request
    if request.data.get("tool_choice") not in _FREE or _has_result(request):
        return request
    return request.changed("tool_choice=required", values={"tool_choice": _FORCED[request.shape]})


def _has_result(request: Request) -> bool:
    """Whether a tool has been called already: who is forced for ever never comes to an answer."""
    if request.data.get("previous_response_id"):
        return True  # the engine knows the conversation, we do not
    return any(
        item.get("role") in ("tool", "function")
        or item.get("type") == "function_call_output"
        or any(part.get("type") == "tool_result" for part in parts_of(item.get("content")))
        for item in request.conversation
        if isinstance(item, dict)
    )

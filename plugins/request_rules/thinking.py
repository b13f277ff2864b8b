"""Whether the model thinks before it answers, told in the way that its chat template understands.

Clients say it in many ways: `chat_template_kwargs`, `reasoning_effort`, `reasoning`, Anthropic's `thinking`, or the
template's own word at the top level. What is said most plainly counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from plugins.request_rules.request import Request, Shape
from router.request_rules import RequestRules

#: For models with a switch and no mapping of their own. An unknown effort is dropped.
_EFFORTS: dict[str, bool | str] = {
    "none": False, "minimal": False, "low": True, "medium": True, "high": True, "xhigh": True,
    "max": True, "auto": True,
}  # fmt: skip


def apply(request: Request, rules: RequestRules) -> Request:
    """The request with the model's own switch set, and without the ways of saying it that the switch replaces."""
    if (rules.thinking is None and rules.reasoning_effort is None) or request.shape is Shape.COMPLETION:
        return request
    request, effort = _effort(request, rules)
    if rules.thinking is None:
        return request
    name = rules.thinking.chat_template_kwarg
    kwargs = _kwargs(request)
    said = (kwargs.get(name), _switch(request.data.get("thinking")), _switch(request.data.get(name)), effort)
    wish = next((value for value in said if value is not None), rules.thinking.default)
    if wish is None:
        return request
    replaced = [key for key in ("thinking", name) if key in request.data]
    if kwargs.get(name) == wish and not replaced and _arrives(request):
        return request
    return _with_kwargs(request, {**kwargs, name: wish}, f"thinking={'on' if wish else 'off'}", replaced)


def _effort(request: Request, rules: RequestRules) -> tuple[Request, bool | None]:
    """The request with its effort renamed or taken out; and whether that effort means to think."""
    given = _efforts_of(request.data)
    wish = None
    mapping = _EFFORTS if rules.reasoning_effort is None else cast("Mapping[str, bool | str]", rules.reasoning_effort)
    for place, value in given.items():
        meant = mapping.get(value) if isinstance(value, str) else None
        if meant is None and value in mapping.values():
            meant = value  # what others become, the model takes
        if not isinstance(meant, str):
            request = _set_effort(request, place, None, "reasoning_effort removed")
        elif meant != value:
            request = _set_effort(request, place, meant, f"reasoning_effort={meant}")
        if wish is None and meant is not None:
            wish = meant is not False
    return request, wish


def _efforts_of(data: dict[str, Any]) -> dict[str, Any]:
    """Each place where an effort is given, and that effort."""
    found: dict[str, Any] = {}
    top = data.get("reasoning_effort")
    if top is not None:
        found["reasoning_effort"] = top.get("effort") if isinstance(top, dict) else top
    for place in ("reasoning", "output_config"):
        inner = data.get(place)
        if isinstance(inner, dict) and inner.get("effort") is not None:
            found[place] = inner["effort"]
    return found


def _set_effort(request: Request, place: str, effort: str | None, change: str) -> Request:
    if place == "reasoning_effort":
        left: Any = effort
    else:
        rest = {key: value for key, value in request.data[place].items() if key != "effort"}
        left = rest if effort is None else {**rest, "effort": effort}
    return request.changed(change, values={place: left}) if left else request.changed(change, without=[place])


def _switch(thinking: Any) -> bool | None:
    """What Anthropic's `thinking`, or a bare boolean of that name, says."""
    if isinstance(thinking, dict):
        return {"enabled": True, "adaptive": True, "disabled": False}.get(str(thinking.get("type")))
    return thinking if isinstance(thinking, bool) else None


def _kwargs(request: Request) -> dict[str, Any]:
    """The client's own `chat_template_kwargs`; LiteLLM lets the outer ones win."""
    extra = request.data.get("extra_body")
    inner = extra.get("chat_template_kwargs") if isinstance(extra, dict) else None
    outer = request.data.get("chat_template_kwargs")
    return {**(inner if isinstance(inner, dict) else {}), **(outer if isinstance(outer, dict) else {})}


def _arrives(request: Request) -> bool:
    """Whether the request's `chat_template_kwargs` stand where LiteLLM passes them on: at one address it passes only
    OpenAI's own parameters, and `extra_body`."""
    return request.shape is not Shape.RESPONSES or "chat_template_kwargs" not in request.data


def _with_kwargs(request: Request, kwargs: dict[str, Any], change: str, without: list[str]) -> Request:
    if request.shape is not Shape.RESPONSES:
        return request.changed(change, values={"chat_template_kwargs": kwargs}, without=without)
    extra = request.data.get("extra_body")
    extra = {**(extra if isinstance(extra, dict) else {}), "chat_template_kwargs": kwargs}
    return request.changed(change, values={"extra_body": extra}, without=[*without, "chat_template_kwargs"])

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
    """The request with its effort as the model knows it, in the one place where it arrives; and whether that effort
    means to think."""
    given = _efforts_of(request.data)
    mapping = _EFFORTS if rules.reasoning_effort is None else cast("Mapping[str, bool | str]", rules.reasoning_effort)
    meant = next((found for value in given.values() if (found := _meant(value, mapping)) is not None), None)
    effort = meant if isinstance(meant, str) else None
    place = "reasoning" if request.shape is Shape.RESPONSES else "reasoning_effort"
    if given != ({} if effort is None else {place: effort}):
        change = "reasoning_effort removed" if effort is None else f"reasoning_effort={effort}"
        for other in given.keys() - {place}:
            request = _set_effort(request, other, None, change)
        request = _set_effort(request, place, effort, change)
    return request, None if meant is None else meant is not False


def _meant(value: Any, mapping: Mapping[str, bool | str]) -> bool | str | None:
    """What becomes of an effort; None when the model knows nothing like it."""
    if isinstance(value, dict):
        value = value.get("effort")
    if not isinstance(value, str):
        return None
    # what others become, the model takes
    return mapping.get(value, value if value in mapping.values() else None)


def _efforts_of(data: dict[str, Any]) -> dict[str, Any]:
    """Each place where an effort is given, and that effort. Some clients send their own setting's name as it is."""
    found = {place: data[place] for place in ("reasoning_effort", "reasoningEffort") if data.get(place) is not None}
    for place in ("reasoning", "output_config"):
        inner = data.get(place)
        if isinstance(inner, dict) and inner.get("effort") is not None:
            found[place] = inner["effort"]
    return found


def _set_effort(request: Request, place: str, effort: str | None, change: str) -> Request:
    left: Any = effort
    if place in ("reasoning", "output_config"):
        inner = request.data.get(place)
        rest = {key: value for key, value in inner.items() if key != "effort"} if isinstance(inner, dict) else {}
        left = rest if effort is None else {**rest, "effort": effort}
    return request.changed(change, values={place: left}) if left else request.changed(change, without=[place])


def _switch(thinking: Any) -> bool | None:
    """What Anthropic's `thinking`, or a bare boolean of that name, says."""
    if isinstance(thinking, dict):
        return {"enabled": True, "adaptive": True, "disabled": False}.get(str(thinking.get("type")))
    return thinking if isinstance(thinking, bool) else None


def _kwargs(request: Request) -> dict[str, Any]:
    """The client's own `chat_template_kwargs`; LiteLLM lets the outer ones win."""
    inner = request.extra.get("chat_template_kwargs")
    outer = request.data.get("chat_template_kwargs")
    return {**(inner if isinstance(inner, dict) else {}), **(outer if isinstance(outer, dict) else {})}


def _arrives(request: Request) -> bool:
    """Whether the request's `chat_template_kwargs` stand where LiteLLM passes them on: at one address it passes only
    OpenAI's own parameters, and `extra_body`."""
    return request.shape is not Shape.RESPONSES or "chat_template_kwargs" not in request.data


def _with_kwargs(request: Request, kwargs: dict[str, Any], change: str, without: list[str]) -> Request:
    if request.shape is not Shape.RESPONSES:
        return request.changed(change, values={"chat_template_kwargs": kwargs}, without=without)
    extra = {**request.extra, "chat_template_kwargs": kwargs}
    return request.changed(change, values={"extra_body": extra}, without=[*without, "chat_template_kwargs"])

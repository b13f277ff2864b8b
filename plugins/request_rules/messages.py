"""The form of a conversation, for chat templates that take fewer forms than the API: text in one piece, turns that
alternate, no system role.

Nothing of a conversation is lost: neither a tool call nor its result, no image, no word, and no order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from plugins.request_rules.request import TEXT_PARTS, Request, Shape
from router.request_rules import RequestRules

#: Between texts that become one: within a message as vLLM itself joins them, and between messages.
_JOINT, _GAP = "\n", "\n\n"

_SYSTEM = ("system", "developer")
_INSTRUCTIONS = {Shape.MESSAGES: "system", Shape.RESPONSES: "instructions"}
#: A message with anything but these is not merged: nobody would know how. (LiteLLM leaves cache_control out.)
_MERGEABLE = frozenset({
    "role", "content", "name", "tool_calls", "reasoning", "reasoning_content", "type", "id", "status", "cache_control",
})  # fmt: skip


def apply(request: Request, rules: RequestRules) -> Request:
    """The conversation in the form that the model's chat template takes."""
    if rules.flatten_text:
        request = _flattened(request)
    if rules.system_role == "user":
        request = _without_system(request)
    if rules.alternate_roles:
        request = _alternating(request)
    return request


def _with(request: Request, conversation: list[Any], change: str) -> Request:
    if conversation == list(request.conversation):
        return request
    return request.changed(change, values={request.where: conversation})


# --- text in one piece


def _flattened(request: Request) -> Request:
    flat = [_flat(item) for item in request.conversation]
    request = _with(request, flat, "text parts joined")
    if request.shape is Shape.MESSAGES and isinstance(system := request.data.get("system"), list):
        text = _text(system)
        if text is not None:
            return request.changed("text parts joined", values={"system": text})
    return request


def _flat(item: Any) -> Any:
    text = _text(item.get("content")) if isinstance(item, dict) else None
    return item if text is None else {**item, "content": text}


def _text(content: Any) -> str | None:
    """The parts of a content as one text; None when some part is none, or when there is nothing to join."""
    if not isinstance(content, list) or not content:
        return None
    texts = [part if isinstance(part, str) else _text_of(part) for part in content]
    return None if None in texts else _JOINT.join(text for text in texts if text is not None)


def _text_of(part: Any) -> str | None:
    if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


# --- no system role


def _without_system(request: Request) -> Request:
    """System text in front of the first user message after it."""
    change = "system text moved to the user"
    name = _INSTRUCTIONS.get(request.shape)
    instructions = request.data.get(name) if name else None
    items: list[Any] = list(request.conversation)
    if name and instructions:
        bare = request.data.get(request.where)
        items = items or [{"role": "user", "content": bare}]
        items = [{"role": "system", "content": instructions}, *items]
        request = request.changed(change, without=[name])
    return _with(request, list(_system_moved(items, request.shape)), change)


def _system_moved(items: Iterable[Any], shape: Shape) -> Iterator[Any]:
    held: Any = None
    for item in items:
        if _role(item) in _SYSTEM and _is_mergeable(item):
            as_user = {**item, "role": "user"}
            held = as_user if held is None else _merged(held, as_user, shape)
            continue
        if held is not None and _role(item) == "user" and _is_mergeable(item):
            yield _merged(held, item, shape)
        else:
            yield from (each for each in (held, item) if each is not None)
        held = None
    if held is not None:
        yield held


# --- turns


def _alternating(request: Request) -> Request:
    """Runs of the same role as one message. A system message that is not at the head joins the user's side, since such
    templates have no place for it; tools' results stay as they are, one for each call."""
    turns: list[Any] = []
    for each in request.conversation:
        item = each
        if _role(item) in _SYSTEM and any(_role(turn) not in _SYSTEM for turn in turns):
            item = {**item, "role": "user"}
        if turns and _is_same_side(turns[-1], item):
            turns[-1] = _merged(turns[-1], item, request.shape)
        else:
            turns.append(item)
    return _with(request, turns, "messages merged")


def _is_same_side(one: Any, other: Any) -> bool:
    sides = {"developer": "system"}
    role = sides.get(_role(one), _role(one))
    if role not in ("system", "user", "assistant") or role != sides.get(_role(other), _role(other)):
        return False
    if one.get("tool_calls") and other.get("content"):
        return False  # within one message the words would stand before the calls that they followed
    return _is_mergeable(one) and _is_mergeable(other)


def _role(item: Any) -> str:
    """The role of a message; empty for other items, such as a tool's call or result among the items of an input."""
    if not isinstance(item, dict) or item.get("type", "message") != "message":
        return ""
    return str(item.get("role") or "")


def _is_mergeable(item: dict[str, Any]) -> bool:
    content, calls = item.get("content"), item.get("tool_calls")
    if not isinstance(content, str | list | None) or not isinstance(calls, list | None):
        return False
    return all(key in _MERGEABLE or value in (None, [], {}, "") for key, value in item.items())


def _merged(one: dict[str, Any], other: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """Both messages as one of the first one's role."""
    whole = {**other, **one, "content": _joined(one.get("content"), other.get("content"), one["role"], shape)}
    if one.get("name") != other.get("name"):
        whole.pop("name", None)
    calls = [*(one.get("tool_calls") or ()), *(other.get("tool_calls") or ())]
    if calls:
        whole["tool_calls"] = calls
    for key in ("reasoning", "reasoning_content"):
        thoughts = [each[key] for each in (one, other) if isinstance(each.get(key), str) and each[key]]
        if thoughts:
            whole[key] = _GAP.join(thoughts)
    return whole


def _joined(one: Any, other: Any, role: str, shape: Shape) -> Any:
    if not one or not other:
        return one or other
    if isinstance(one, str) and isinstance(other, str):
        return one + _GAP + other
    return [*_parts(one, role, shape), *_parts(other, role, shape)]


def _parts(content: str | Sequence[Any], role: str, shape: Shape) -> Sequence[Any]:
    if not isinstance(content, str):
        return content
    kind = "text"
    if shape is Shape.RESPONSES:
        kind = "output_text" if role == "assistant" else "input_text"
    return [{"type": kind, "text": content}]

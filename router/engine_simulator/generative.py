"""What the four generating APIs ask for: their bodies checked, and the answer drafted in their shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.engine_simulator.answers import Draft, Shape, draft, tools_tokens, wanted_tool
from router.engine_simulator.api_errors import RefusedError, invalid, out_of_range
from router.engine_simulator.body import Body, answer_length, content_text, conversation_tokens, is_cut
from router.engine_simulator.chat_shape import ChatShape, CompletionShape
from router.engine_simulator.messages_shape import MessagesShape
from router.engine_simulator.responses_shape import ResponsesShape
from router.engine_simulator.tokens import count_tokens

if TYPE_CHECKING:
    from router.engine_simulator.options import Options

_MOST_CHOICES = 128


@dataclass(frozen=True)
class Prepared:
    """A request that is accepted."""

    draft: Draft
    shape: Shape
    stream: bool


def chat(body: Body, options: Options) -> Prepared:
    """/v1/chat/completions."""
    messages, tools, stream = body.messages(), body.items("tools"), body.flag("stream")
    for index, tool in enumerate(tools or []):
        if not isinstance(tool, dict) or not isinstance(tool.get("function"), dict):
            raise invalid(f"tools.{index}.function", "Field required", "missing")
    usage, continuous = _stream_options(body, stream=stream)
    long, short, width = body.whole("max_completion_tokens"), body.whole("max_tokens"), _width(body)
    body.check_model(options)
    body.check_sampling()
    _check_conversation(messages)
    if tools == []:
        message = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        raise RefusedError(f"{message} (parameter=tools)", param="tools")
    choice = body.fields.get("tool_choice")
    tool = wanted_tool(tools, choice)
    if messages[-1]["role"] == "tool":
        tool = None
    name, limit = ("max_tokens", short) if long is None else ("max_completion_tokens", long)
    prompt_tokens = conversation_tokens(messages) + tools_tokens(tools)
    length = answer_length(options, prompt_tokens, limit, name)
    made = draft(_seed(messages), prompt_tokens=prompt_tokens, length=length, limited=is_cut(options, length, limit),
                 width=width, tool=tool)  # fmt: skip
    shape = ChatShape(made, options.model, usage, continuous, tool_choice_named=isinstance(choice, dict))
    return Prepared(made, shape, stream)


def completion(body: Body, options: Options) -> Prepared:
    """/v1/completions."""
    prompts = _prompts(body.fields.get("prompt"))
    stream, echo, limit, width = body.flag("stream"), body.flag("echo"), body.whole("max_tokens"), _width(body)
    usage, continuous = _stream_options(body, stream=stream)
    body.check_model(options)
    body.check_sampling()
    if not prompts or not all(prompts):
        message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
        raise RefusedError(message, param="prompt")
    longest = max(_length_of(prompt) for prompt in prompts)
    # The older API's own default is 16.
    length = answer_length(options, longest, 16 if limit is None else limit, "max_tokens")
    made = draft(_seed(prompts), prompt_tokens=sum(_length_of(prompt) for prompt in prompts), length=length,
                 limited=True, width=len(prompts) * width)  # fmt: skip
    echoes = [prompt if isinstance(prompt, str) else "" for prompt in prompts for _ in range(width)] if echo else []
    return Prepared(made, CompletionShape(made, options.model, usage, continuous, echoes=echoes), stream)


def responses(body: Body, options: Options) -> Prepared:
    """/v1/responses."""
    given = body.fields.get("input")
    if "input" not in body.fields:
        raise invalid("input", "Field required", "missing")
    if not isinstance(given, (str, list)):
        raise invalid("input", "Input should be a valid string", "string_type")
    tools, stream, limit = body.items("tools"), body.flag("stream"), body.whole("max_output_tokens")
    instructions = body.text("instructions")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    for index, item in enumerate(items):
        if not isinstance(item, (dict, str)):
            raise invalid(f"input.{index}", "Input should be a valid dictionary", "dict_type")
    body.check_model(options)
    body.check_sampling()
    messages = [
        {"role": item.get("role") or "tool",
         "content": next((item[key] for key in ("content", "output", "arguments") if item.get(key)), None)}
        if isinstance(item, dict) else {"role": "user", "content": item}
        for item in items
    ]  # fmt: skip
    _check_conversation(messages)
    functions = [tool for tool in tools or [] if isinstance(tool, dict) and tool.get("type", "function") == "function"]
    tool = wanted_tool(functions or None, body.fields.get("tool_choice") if functions else None)
    if isinstance(items[-1], dict) and items[-1].get("type") == "function_call_output":
        tool = None
    prompt_tokens = conversation_tokens(messages) + tools_tokens(tools) + count_tokens(instructions or "")
    length = answer_length(options, prompt_tokens, limit, "max_output_tokens")
    made = draft(
        _seed(items), prompt_tokens=prompt_tokens, length=length, limited=is_cut(options, length, limit), tool=tool
    )
    return Prepared(made, ResponsesShape(made, options.model, body.fields), stream)


def messages(body: Body, options: Options) -> Prepared:
    """/v1/messages."""
    conversation, tools, stream = body.messages(), body.items("tools"), body.flag("stream")
    choice, limit = body.mapping("tool_choice"), body.whole("max_tokens", required=True)
    body.text("model", required=True)
    if limit is not None and limit < 1:
        raise invalid("max_tokens", "Value error, max_tokens must be positive")
    body.check_model(options)
    body.check_sampling()
    _check_conversation(conversation)
    tool = wanted_tool(tools or None, choice if tools else None)
    last = conversation[-1].get("content")
    if isinstance(last, list) and any(isinstance(part, dict) and part.get("type") == "tool_result" for part in last):
        tool = None
    prompt_tokens = message_tokens(body)
    length = answer_length(options, prompt_tokens, limit, "max_completion_tokens")
    made = draft(
        _seed(conversation),
        prompt_tokens=prompt_tokens,
        length=length,
        limited=is_cut(options, length, limit),
        tool=tool,
    )
    return Prepared(made, MessagesShape(made, options.model), stream)


def message_tokens(body: Body) -> int:
    """The tokens of an Anthropic conversation: messages, system text and tools."""
    system = content_text(body.fields.get("system"))
    return conversation_tokens(body.messages()) + count_tokens(system) + tools_tokens(body.items("tools"))


def _check_conversation(conversation: list[dict[str, Any]]) -> None:
    if not conversation:
        raise RefusedError("Cannot apply chat template to an empty conversation. Provide at least one message.")


def _stream_options(body: Body, *, stream: bool) -> tuple[bool, bool]:
    found = body.mapping("stream_options")
    if found is None:
        return False, False
    if not stream:
        message = "Stream options can only be defined when `stream=True`. (parameter=stream_options)"
        raise RefusedError(message, param="stream_options")
    usage = Body(found).flag("include_usage")
    return usage, usage and Body(found).flag("continuous_usage_stats")


def _width(body: Body) -> int:
    width = body.whole("n")
    if width is not None and width < 1:
        raise RefusedError(f"n must be at least 1, got {width}.")
    if width is not None and width > _MOST_CHOICES:
        raise out_of_range("n", f"n must be at most {_MOST_CHOICES}, got {width}.", width)
    return width or 1


def _prompts(prompt: object) -> list[str | list[int]]:
    if prompt is None:
        return []
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(isinstance(each, str) for each in prompt):
            return prompt
        if all(_is_token(each) for each in prompt):
            return [prompt]
        if all(isinstance(each, list) and all(_is_token(token) for token in each) for each in prompt):
            return prompt
    elif prompt == []:
        return []
    raise invalid("prompt", "Input should be a valid string", "string_type")


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _length_of(prompt: str | list[int]) -> int:
    return count_tokens(prompt) if isinstance(prompt, str) else len(prompt)


def _seed(asked: object) -> str:
    return json.dumps(asked, sort_keys=True, default=str)

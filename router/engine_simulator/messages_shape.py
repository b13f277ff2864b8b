"""/v1/messages: Anthropic's form, as vLLM speaks it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.engine_simulator.answers import Draft, named_event, new_id

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


@dataclass
class MessagesShape:
    """A message with one block: text or the use of a tool."""

    draft: Draft
    model: str
    id: str = field(default_factory=lambda: new_id("chatcmpl-"))
    eager: ClassVar[bool] = False

    def opening(self) -> list[str]:
        """The message begins, empty, and its block."""
        usage = {"input_tokens": self.draft.prompt_tokens, "output_tokens": 0}
        message: dict[str, Any] = {
            "id": self.id, "type": "message", "role": "assistant", "content": [], "model": self.model,
            "stop_reason": None, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        block: dict[str, Any] = {"type": "text", "text": ""}
        if self.draft.tool:
            block = {"type": "tool_use", "id": self.draft.tool_call_id, "name": self.draft.tool.name, "input": {}}
        return [named_event({"type": "message_start", "message": message}),
                named_event({"type": "content_block_start", "content_block": block, "index": 0})]  # fmt: skip

    def step(self, index: int) -> list[str]:
        """One token."""
        token = self.draft.choices[0][index]
        delta = {"type": "text_delta", "text": token}
        if self.draft.tool:
            delta = {"type": "input_json_delta", "partial_json": token}
        return [named_event({"type": "content_block_delta", "delta": delta, "index": 0})]

    def closing(self, reason: str, produced: int) -> list[str]:
        """The ends of block and message."""
        usage = {"input_tokens": self.draft.prompt_tokens, "output_tokens": produced}
        delta = {"stop_reason": self._stop_reason(reason), "stop_sequence": None}
        return [named_event({"type": "content_block_stop", "index": 0}),
                named_event({"type": "message_delta", "delta": delta, "usage": usage}),
                named_event({"type": "message_stop"})]  # fmt: skip

    def failure(self, message: str) -> list[str] | None:
        """An error event is the last one."""
        return [named_event({"type": "error", "error": {"type": "internal_error", "message": message}})]

    def document(self, reason: str, produced: int) -> dict[str, Any]:
        """The message."""
        text = "".join(self.draft.choices[0][:produced])
        block: dict[str, Any] = {"type": "text", "text": text}
        if self.draft.tool:
            block = {"type": "tool_use", "id": self.draft.tool_call_id, "name": self.draft.tool.name,
                     "input": _arguments(text)}  # fmt: skip
        document = {"id": self.id, "type": "message", "role": "assistant", "content": [block], "model": self.model}
        if stop_reason := self._stop_reason(reason):
            document["stop_reason"] = stop_reason
        return {**document, "usage": {"input_tokens": self.draft.prompt_tokens, "output_tokens": produced}}

    def _stop_reason(self, reason: str) -> str | None:
        return "tool_use" if self.draft.tool and reason == "stop" else _STOP_REASONS.get(reason)


def _arguments(text: str) -> dict[str, Any]:
    """A call that was cut has arguments that cannot be read; it gets none."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}

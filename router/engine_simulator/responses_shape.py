"""/v1/responses: OpenAI's newer form, whose stream is a numbered series of typed events."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.engine_simulator.answers import Draft, named_event, new_id


@dataclass
class ResponsesShape:
    """A response with one item: a message or a function call."""

    draft: Draft
    model: str
    request: dict[str, Any]
    """The request's fields; some are repeated in the answer."""
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = field(default_factory=lambda: new_id("resp_"))
    item_id: str = ""
    eager: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.item_id = self.item_id or new_id("fc_" if self.draft.tool else "msg_")
        self._sequence = 0

    def opening(self) -> list[str]:
        """The response begins, empty."""
        response = self._response("in_progress", [], None, None)
        return [self._event("response.created", response=response),
                self._event("response.in_progress", response=response)]  # fmt: skip

    def step(self, index: int) -> list[str]:
        """One token; the item, and for text its part, are announced before the first."""
        events: list[str] = []
        if index == 0:
            events.append(self._event("response.output_item.added", item=self._item("", "in_progress"), output_index=0))
        token = self.draft.choices[0][index]
        if self.draft.tool:
            kind = "response.function_call_arguments.delta"
            return [*events, self._event(kind, delta=token, item_id=self.item_id, output_index=0)]
        if index == 0:
            part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
            events.append(self._part_event("response.content_part.added", part=part))
        return [*events, self._part_event("response.output_text.delta", delta=token, logprobs=[])]

    def closing(self, reason: str, produced: int) -> list[str]:
        """The whole text once more, on each level, and the response itself."""
        text = self._text(produced)
        item = self._item(text, "completed")
        events: list[str] = []
        if produced and self.draft.tool:
            events = [self._event("response.function_call_arguments.done", arguments=text, item_id=self.item_id,
                                  output_index=0, name=self.draft.tool.name)]  # fmt: skip
        elif produced:
            events = [self._part_event("response.output_text.done", text=text, logprobs=[]),
                      self._part_event("response.content_part.done", part=self._part(text))]  # fmt: skip
        if produced:
            events.append(self._event("response.output_item.done", item=item, output_index=0))
        # vLLM says `completed` also when the limit cut the answer; the status inside tells the difference.
        return [*events, self._event("response.completed", response=self.document(reason, produced))]

    def failure(self, message: str) -> list[str] | None:  # noqa: ARG002 - vLLM says nothing here
        """vLLM cuts the connection."""
        return None

    def document(self, reason: str, produced: int) -> dict[str, Any]:
        """The response."""
        output = [self._item(self._text(produced), "completed")] if produced else []
        usage = {
            "input_tokens": self.draft.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "input_tokens_per_turn": [],
                                     "cached_tokens_per_turn": []},
            "output_tokens": produced,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0, "output_tokens_per_turn": [],
                                      "tool_output_tokens_per_turn": []},
            "total_tokens": self.draft.prompt_tokens + produced,
        }  # fmt: skip
        if reason == "length":
            return self._response("incomplete", output, usage, {"reason": "max_output_tokens"})
        return self._response("completed", output, usage, None)

    def _text(self, produced: int) -> str:
        return "".join(self.draft.choices[0][:produced])

    def _event(self, kind: str, **fields: Any) -> str:
        document = {**fields, "sequence_number": self._sequence, "type": kind}
        self._sequence += 1
        return named_event(document)

    def _part_event(self, kind: str, **fields: Any) -> str:
        return self._event(kind, content_index=0, item_id=self.item_id, output_index=0, **fields)

    @staticmethod
    def _part(text: str) -> dict[str, Any]:
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}

    def _item(self, text: str, status: str) -> dict[str, Any]:
        if self.draft.tool:
            return {"arguments": text, "call_id": self.draft.tool_call_id, "name": self.draft.tool.name,
                    "type": "function_call", "id": self.item_id, "async": None, "caller": None, "namespace": None,
                    "status": status}  # fmt: skip
        content = [self._part(text)] if status == "completed" else []
        return {"id": self.item_id, "content": content, "role": "assistant", "status": status, "type": "message",
                "phase": None}  # fmt: skip

    def _response(
        self, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None, incomplete: dict[str, Any] | None
    ) -> dict[str, Any]:
        tools = self.request.get("tools") or []
        return {
            "id": self.id, "created_at": self.created, "incomplete_details": incomplete,
            "instructions": self.request.get("instructions"), "metadata": self.request.get("metadata"),
            "model": self.model, "object": "response", "output": output, "parallel_tool_calls": True,
            "temperature": self.request.get("temperature", 1.0),
            "tool_choice": self.request.get("tool_choice") or ("auto" if tools else "none"), "tools": tools,
            "top_p": self.request.get("top_p", 1.0), "background": False,
            "max_output_tokens": self.request.get("max_output_tokens"), "max_tool_calls": None,
            "previous_response_id": None, "prompt": None, "reasoning": None, "service_tier": "auto", "status": status,
            "text": None, "top_logprobs": None, "truncation": "disabled", "usage": usage, "user": None,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "kv_transfer_params": None, "ec_transfer_params": None,
            "input_messages": None, "output_messages": None,
        }  # fmt: skip

"""/v1/chat/completions and /v1/completions: OpenAI's two older forms, with the fields that vLLM adds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.engine_simulator.answers import FINGERPRINT, Draft, data_event, new_id

DONE = "data: [DONE]\n\n"


@dataclass
class _OpenAIShape:
    """What the two forms have in common: chunks, usage and the end of the stream."""

    draft: Draft
    model: str
    include_usage: bool = False
    continuous_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = ""
    eager: ClassVar[bool] = False
    prefix: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    chunk_kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        self.id = self.id or new_id(self.prefix)

    def usage(self, produced: int) -> dict[str, Any]:
        """Tokens in and out, all choices together."""
        total = produced * len(self.draft.choices)
        return {"prompt_tokens": self.draft.prompt_tokens, "total_tokens": self.draft.prompt_tokens + total,
                "completion_tokens": total}  # fmt: skip

    def chunk(self, choices: list[dict[str, Any]], produced: int, **more: Any) -> str:
        """One event of the stream."""
        document = {"id": self.id, "object": self.chunk_kind, "created": self.created, "model": self.model,
                    "choices": choices}  # fmt: skip
        if self.continuous_usage:
            document["usage"] = {**self.usage(produced), "completion_tokens_details": None}
        return data_event({**document, **more})

    def end(self, choices: list[dict[str, Any]], produced: int) -> list[str]:
        """The events that end a stream, one for each choice first."""
        if self.include_usage:
            events = [self.chunk([choice], produced) for choice in choices]
            usage = {"id": self.id, "object": self.chunk_kind, "created": self.created, "model": self.model,
                     "choices": [], "usage": self.usage(produced), "system_fingerprint": FINGERPRINT}  # fmt: skip
            return [*events, data_event(usage), DONE]
        return [*(self.chunk([choice], produced, system_fingerprint=FINGERPRINT) for choice in choices), DONE]

    def failure(self, message: str) -> list[str] | None:
        """vLLM puts the error into the stream and then ends it as if all were well."""
        error = {"message": message, "type": "InternalServerError", "param": None, "code": 500}
        return [data_event({"error": error}), DONE]

    def whole(self, choices: list[dict[str, Any]], produced: int, **more: Any) -> dict[str, Any]:
        """The answer that is not streamed."""
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        return {
            "id": self.id, "object": self.kind, "created": self.created, "model": self.model, "choices": choices,
            "service_tier": None, "system_fingerprint": FINGERPRINT, "usage": {**self.usage(produced), **details},
            **more, "kv_transfer_params": None, "ec_transfer_params": None, "metrics": None,
        }  # fmt: skip


@dataclass
class ChatShape(_OpenAIShape):
    """A chat completion."""

    tool_choice_named: bool = False
    """Whether the caller named the tool: then the finish reason is `stop`, as in OpenAI's API."""
    prefix: ClassVar[str] = "chatcmpl-"
    kind: ClassVar[str] = "chat.completion"
    chunk_kind: ClassVar[str] = "chat.completion.chunk"

    def opening(self) -> list[str]:
        """The role, for each choice."""
        choice = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [
            self.chunk([{"index": index, **choice}], 0, prompt_token_ids=None, prompt_text=None)
            for index in range(len(self.draft.choices))
        ]

    def step(self, index: int) -> list[str]:
        """One token of text, or of a tool's arguments (its name comes before the first)."""
        deltas: list[tuple[int, dict[str, Any]]] = []
        for number, tokens in enumerate(self.draft.choices):
            if self.draft.tool is None:
                deltas.append((number, {"content": tokens[index]}))
                continue
            if index == 0:
                call = {"id": self._call_id(number), "type": "function", "index": 0,
                        "function": {"name": self.draft.tool.name}}  # fmt: skip
                deltas.append((number, {"content": None, "tool_calls": [call]}))
            more = {"index": 0, "function": {"arguments": tokens[index]}}
            deltas.append((number, {"content": None, "tool_calls": [more]}))
        return [
            self.chunk([{"index": number, "delta": delta, "logprobs": None, "finish_reason": None,
                         "token_ids": None}], index + 1)
            for number, delta in deltas
        ]  # fmt: skip

    def closing(self, reason: str, produced: int) -> list[str]:
        """The finish reason, the usage if asked for, and the end."""
        choice: dict[str, Any] = {
            "delta": {}, "logprobs": None, "finish_reason": self._reason(reason), "stop_reason": None,
            "token_ids": None,
        }  # fmt: skip
        return self.end([{"index": index, **choice} for index in range(len(self.draft.choices))], produced)

    def document(self, reason: str, produced: int) -> dict[str, Any]:
        """The chat completion."""
        choices = []
        for index, tokens in enumerate(self.draft.choices):
            text = "".join(tokens[:produced])
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": None,
                                       "audio": None, "function_call": None, "reasoning": None}  # fmt: skip
            if self.draft.tool is not None:
                call = {"id": self._call_id(index), "type": "function",
                        "function": {"name": self.draft.tool.name, "arguments": text}}  # fmt: skip
                message = {**message, "content": "" if self.tool_choice_named else None, "tool_calls": [call]}
            choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": self._reason(reason),
                            "stop_reason": None, "token_ids": None, "routed_experts": None})  # fmt: skip
        return self.whole(choices, produced, prompt_logprobs=None, prompt_token_ids=None, prompt_text=None)

    def _reason(self, reason: str) -> str:
        return "tool_calls" if self.draft.tool and reason == "stop" and not self.tool_choice_named else reason

    def _call_id(self, index: int) -> str:
        return self.draft.tool_call_id if index == 0 else f"{self.draft.tool_call_id}-{index}"


@dataclass
class CompletionShape(_OpenAIShape):
    """A text completion."""

    echoes: list[str] = field(default_factory=list)
    """What each choice begins with: its prompt when it shall be repeated; may be empty."""
    prefix: ClassVar[str] = "cmpl-"
    kind: ClassVar[str] = "text_completion"
    chunk_kind: ClassVar[str] = "text_completion"

    def opening(self) -> list[str]:
        """Nothing comes before the text."""
        return []

    def step(self, index: int) -> list[str]:
        """One token for each choice."""
        return [
            self.chunk([self._delta(number, self._echo(number, index) + tokens[index], None)], index + 1)
            for number, tokens in enumerate(self.draft.choices)
        ]

    def closing(self, reason: str, produced: int) -> list[str]:
        """The finish reason, the usage if asked for, and the end."""
        return self.end([self._delta(number, "", reason) for number in range(len(self.draft.choices))], produced)

    def document(self, reason: str, produced: int) -> dict[str, Any]:
        """The completion."""
        choices = [
            {"index": index, "text": self._echo(index) + "".join(tokens[:produced]), "logprobs": None,
             "finish_reason": reason, "stop_reason": None, "token_ids": None, "prompt_logprobs": None,
             "prompt_token_ids": None, "routed_experts": None}
            for index, tokens in enumerate(self.draft.choices)
        ]  # fmt: skip
        return self.whole(choices, produced)

    def _echo(self, choice: int, index: int = 0) -> str:
        return self.echoes[choice] if self.echoes and index == 0 else ""

    @staticmethod
    def _delta(index: int, text: str, reason: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None,
                "prompt_token_ids": None, "token_ids": None}  # fmt: skip

"""The kinds of requests that reach a model: every address of the gateway that takes one, streamed where it can be."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from typing import Any

_WORDS = "Say something long."
_MESSAGES = {"messages": [{"role": "user", "content": _WORDS}]}


@dataclass(frozen=True, slots=True)
class Kind:
    """address: with {model} where the path names it. body: JSON beside the model; None for a form with a sound file."""

    address: str
    body: dict[str, Any] | None

    def path(self, model: str) -> str:
        return self.address.format(model=model)

    def content(self, model: str) -> dict[str, Any]:
        """Arguments for httpx."""
        if self.body is None:
            return {"data": {"model": model}, "files": {"file": ("silence.wav", _silence(), "audio/wav")}}
        return {"json": self.body if "{model}" in self.address else {"model": model, **self.body}}


def _silence() -> bytes:
    """A tenth of a second of it."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(3_200))
    return sink.getvalue()


_GENERATIVE = (
    ("/v1/chat/completions", _MESSAGES),
    ("/v1/completions", {"prompt": _WORDS}),
    ("/v1/responses", {"input": _WORDS}),
    ("/v1/messages", {**_MESSAGES, "max_tokens": 20}),
    ("/v1/{model}/chat/completions", _MESSAGES),
)
KINDS = (
    *(Kind(address, {**body, "stream": stream}) for address, body in _GENERATIVE for stream in (False, True)),
    Kind("/v1/embeddings", {"input": _WORDS}),
    Kind("/v1/rerank", {"query": "a fruit", "documents": ["an apple", "a car"]}),
    Kind("/v1/audio/transcriptions", None),
)

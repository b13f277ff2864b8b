"""Every address that takes a model, with a body that is right for it."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass, field
from typing import Any

import httpx

_WORDS = "Say something long."


def speech() -> bytes:
    """A WAV file: half a second of silence."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(16_000))
    return sink.getvalue()


@dataclass(frozen=True, eq=False)
class Address:
    """One address. tokens: the name of its limit on the answer's length. form: it takes a form with a file."""

    name: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    streams: bool = True
    tokens: str = "max_tokens"
    form: bool = False

    def url(self, model: str) -> str:
        return self.path.replace("{model}", model)

    def request(
        self, client: httpx.AsyncClient, model: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Request:
        """A request for `model`; `more` goes into the body."""
        if self.form:
            data = {"model": model} | {key: str(value) for key, value in more.items()}
            files = {"file": ("speech.wav", speech(), "audio/wav")}
            return client.build_request("POST", self.path, data=data, files=files, headers=headers)
        given: dict[str, Any] = {**self.body, **more}
        if "{model}" not in self.path:
            given["model"] = model
        return client.build_request("POST", self.url(model), json=given, headers=headers)

    def __str__(self) -> str:
        return self.name


_CHAT = {"messages": [{"role": "user", "content": _WORDS}]}

CHAT = Address("chat", "/v1/chat/completions", _CHAT)
COMPLETIONS = Address("completions", "/v1/completions", {"prompt": _WORDS})
RESPONSES = Address("responses", "/v1/responses", {"input": _WORDS}, tokens="max_output_tokens")
MESSAGES = Address("messages", "/v1/messages", {**_CHAT, "max_tokens": 12})
IN_PATH = Address("model-in-path", "/v1/{model}/chat/completions", _CHAT)
EMBEDDINGS = Address("embeddings", "/v1/embeddings", {"input": _WORDS}, streams=False)
RERANK = Address("rerank", "/v1/rerank", {"query": "a fruit", "documents": ["an apple", "a car"]}, streams=False)
SPEECH = Address("transcriptions", "/v1/audio/transcriptions", streams=False, form=True)

ALL = [CHAT, COMPLETIONS, RESPONSES, MESSAGES, IN_PATH, EMBEDDINGS, RERANK, SPEECH]
STREAMING = [address for address in ALL if address.streams]
JSON = [address for address in ALL if not address.form]

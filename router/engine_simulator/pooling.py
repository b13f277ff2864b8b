"""Embeddings, rerankings and transcriptions: answers that come whole, after the prompt has been read."""

from __future__ import annotations

import base64
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.engine_simulator.answers import new_id
from router.engine_simulator.api_errors import RefusedError, invalid, unknown_model
from router.engine_simulator.body import Body, check_length
from router.engine_simulator.tokens import count_tokens, prose, similarity, vector

if TYPE_CHECKING:
    from router.engine_simulator.options import Options

_BYTES_PER_SECOND_OF_AUDIO = 32_000
"""16-bit mono at 16 kHz, what speech models are fed with."""


@dataclass(frozen=True)
class Pooled:
    """An answer that needs no token by token production (`length` is 0) or, as speech does, a little of it."""

    prompt_tokens: int
    document: dict[str, Any]
    length: int = 0


def embeddings(body: Body, options: Options) -> Pooled:
    """/v1/embeddings: vectors that depend on the text alone, as floats or as base64 of little-endian 32-bit floats."""
    texts = _texts(body)
    encoding = body.text("encoding_format") or "float"
    if encoding not in {"float", "base64"}:
        raise invalid("encoding_format", "Input should be 'float' or 'base64'", "literal_error")
    dimensions = body.whole("dimensions")
    body.check_model(options)
    if not texts:
        raise RefusedError("You must pass at least one prompt")
    if dimensions is not None and not 1 <= dimensions <= options.embedding_dimensions:
        raise RefusedError(f"dimensions must be between 1 and {options.embedding_dimensions}, got {dimensions}.")
    counts = [len(text.split(",")) if is_tokens else count_tokens(text) for text, is_tokens in texts]
    check_length(options, max(counts))
    data = []
    for index, (text, _) in enumerate(texts):
        values = vector(text, dimensions or options.embedding_dimensions)
        packed = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        data.append({"index": index, "object": "embedding", "embedding": values if encoding == "float" else packed})
    total = sum(counts)
    usage = {"prompt_tokens": total, "total_tokens": total, "completion_tokens": 0, "prompt_tokens_details": None,
             "completion_tokens_details": None}  # fmt: skip
    return Pooled(total, {"id": new_id("embd-"), "object": "list", "created": int(time.time()),
                          "model": options.model, "data": data, "usage": usage})  # fmt: skip


def rerank(body: Body, options: Options) -> Pooled:
    """/v1/rerank: documents by their likeness to the query, the best first."""
    query, top = body.text("query", required=True), body.whole("top_n")
    documents = body.items("documents", required=True)
    texts = []
    for index, document in enumerate(documents or []):
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise invalid(f"documents.{index}", "Input should be a valid string", "string_type")
        texts.append(text)
    body.check_model(options)
    if not texts:
        raise RefusedError("At least one text_pair element must be given")
    asked = count_tokens(query or "")
    check_length(options, asked + max(count_tokens(text) for text in texts))
    target = vector(query or "", options.embedding_dimensions)
    scores = [similarity(target, vector(text, options.embedding_dimensions)) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])
    results = [{"index": index, "document": {"text": texts[index], "multi_modal": None},
                "relevance_score": scores[index]} for index in order[: top if top and top > 0 else None]]  # fmt: skip
    total = sum(asked + count_tokens(text) for text in texts)
    usage = {"prompt_tokens": total, "total_tokens": total}
    return Pooled(total, {"id": new_id("score-"), "model": options.model, "usage": usage, "results": results})


def transcription(model: str | None, audio: bytes | None, options: Options) -> Pooled:
    """/v1/audio/transcriptions: a sentence that depends on the audio's bytes. Raises RefusedError without audio."""
    if audio is None:
        raise invalid("file", "Field required", "missing")
    if model and model not in options.served_model_names:
        raise unknown_model(model, options.served_model_names)
    if not audio:
        raise RefusedError("Invalid or unsupported audio file.")
    spoken = list(prose(audio.hex()[:256] + str(len(audio)), 12))
    seconds = -(-len(audio) // _BYTES_PER_SECOND_OF_AUDIO)
    return Pooled(0, {"text": "".join(spoken), "usage": {"type": "duration", "seconds": seconds}}, len(spoken))


def _texts(body: Body) -> list[tuple[str, bool]]:
    """The inputs, each with whether it is a list of tokens (then its text is the tokens with commas)."""
    given = body.fields.get("input")
    if "input" not in body.fields:
        raise invalid("input", "Field required", "missing")
    if isinstance(given, str):
        return [(given, False)]
    if isinstance(given, list):
        if all(isinstance(each, str) for each in given):
            return [(each, False) for each in given]
        rows = [given] if all(isinstance(each, int) for each in given) else given
        if all(isinstance(row, list) and row and all(isinstance(each, int) for each in row) for row in rows):
            return [(",".join(map(str, row)), True) for row in rows]
    raise invalid("input", "Input should be a valid string", "string_type")

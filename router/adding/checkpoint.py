"""What a checkpoint says of itself: config.json and the index of its safetensors, as plain facts. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router.errors import ConfigError

#: Where architectures keep the length that they were trained for (vLLM, `_get_and_verify_max_len`).
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
#: Kinds of rope scaling that do not lengthen what the config says (same place).
_NO_FACTOR = frozenset({"su", "longrope", "llama3", "default", "mrope"})
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


@dataclass(frozen=True, slots=True)
class Attention:
    """What one token leaves in the KV cache. layers: those that keep every token. window_layers: those that keep the
    last `window`. values: numbers that one layer keeps of a token. Layers with a state of fixed size are in neither."""

    layers: int
    values: int
    window_layers: int = 0
    window: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """source: a repository, or a path in the container. context: tokens, None where the config does not say.
    dtype_bytes: of one number that is not quantized. quantization: for people; empty for none. attention: None for an
    architecture whose config does not say. weight_bytes: of all files of weights; None when nobody knows."""

    source: str
    architecture: str
    context: int | None
    dtype: str
    quantization: str
    attention: Attention | None
    weight_bytes: int | None
    vision: bool

    @property
    def dtype_bytes(self) -> int:
        return _BYTES.get(self.dtype, 2)


def read(source: str, document: Any, weight_bytes: int | None) -> Checkpoint:
    """From the document in config.json. Raises ConfigError when it describes no model."""
    config = _section(document)
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not architectures:
        raise ConfigError(f"{source}: config.json names no architecture, so it is no model that an engine can load")
    language = _section(config.get("text_config")) or _section(config.get("llm_config")) or config
    dtype = language.get("dtype") or language.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    return Checkpoint(
        source=source,
        architecture=str(architectures[0]),
        context=context_of(language),
        dtype=str(dtype or "bfloat16").removeprefix("torch."),
        quantization=quantization_of(
            _section(config.get("quantization_config")) or _section(language.get("quantization_config"))
        ),
        attention=attention_of(language),
        weight_bytes=weight_bytes,
        vision="vision_config" in config or "visual" in config,
    )


def context_of(config: Mapping[str, Any]) -> int | None:
    """Tokens that the position encoding reaches, its scaling included, as vLLM derives them."""
    lengths = [value for key in _LENGTHS if (value := _count(config.get(key))) is not None]
    if not lengths:
        return None
    length = min(lengths)
    rope = _section(config.get("rope_scaling")) or _section(config.get("rope_parameters"))
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    factor = rope.get("factor")
    if kind in _NO_FACTOR or not isinstance(factor, int | float) or not 1 <= factor < math.inf:
        return length
    if kind == "yarn":
        length = _count(rope.get("original_max_position_embeddings")) or length
    return int(length * factor)


def quantization_of(section: Mapping[str, Any]) -> str:
    """`quantization_config` in the words of docs/models.md; empty for none."""
    method = str(section.get("quant_method") or "")
    said = f"{section.get('format') or ''} {section.get('quant_algo') or ''}".lower()
    if "nvfp4" in said:
        return "NVFP4"
    if method == "mxfp4" or "mxfp4" in said:
        return "MXFP4"
    if method == "fp8" or "float-quantized" in said or "fp8" in said:
        return "FP8"
    bits = section.get("bits")
    named = method.upper() if method in ("awq", "gptq", "fp8") else method
    return f"{named}, {bits} bit" if named and isinstance(bits, int) else named


def attention_of(config: Mapping[str, Any]) -> Attention | None:
    """The cached numbers of a token: keys and values of each head (vLLM, `FullAttentionSpec`), or the one compressed
    vector of multi-head latent attention (`MLAAttentionSpec`)."""
    layers, heads = _count(config.get("num_hidden_layers")), _count(config.get("num_attention_heads"))
    if layers is None or heads is None:
        return None
    latent, hidden = _count(config.get("kv_lora_rank")), _count(config.get("hidden_size"))
    if latent is not None:
        return Attention(layers, latent + (_count(config.get("qk_rope_head_dim")) or 0))
    size = _count(config.get("head_dim")) or (None if hidden is None else hidden // heads)
    if size is None:
        return None
    values = 2 * (_count(config.get("num_key_value_heads")) or heads) * size
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        return Attention(layers, values)
    window = _count(config.get("sliding_window"))
    sliding = sum(kind == "sliding_attention" for kind in kinds) if window else 0
    fixed = sum(kind in ("linear_attention", "mamba") for kind in kinds)
    return Attention(len(kinds) - sliding - fixed, values, sliding, window if sliding and window else 0)


def _section(value: Any) -> Mapping[str, Any]:
    """An object of the document; empty when it is something else."""
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    """A whole number from 1 up; None when it is something else. JSON has true and false, which are none."""
    return value if type(value) is int and value > 0 else None

"""What a checkpoint says of itself, and the memory that is estimated from it, on published configurations."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.adding.checkpoint import Attention, Checkpoint, context_of, quantization_of, read
from router.adding.estimate import cache_bytes, claim_of, estimate, largest_share, longest_context, share_of
from router.errors import ConfigError

pytestmark = pytest.mark.unit

GIB = 2**30
LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "hidden_size": 4096, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "hidden_size": 7168, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840, "torch_dtype": "bfloat16",
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip


def cache_per_token(config: dict[str, Any]) -> int:
    found = read("x", config, 1)
    assert found.attention is not None
    return cache_bytes(found.attention, 1, found.dtype_bytes)


def test_the_cache_of_a_token_is_what_is_published_of_these_models() -> None:
    assert cache_per_token(LLAMA_3_8B) == 128 * 1024
    assert cache_per_token(DEEPSEEK_V3) == 70_272
    gated = {**LLAMA_3_8B, "head_dim": 256, "layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8}
    assert cache_per_token(gated) == 8 * 2 * 8 * 256 * 2


def test_sliding_windows_keep_their_window_only() -> None:
    kinds = ["sliding_attention", "full_attention"] * 12
    found = read("x", {**LLAMA_3_8B, "layer_types": kinds, "sliding_window": 128, "head_dim": 64}, 1)
    assert found.attention == Attention(layers=12, values=1024, window_layers=12, window=128)
    assert cache_bytes(found.attention, 100_000, 2) == 12 * (100_000 + 128) * 1024 * 2
    assert cache_bytes(found.attention, 64, 2, sequences=3) == 3 * 24 * 64 * 1024 * 2


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (DEEPSEEK_V3, 163840),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 32768}}, 131072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4}}, 16384),
        ({"max_position_embeddings": 262144, "rope_parameters": {"rope_type": "default"}}, 262144),
        ({"n_positions": 2048}, 2048),
        ({}, None),
    ],
)  # fmt: skip
def test_the_context_is_what_the_engine_would_derive(config: dict[str, Any], tokens: int | None) -> None:
    assert context_of(config) == tokens


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, ""),
        ({"quant_method": "awq", "bits": 4}, "AWQ, 4 bit"),
        ({"quant_method": "fp8"}, "FP8"),
        ({"quant_method": "mxfp4"}, "MXFP4"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "NVFP4"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "FP8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "NVFP4"),
        ({"quant_method": "bitsandbytes"}, "bitsandbytes"),
    ],
)
def test_quantizations_have_the_names_of_the_catalogue(section: dict[str, Any], said: str) -> None:
    assert quantization_of(section) == said


def test_models_with_eyes_keep_their_language_below() -> None:
    whole = {"architectures": ["SomeForConditionalGeneration"], "text_config": LLAMA_3_8B, "vision_config": {}}
    found = read("x", whole, 16 * GIB)
    assert (found.vision, found.context, found.architecture) == (True, 8192, "SomeForConditionalGeneration")
    assert found.attention == read("x", LLAMA_3_8B, 1).attention


@pytest.mark.parametrize("document", [{"max_position_embeddings": 1}, {"architectures": "Llama"}, [1], "x", None])
def test_what_is_no_model_is_refused(document: Any) -> None:
    with pytest.raises(ConfigError, match="no architecture"):
        read("x", document, 1)


@given(
    st.sampled_from([*DEEPSEEK_V3, "text_config", "rope_parameters", "head_dim", "layer_types", "sliding_window"]),
    st.sampled_from([None, True, -1, 0, "x", "", [], {}, [1], {"a": 1}, float("inf"), float("nan"), 1.5, [None]]),
    st.sampled_from(["", "rope_scaling", "quantization_config"]),
)
def test_nonsense_in_a_config_is_as_if_it_were_not_there(key: str, value: Any, section: str) -> None:
    """Somebody else wrote the file: either there is an estimate, or too little is known for one."""
    whole: dict[str, Any] = DEEPSEEK_V3
    config = {**whole, section: {**whole.get(section, {}), key: value}} if section else whole
    with contextlib.suppress(ConfigError):
        found = read("x", {**config, key: value}, GIB)
        assert found.context is None or found.context > 0
        needed = estimate(found, found.context or 1)
        assert needed is None or needed.cache > 0


def test_too_little_known_is_no_estimate() -> None:
    assert estimate(read("x", LLAMA_3_8B, None), 8192) is None
    assert estimate(read("x", {"architectures": ["Other"]}, 1), 8192) is None


@given(st.integers(1, 110), st.integers(1, 111), st.integers(4, 300))
def test_the_longest_context_fits_and_a_longer_one_does_not(weights: int, room: int, thousands: int) -> None:
    found = read("x", LLAMA_3_8B, weights * GIB)
    most = thousands * 1024
    longest = longest_context(found, room * GIB, most)

    def takes(context: int) -> int:
        needed = estimate(found, context)
        assert needed is not None
        return needed.total

    if longest is None:
        assert takes(1024) > room * GIB
    else:
        assert takes(longest) <= room * GIB
        assert longest == most or takes(longest + 1024) > room * GIB


@given(st.integers(1, 119 * GIB))
def test_the_claim_covers_what_is_needed_and_what_the_engine_takes(needed: int) -> None:
    memory = 119 * GIB
    share = share_of(needed, memory)
    assert share * memory >= needed
    assert claim_of(share, memory) * GIB >= round(share * memory) - 1
    assert claim_of(share, memory) * GIB < share * memory + GIB


@given(st.integers(0, 119 * GIB))
def test_the_largest_share_claims_no_more_than_there_is(room: int) -> None:
    memory = 119 * GIB
    share = largest_share(room, memory)
    assert claim_of(share, memory) * GIB <= room
    assert claim_of(share + 0.01, memory) * GIB > room


def test_shipped_claims_follow_the_same_rule() -> None:
    assert claim_of(0.82, 119 * GIB) == 98
    assert claim_of(0.70, 119 * GIB) == 84
    assert isinstance(read("x", LLAMA_3_8B, 1), Checkpoint)

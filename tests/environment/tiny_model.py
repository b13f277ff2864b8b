"""Write a tiny Llama with random weights, for vLLM (a Hugging Face directory) and for llama.cpp (a GGUF file).

    tiny_model.py DIRECTORY     makes DIRECTORY/ (config, tokenizer, safetensors) and DIRECTORY/tiny.gguf

Both have the same weights and the same byte-level tokenizer with a few merges. It needs the standard library only,
so that it runs before anything is installed, and gives the same bytes each time.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

HIDDEN, LAYERS, FEED_FORWARD, HEADS, CONTEXT, EPSILON = 64, 2, 128, 2, 2048, 1e-6
SPECIAL = ("<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>")
UNKNOWN, BEGIN, END = 0, 1, 2
MERGES = 200
TEXT = "the quick brown fox jumps over the lazy dog; a model wakes when a request arrives, and sleeps when idle."
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
#: A tensor's name for Hugging Face and for GGUF, and its shape.
Tensor = tuple[str, str, tuple[int, ...]]


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary, as GPT-2 has it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def train_merges(letters: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges learned from TEXT, the most frequent first."""
    words = Counter(tuple(letters[byte] for byte in f" {word}".encode()) for word in TEXT.split())
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = Counter({merge_word(word, best): count for word, count in words.items()})
    return merges


def merge_word(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in word:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def tensors(vocabulary: int) -> Iterator[Tensor]:
    yield "model.embed_tokens.weight", "token_embd.weight", (vocabulary, HIDDEN)
    yield "model.norm.weight", "output_norm.weight", (HIDDEN,)
    yield "lm_head.weight", "output.weight", (vocabulary, HIDDEN)
    square, up, down = (HIDDEN, HIDDEN), (FEED_FORWARD, HIDDEN), (HIDDEN, FEED_FORWARD)
    parts: list[Tensor] = [
        ("self_attn.q_proj", "attn_q", square),
        ("self_attn.k_proj", "attn_k", square),
        ("self_attn.v_proj", "attn_v", square),
        ("self_attn.o_proj", "attn_output", square),
        ("mlp.gate_proj", "ffn_gate", up),
        ("mlp.up_proj", "ffn_up", up),
        ("mlp.down_proj", "ffn_down", down),
        ("input_layernorm", "attn_norm", (HIDDEN,)),
        ("post_attention_layernorm", "ffn_norm", (HIDDEN,)),
    ]
    for layer in range(LAYERS):
        for theirs, gguf, shape in parts:
            yield f"model.layers.{layer}.{theirs}.weight", f"blk.{layer}.{gguf}.weight", shape


def weights(listed: list[Tensor]) -> list[array[float]]:
    generator = random.Random(0)
    values = []
    for name, _, shape in listed:
        if name.endswith("norm.weight"):
            values.append(array("f", [1.0] * shape[0]))
        else:
            size = shape[0] * shape[1]
            values.append(array("f", (generator.gauss(0.0, 0.05) for _ in range(size))))
    return values


def write_gguf(
    path: Path, tokens: list[str], merges: list[str], listed: list[Tensor], values: list[array[float]]
) -> None:
    """A GGUF file, version 3, all tensors in 32-bit floats."""

    def text(value: str) -> bytes:
        data = value.encode()
        return struct.pack("<Q", len(data)) + data

    def entry(key: str, value: str | int | float | list[str] | list[int]) -> bytes:
        if isinstance(value, str):
            return text(key) + struct.pack("<I", 8) + text(value)
        if isinstance(value, int):
            return text(key) + struct.pack("<II", 4, value)
        if isinstance(value, float):
            return text(key) + struct.pack("<If", 6, value)
        kind = 8 if isinstance(value[0], str) else 5
        items = (text(item) if isinstance(item, str) else struct.pack("<i", item) for item in value)
        return text(key) + struct.pack("<IIQ", 9, kind, len(value)) + b"".join(items)

    metadata = [
        entry("general.architecture", "llama"),
        entry("general.name", "tiny"),
        entry("general.file_type", 0),
        entry("llama.context_length", CONTEXT),
        entry("llama.embedding_length", HIDDEN),
        entry("llama.block_count", LAYERS),
        entry("llama.feed_forward_length", FEED_FORWARD),
        entry("llama.attention.head_count", HEADS),
        entry("llama.attention.head_count_kv", HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", EPSILON),
        entry("llama.rope.dimension_count", HIDDEN // HEADS),
        entry("llama.vocab_size", len(tokens)),
        entry("tokenizer.ggml.model", "gpt2"),
        entry("tokenizer.ggml.pre", "gpt-2"),
        entry("tokenizer.ggml.tokens", tokens),
        entry("tokenizer.ggml.token_type", [3 if token in SPECIAL else 1 for token in tokens]),
        entry("tokenizer.ggml.merges", merges),
        entry("tokenizer.ggml.unknown_token_id", UNKNOWN),
        entry("tokenizer.ggml.bos_token_id", BEGIN),
        entry("tokenizer.ggml.eos_token_id", END),
        entry("tokenizer.chat_template", TEMPLATE),
    ]
    infos, blob = [], b""
    for (_, name, shape), floats in zip(listed, values, strict=True):
        rank = len(shape)
        infos.append(text(name) + struct.pack(f"<I{rank}QIQ", rank, *reversed(shape), 0, len(blob)))
        blob += padded(floats.tobytes())
    header = b"".join([b"GGUF", struct.pack("<IQQ", 3, len(listed), len(metadata)), *metadata, *infos])
    path.write_bytes(padded(header) + blob)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32)


def write_hugging_face(
    directory: Path, tokens: list[str], merges: list[str], listed: list[Tensor], values: list[array[float]]
) -> None:
    """A directory as `save_pretrained` leaves it, the weights in bfloat16."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blob = b""
    for (name, _, shape), floats in zip(listed, values, strict=True):
        # A bfloat16 is the upper half of a 32-bit float.
        data = array("H", (bits >> 16 for bits in array("I", floats.tobytes()))).tobytes()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + blob)

    ends = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": END}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    documents: dict[str, object] = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": EPSILON,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vocab_size": len(tokens),
            **ends,
        },
        "generation_config.json": ends,
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": [
                {"id": number, "content": token, "special": True}
                | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
                for number, token in enumerate(SPECIAL)
            ],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "unk_token": None,
                "vocab": {token: number for number, token in enumerate(tokens)},
                "merges": merges,
            },
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": SPECIAL[UNKNOWN],
            "bos_token": SPECIAL[BEGIN],
            "eos_token": SPECIAL[END],
            "pad_token": SPECIAL[END],
            "model_max_length": CONTEXT,
            "chat_template": TEMPLATE,
        },
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, indent=1), encoding="utf-8")


def main(directory: Path) -> None:
    if sys.byteorder != "little":
        raise SystemExit("tiny_model.py: both formats are little-endian, and so must this machine be")
    directory.mkdir(parents=True, exist_ok=True)
    letters = byte_letters()
    learned = train_merges(letters)
    tokens = [*SPECIAL, *letters, *dict.fromkeys("".join(pair) for pair in learned)]
    merges = [" ".join(pair) for pair in learned]
    listed = list(tensors(len(tokens)))
    values = weights(listed)
    write_hugging_face(directory, tokens, merges, listed, values)
    write_gguf(directory / "tiny.gguf", tokens, merges, listed, values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

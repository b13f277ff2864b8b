"""How much memory an engine needs for a checkpoint, estimated from what the checkpoint says. Pure.

    weights + KV cache + overhead

- weights: the bytes of the files; engines keep quantized weights as they are stored.
- KV cache: for each token of the context, what `checkpoint.attention_of` counts, in `kv_bytes` bytes a number (1 for
  --kv-cache-dtype=fp8). Layers with a sliding window keep the window only. It is reckoned for `sequences` requests of
  the whole context at once: with less, vLLM refuses to start for one, and preempts for more.
- overhead: the CUDA context, graphs and activations, which --gpu-memory-utilization counts too: 3 GiB and a twentieth
  of the weights. That share is a rule of thumb, nothing measured here; what an engine really takes is learned when it
  runs (docs/memory.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from router.adding.checkpoint import Attention, Checkpoint

_GIB = 2**30
OVERHEAD = 3 * _GIB
OVERHEAD_SHARE = 0.05
#: Contexts are cut to a multiple of this.
_STEP = 1024


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes."""

    weights: int
    cache: int
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.overhead


def cache_bytes(attention: Attention, context: int, kv_bytes: int, sequences: int = 1) -> int:
    """The KV cache of so many requests with `context` tokens each."""
    kept = attention.layers * context + attention.window_layers * min(context, attention.window)
    return sequences * kept * attention.values * kv_bytes


def estimate(
    checkpoint: Checkpoint, context: int, *, kv_bytes: int | None = None, sequences: int = 1
) -> Estimate | None:
    """None when the checkpoint does not say enough. kv_bytes: None is as many as the checkpoint's own numbers have."""
    if checkpoint.weight_bytes is None or checkpoint.attention is None:
        return None
    cache = cache_bytes(checkpoint.attention, context, kv_bytes or checkpoint.dtype_bytes, sequences)
    return Estimate(checkpoint.weight_bytes, cache, OVERHEAD + int(checkpoint.weight_bytes * OVERHEAD_SHARE))


def longest_context(checkpoint: Checkpoint, room: int, most: int, *, kv_bytes: int | None = None) -> int | None:
    """The longest context of up to `most` tokens with which the engine stays within `room` bytes; None when there is
    none, or the checkpoint does not say enough."""
    low, high = 0, most // _STEP
    whole = estimate(checkpoint, most, kv_bytes=kv_bytes)
    if whole is None:
        return None
    if whole.total <= room:
        return most
    while low < high:
        middle = (low + high + 1) // 2
        fits = estimate(checkpoint, middle * _STEP, kv_bytes=kv_bytes)
        low, high = (middle, high) if fits is not None and fits.total <= room else (low, middle - 1)
    return low * _STEP or None


def share_of(needed: int, memory: int) -> float:
    """The --gpu-memory-utilization that gives `needed` bytes of `memory`, to a hundredth, rounded up."""
    return math.ceil(needed / memory * 100) / 100


def largest_share(room: int, memory: int) -> float:
    """The largest such share whose claim is within `room` bytes; 0 when there is none."""
    hundredths = int(room / memory * 100)
    while hundredths and claim_of(hundredths / 100, memory) * _GIB > room:
        hundredths -= 1
    return hundredths / 100


def claim_of(share: float, memory: int) -> int:
    """Whole GiB that an engine with this share claims of `memory` bytes, rounded up: its `lifecycle.memory`."""
    return math.ceil(round(share * memory / _GIB, 6))

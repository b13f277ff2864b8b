"""vLLM's Triton decode kernel for latent attention (MLA) splits long contexts into more parts.

Four parts, vLLM's number, leave most of a GB10's multiprocessors without work at the batch sizes of one household: one
part for each 1,500 tokens of the longest sequence, from 32 to 128.
"""

from __future__ import annotations

from patches.patching import Change, Patch

PATCH = Patch(
    "vllm/v1/attention/backends/mla/triton_mla.py",
    (
        Change(
            before="        num_kv_splits = 1 if envs.VLLM_BATCH_INVARIANT else 4\n",
            after="""\
        # Hearth: by the longest sequence
        num_kv_splits = 1
        if not envs.VLLM_BATCH_INVARIANT:
            num_kv_splits = min(max(attn_metadata.max_seq_len // 1500, 32), 128)
""",
        ),
    ),
)

"""Triton kernels that want scratch memory get it from torch.

Triton asks the program to set an allocator, and keeps it in a context variable: one that is set in one thread is not
seen in another, and the kernel fails there (vLLM issue 33857, Qwen3-Next on GB10). Where none is set, torch's caching
allocator serves. The text is that of Triton 3.6.
"""

from __future__ import annotations

from patches.patching import Change, Patch

PATCH = Patch(
    "triton/runtime/_allocation.py",
    (
        Change(
            before="""\
        raise RuntimeError("Kernel requires a runtime memory allocation, but no allocator was set. " +
                           "Use triton.set_allocator to specify an allocator.")
""",
            after="""\
        # Hearth: whoever set none is served by torch; its blocks are aligned to 512 bytes
        import torch
        return torch.empty(size, dtype=torch.int8, device="cuda")
""",
        ),
    ),
)

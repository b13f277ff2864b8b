"""vLLM's Qwen3-Next model reads a router that AutoRound has quantised.

vLLM takes the router (`gate`) for unquantised whatever the checkpoint says, and then finds no weights for it in an
AutoRound one. Only that method (`inc` in vLLM) is told its own settings; the others stay as they are.
"""

from __future__ import annotations

from patches.patching import Change, Patch

PATCH = Patch(
    "vllm/model_executor/models/qwen3_next.py",
    (
        Change(
            before="""\
            quant_config=None,
            prefix=f"{prefix}.gate",
""",
            after="""\
            # Hearth: an AutoRound checkpoint says itself what of it is quantised
            quant_config=(
                quant_config
                if quant_config is not None and quant_config.get_name() == "inc"
                else None
            ),
            prefix=f"{prefix}.gate",
""",
        ),
    ),
)

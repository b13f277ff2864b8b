"""Transformers reads rope settings whose list of keys to ignore comes from a JSON file.

There it is a list, and a list cannot be united with a set: AutoRound checkpoints of Qwen3.5 fail to load with a
TypeError. The text is that of transformers 5.5 and 5.6.
"""

from __future__ import annotations

from patches.patching import Change, Patch

PATCH = Patch(
    "transformers/modeling_rope_utils.py",
    (
        Change(
            before="""\
            self.ignore_keys_at_rope_validation = self.ignore_keys_at_rope_validation | {"partial_rotary_factor"}
""",
            after="""\
            # Hearth: a list where it comes from JSON
            self.ignore_keys_at_rope_validation = set(self.ignore_keys_at_rope_validation) | {"partial_rotary_factor"}
""",
        ),
    ),
)

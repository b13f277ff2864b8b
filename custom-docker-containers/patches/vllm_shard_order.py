"""vLLM's fastsafetensors loader takes the shards in the order of their numbers.

Ranks share out the list of files; in the order of letters `model-10` comes before `model-2`, and machines whose lists
are ordered differently read different shards. vLLM 0.19 does so by itself.
"""

from __future__ import annotations

from patches.patching import Change, Patch

PATCH = Patch(
    "vllm/model_executor/model_loader/weight_utils.py",
    (
        Change(
            before="""\
    weight_files_sub_lists = [
        hf_weights_files[i : i + pg.size()]
""",
            after="""\
    # Hearth: by number, the same on every rank
    hf_weights_files = sorted(
        hf_weights_files,
        key=lambda name: [
            (digits, int("".join(run))) if digits else (digits, "".join(run))
            for digits, run in __import__("itertools").groupby(name, str.isdecimal)
        ],
    )
    weight_files_sub_lists = [
        hf_weights_files[i : i + pg.size()]
""",
        ),
    ),
)

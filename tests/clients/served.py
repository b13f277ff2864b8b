"""The models of these tests: two that do not fit together, a utility model, and some that are kept from clients."""

from stack import Model

LIMITS = {"max_input_tokens": 32768, "max_output_tokens": 4096, "supports_function_calling": True}
#: Agents take an answer that their limit ends for a fault, so theirs end before.
OPTIONS = ("--answers-end", "--max-model-len", "65536", "--prefill-tokens-per-second", "1000000")
TROUBLE = {"client": "OpenCode", "problem": "calls tools when it should answer", "instead": "first"}

MODELS = [
    Model("first", memory="60GiB", load_seconds=1, tokens_per_second=1000, alone=True, options=OPTIONS,
          info=LIMITS | {"supports_vision": True, "catalogue": {"client_limits": {"context": 24000, "output": 2048}}}),
    Model("second", memory="60GiB", tokens_per_second=1000, alone=True, options=OPTIONS, info=LIMITS),
    Model("tiny", gpu="1", tokens_per_second=1000, options=OPTIONS, lifecycle={"role": "utility"},
          info=LIMITS | {"supports_function_calling": False}),
    Model("trouble", gpu="1", options=OPTIONS, info=LIMITS | {"catalogue": {"known_problems": [TROUBLE]}}),
    Model("others", gpu="1", info=LIMITS),
]  # fmt: skip

#: What ada's key is for.
HERS = ("first", "second", "tiny", "trouble")

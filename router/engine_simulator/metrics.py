"""/metrics: the few of vLLM's series that a router reads, in Prometheus's text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.engine_simulator.engine import Engine

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_REASONS = ("stop", "length", "abort", "error")


def exposition(engine: Engine) -> str:
    """All series. Requests held by a sleep count neither as running nor as waiting: so it is in vLLM."""
    label = f'engine="0",model_name="{_escaped(engine.options.model)}"'
    running, awake = float(len(engine.running)), not engine.asleep
    finished = [(f'{label},finished_reason="{reason}"', float(engine.finished[reason])) for reason in _REASONS]
    states = [
        (f'{label},sleep_state="{state}"', float(value))
        for state, value in (("awake", awake), ("weights_offloaded", not awake), ("discard_all", False))
    ]
    families: list[tuple[str, str, str, list[tuple[str, float]]]] = [
        ("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.", [(label, running)]),
        ("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.", [(label, 0)]),
        ("vllm:engine_sleep_state", "gauge", "Engine sleep state.", states),
        ("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.",
         [(label, min(1.0, running / 64))]),
        ("vllm:prompt_tokens_total", "counter", "Number of prefill tokens processed.", [(label, engine.prompt_tokens)]),
        ("vllm:generation_tokens_total", "counter", "Number of generation tokens processed.",
         [(label, engine.generation_tokens)]),
        ("vllm:request_success_total", "counter", "Count of successfully processed requests.", finished),
    ]  # fmt: skip
    lines: list[str] = []
    for name, kind, text, series in families:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{{{labels}}} {float(value)}" for labels, value in series]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

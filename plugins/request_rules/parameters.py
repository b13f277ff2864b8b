"""Parameters that the model does not take: left out, or refused."""

from __future__ import annotations

import re

from plugins.request_rules.max_tokens import LIMITS
from plugins.request_rules.request import Request
from plugins.request_rules.tools import TOOL_PARAMETERS
from router.errors import Unfit
from router.request_rules import ESSENTIAL, RequestRules

#: LiteLLM's own, which never reach an engine, or without which LiteLLM does not work.
_LITELLMS = frozenset({
    "metadata", "proxy_server_request", "secret_fields", "user", "stream_options", "timeout", "stream_timeout",
    "num_retries", "max_retries", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "cache",
    "caching", "guardrails", "tags", "extra_headers", "extra_body", "no-log", "previous_response_id", "store",
})  # fmt: skip
#: Parameters with a rule of their own; `only` does not speak of them.
_ELSEWHERE = TOOL_PARAMETERS.union(*LIMITS.values())
#: Names come from the caller, and go into a header.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_SHOWN = 16
_THINKING = frozenset({
    "chat_template_kwargs", "reasoning_effort", "reasoningEffort", "reasoning", "thinking", "output_config",
})  # fmt: skip


def apply(request: Request, rules: RequestRules) -> Request:
    """Raises Unfit for a parameter that is refused."""
    wanted = rules.parameters
    if not wanted.drop and not wanted.refuse and wanted.only is None:
        return request
    given = {key for key in (*request.data, *request.extra) if not key.startswith("litellm_")} - ESSENTIAL
    others = _others(given, rules)
    if refused := sorted((given & wanted.refuse) | (others if wanted.others == "refuse" else set())):
        raise Unfit(f"{refused[0]}: this model does not take this parameter; leave it out.",
                    param=refused[0], code="unsupported_parameter")  # fmt: skip
    dropped = (given & wanted.drop) | others
    if not dropped:
        return request
    shown = [f"{name} removed" for name in sorted(dropped) if _PLAIN.fullmatch(name)][:_MOST_SHOWN]
    if len(shown) < len(dropped):
        shown.append(f"{len(dropped) - len(shown)} more parameters removed")
    return request.changed(*shown, without=dropped)


def _others(given: set[str], rules: RequestRules) -> set[str]:
    """What `only` leaves out."""
    if rules.parameters.only is None:
        return set()
    thinking = frozenset() if rules.thinking is None and rules.reasoning_effort is None else _THINKING
    return given - rules.parameters.only - _LITELLMS - _ELSEWHERE - thinking

"""All rules in their order: what is left out first, what is counted last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from plugins.request_rules import context, images, max_tokens, messages, parameters, thinking, tools
from plugins.request_rules.request import Request, shape_of
from plugins.request_rules.token_counts import Counters
from router.request_rules import RequestRules

log = logging.getLogger(__name__)

_RULES = (parameters.apply, tools.apply, images.apply, messages.apply, thinking.apply, max_tokens.apply)


class Pipeline:
    """The rules of all models, and what counts their prompts. rules: by the model's name."""

    def __init__(self, rules: Mapping[str, RequestRules]) -> None:
        self._rules = rules
        self._counters = Counters()

    async def apply(
        self, model: str, data: dict[str, Any], call_type: str, may_use: Callable[[str], bool]
    ) -> Request | None:
        """The request fitted to the model; None when it goes on as it came. may_use: the models its caller may ask.

        Raises router.errors.Unfit for a request that the model cannot take.
        """
        shape = shape_of(call_type)
        if shape is None:
            return None
        given = request = Request(shape, data)
        rules = self._rules.get(model)
        if rules is None:
            max_tokens.check(request)
            return None
        for rule in _RULES:
            request = rule(request, rules)

        def others() -> dict[str, RequestRules]:
            return {name: each for name, each in self._rules.items() if name != model and may_use(name)}

        request = await context.apply(request, rules, self._counters, others)
        if request is given:
            return None
        log.debug("a request for %s was changed: %s", model, "; ".join(request.changes))
        return request

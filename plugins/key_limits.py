"""What LiteLLM does not enforce well enough for keys of the ring, and what their requests cost.

LiteLLM's own counter of parallel requests keeps the place of a client that leaves for another minute, and its budgets
count the tokens of each prompt before it is sent. Here a place ends with its request, and a budget is what was spent.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import litellm
from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth

from plugins.key_auth import require_valid
from plugins.lifecycle import Refused
from plugins.request_scope import RequestScope, current_scope
from router.errors import StoreUnavailable
from router.store.key_ring import Key
from router.store.known_keys import KnownKeys

#: Seconds after which another try makes sense: any of the key's own requests may end.
_PARALLEL_RETRY = 1


class KeyLimits(CustomLogger):  # type: ignore[misc] # LiteLLM is not typed for this
    """Refuses keys whose budget is spent or that have as many requests as they may; counts what is spent."""

    def __init__(self, keys: KnownKeys) -> None:
        super().__init__()
        self._keys = keys
        self._open: defaultdict[str, set[RequestScope]] = defaultdict(set)

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Raises Refused (429, and LiteLLM's own status for budgets)."""
        scope = current_scope()
        if scope is None or scope.key is None:
            return
        self._require_budget(scope.key, data.get("model"))
        self._take_place(scope, scope.key)
        scope.still_allowed = lambda: self._require_still_valid(scope.key)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A request has been answered."""
        payload = kwargs.get("standard_logging_object") or {}
        key_id = (payload.get("metadata") or {}).get("user_api_key_hash")
        if key_id and key_id != LITELLM_PROXY_MASTER_KEY_ALIAS:
            self._keys.add_spend(key_id, float(kwargs.get("response_cost") or 0), int(payload.get("total_tokens") or 0))

    def _require_budget(self, key: Key, model: Any) -> None:
        budget, spend = key.limits.budget, self._keys.spend(key)
        if budget is None or spend < budget or _is_free(_entries(model)):
            return
        raise Refused(
            f"The budget of the key {key.name!r} is spent: {spend:.4f} of {budget:.4f} USD. Models without a price "
            f"still answer; an admin can make a key with a larger budget.",
            param="api_key",
            type="budget_exceeded",
            code=int(litellm.budget_exceeded_status_code),
        )

    def _take_place(self, scope: RequestScope, key: Key) -> None:
        places = self._open[key.id]
        if scope in places or key.limits.parallel is None:
            return
        if len(places) >= key.limits.parallel:
            scope.answer.set_headers({"Retry-After": str(_PARALLEL_RETRY)})
            raise Refused(
                f"The key {key.name!r} has {len(places)} requests that run or wait, which is its limit. Ask again when "
                f"one of them is done.",
                param="api_key",
                type="parallel_limit",
                code=429,
            )
        places.add(scope)
        scope.at_end.append(lambda: self._give_place_back(scope, key.id))

    def _give_place_back(self, scope: RequestScope, key_id: str) -> None:
        places = self._open[key_id]
        places.discard(scope)
        if not places:
            del self._open[key_id]

    async def _require_still_valid(self, key: Key) -> None:
        """Of a request that has waited. Raises ProxyException when its key has been revoked meanwhile, or blocked."""
        try:
            key_now = await self._keys.current(key.id)
        except StoreUnavailable:
            return  # it was valid when it came, and its lease is granted
        require_valid(key_now, time.time())


def _entries(model: Any) -> list[Mapping[str, Any]]:
    router = proxy_server.llm_router
    return (router.get_model_list(model_name=model) or []) if router is not None and isinstance(model, str) else []


def _is_free(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a model's entries all run here and none has a price, so that its requests cannot cost anything."""
    sections = [(entry.get("model_info") or {}, entry.get("litellm_params") or {}) for entry in entries]
    return bool(sections) and all(
        info.get("lifecycle") and not any(_has_price(section) for section in (info, parameters))
        for info, parameters in sections
    )


def _has_price(section: Mapping[str, Any]) -> bool:
    return any("cost" in name and isinstance(value, int | float) and value > 0 for name, value in section.items())

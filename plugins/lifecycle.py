"""The hook that LiteLLM calls before every model call: the model is made ready, or the request is refused.

The gateway registers the one instance itself. A `callbacks` entry in the YAML is not needed and would not do: LiteLLM
executes a plugin file that lies beside the YAML as a second module, and a second copy of this state would be wrong.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

from plugins.answer import refusal_headers
from plugins.request_checks import check_shape
from plugins.request_scope import MAX_WAIT_HEADER, RequestScope, current_scope
from router.config import LifecycleSettings
from router.errors import Refusal, ServiceUnavailable, StoreUnavailable
from router.quantities import format_duration
from router.store.admission import Ticket

#: Seconds for which a resolved name is remembered: LiteLLM's model list can change while the gateway runs.
_REMEMBERED = 5.0
_MOST_NAMES = 2000


class LifecycleHook(CustomLogger):  # type: ignore[misc] # LiteLLM is not typed for this
    """Wakes what a request asks for. LiteLLM only calls hooks that are defined on the class itself."""

    def __init__(self, settings: LifecycleSettings) -> None:
        super().__init__()
        self._bound = settings.max_wait
        self._names: dict[str, str | None] = {}
        self._forget_at = 0.0

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Return when the model of `data` may be called. Raises ProxyException with the refusal's status."""
        scope = current_scope()
        if scope is None:  # LiteLLM's own background work wakes nothing
            return
        check_shape(call_type, data)
        name = self._lifecycle_name(data.get("model"))
        if name is None:
            return
        if scope.ticket is not None:
            if scope.ticket.model == name:
                return
            scope.admission.end(scope.ticket)
        limit = _wait_limit(scope)
        ticket = scope.ticket = Ticket(
            model=name,
            caller=caller_of(user_api_key_dict),
            alias=user_api_key_dict.key_alias or "",
            stream=data.get("stream") is True,
        )
        scope.answer.set_headers({"X-Hearth-Model": name})
        if ticket.stream:
            scope.answer.keep_alive(lambda: _progress(scope, ticket))
        if scope.gone.is_set():
            scope.leave()
        try:
            await scope.admission.acquire(ticket, limit=limit, bound=self._bound)
        except StoreUnavailable:
            refusal = ServiceUnavailable("Redis is away; try again in a moment.", model=name, retry_after=2.0)
            raise _answer(scope, refusal, user_api_key_dict) from None
        except Refusal as refusal:
            raise _answer(scope, refusal, user_api_key_dict) from None

    def _lifecycle_name(self, model: Any) -> str | None:
        """The model whose engine answers for `model` (a name, an alias, or a name that a wildcard matches)."""
        if not isinstance(model, str):
            return None
        now = time.monotonic()
        if now > self._forget_at or len(self._names) > _MOST_NAMES:
            self._names.clear()
            self._forget_at = now + _REMEMBERED
        if model not in self._names:
            self._names[model] = _resolve(model)
        return self._names[model]


def is_admin(key: UserAPIKeyAuth) -> bool:
    """Whether the key may do everything: the master key, or a proxy admin's."""
    return bool(key.user_role == LitellmUserRoles.PROXY_ADMIN)


def caller_of(key: UserAPIKeyAuth) -> str:
    """A short stable name for a key that gives nothing of it away."""
    return hashlib.sha256((key.api_key or "").encode()).hexdigest()[:16]


def _resolve(model: str) -> str | None:
    llm_router = proxy_server.llm_router
    if llm_router is None:
        return None
    for entry in llm_router.get_model_list(model_name=model) or []:
        info = entry.get("model_info") or {}
        if info.get("lifecycle"):
            deployment = llm_router.get_deployment(model_id=str(info.get("id")))
            return str(deployment.model_name if deployment is not None else entry["model_name"])
    return None


def _wait_limit(scope: RequestScope) -> float | None:
    text = scope.header(MAX_WAIT_HEADER)
    if text is None:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise ProxyException(
            message=f"X-Hearth-Max-Wait is a number of seconds, 0 or more, and not {text[:40]!r}.",
            type="invalid_request_error",
            param="X-Hearth-Max-Wait",
            code=400,
        )
    return limit


async def _progress(scope: RequestScope, ticket: Ticket) -> str:
    """What a streaming caller reads while it waits; its client ignores it, a person with curl does not."""
    if ticket.leased:
        return f"hearth: {ticket.model} is working on the answer"
    try:
        place = await scope.admission.place(ticket)
    except StoreUnavailable:
        return "hearth: waiting"
    text = f"hearth: {ticket.model} is {place.phase}"
    if place.position:
        text += f", place {place.position} in line"
    if place.expected_seconds is not None:
        text += f", about {format_duration(place.expected_seconds)}"
    return text


def _answer(scope: RequestScope, refusal: Refusal, key: UserAPIKeyAuth) -> ProxyException:
    headers = refusal_headers(refusal)
    scope.answer.set_headers(headers)
    message = refusal.message
    if refusal.log and is_admin(key):
        message += "\nThe engine's last lines:\n" + "\n".join(refusal.log)
    return ProxyException(message=message, type=refusal.type, param="model", code=refusal.status)

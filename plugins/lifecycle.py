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
from plugins.request_checks import LONGEST_NAME
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
        """Return when the model of `data` may be called. Raises Refused."""
        scope = current_scope()
        if scope is None:  # LiteLLM's own background work wakes nothing
            return
        if scope.gone.is_set():  # LiteLLM goes on with an empty body when its client leaves while it sends one
            raise Refused("The client has closed its connection.", param="body", code=499)
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
        try:
            await scope.admission.acquire(ticket, limit=limit, bound=self._bound)
        except StoreUnavailable:
            refusal = ServiceUnavailable("Redis is away; try again in a moment.", model=name, retry_after=2.0)
            raise _answer(scope, refusal, user_api_key_dict) from None
        except Refusal as refusal:
            raise _answer(scope, refusal, user_api_key_dict) from None

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Leave only engines that this request holds: LiteLLM also calls models for which it does not call the hook
        above, such as fallbacks."""
        scope = current_scope()
        if scope is None:
            return healthy_deployments
        held = scope.ticket.model if scope.ticket is not None else None
        return [each for each in healthy_deployments if _engine_of(each) in (None, held)]

    def _lifecycle_name(self, model: Any) -> str | None:
        """The model whose engine answers for `model` (a name, an alias, or a name that a wildcard matches)."""
        if model is None:
            return None
        if not isinstance(model, str) or not 0 < len(model) <= LONGEST_NAME:
            raise Refused(f"model: is the name of a model, as text of at most {LONGEST_NAME} letters", param="model")
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


class Refused(ProxyException):  # type: ignore[misc] # LiteLLM is not typed for this
    """A refusal as LiteLLM passes it on. Some of its addresses look for `status_code`, and answer 500 without it."""

    def __init__(self, message: str, *, param: str, type: str = "invalid_request_error", code: int = 400) -> None:  # noqa: A002
        super().__init__(message=message, type=type, param=param, code=code)
        self.status_code = code


def _resolve(model: str) -> str | None:
    """Raises Refused for names by which LiteLLM would reach an engine past its model."""
    llm_router = proxy_server.llm_router
    if llm_router is None:
        return None
    entries = llm_router.get_model_list(model_name=model) or []
    for entry in entries:
        if (engine := _engine_of(entry)) is not None:
            return engine
    if not entries:
        if "," in model:
            raise Refused("model: is the name of one model", param="model")
        for entry in llm_router.get_model_list() or []:
            inner = ((entry.get("litellm_params") or {}).get("model"), (entry.get("model_info") or {}).get("id"))
            if model in inner and (engine := _engine_of(entry)) is not None:
                raise Refused(f"model: there is no {model!r}; did you mean {engine!r}?", param="model")
    return None


def _engine_of(entry: Any) -> str | None:
    """The model with a lifecycle that an entry of LiteLLM's model list belongs to; None when it has none."""
    info = entry.get("model_info") or {}
    if not info.get("lifecycle"):
        return None
    llm_router = proxy_server.llm_router
    # its get_deployment would build and validate a whole object, with every request
    index = llm_router.model_id_to_deployment_index_map.get(str(info.get("id")))
    return str((entry if index is None else llm_router.model_list[index])["model_name"])


def _wait_limit(scope: RequestScope) -> float | None:
    text = scope.header(MAX_WAIT_HEADER)
    if text is None:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise Refused(
            f"X-Hearth-Max-Wait is a number of seconds, 0 or more, and not {text[:40]!r}.", param="X-Hearth-Max-Wait"
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


def _answer(scope: RequestScope, refusal: Refusal, key: UserAPIKeyAuth) -> Refused:
    headers = refusal_headers(refusal)
    scope.answer.set_headers(headers)
    message = refusal.message
    if refusal.log and is_admin(key):
        message += "\nThe engine's last lines:\n" + "\n".join(refusal.log)
    return Refused(message, type=refusal.type, param="model", code=refusal.status)

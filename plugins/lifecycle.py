"""The hook that LiteLLM calls before every model call: the model is made ready, or the request is refused.

The gateway registers the one instance itself. A `callbacks` entry in the YAML is not needed and would not do: LiteLLM
executes a plugin file that lies beside the YAML as a second module, and a second copy of this state would be wrong.
"""

from __future__ import annotations

import functools
import math
import time
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

from plugins.answer_forms import refusal_headers, waited_headers
from plugins.loading_messages import LOADING_HEADER, Progress
from plugins.request_checks import LONGEST_NAME
from plugins.request_rules.access import may_use
from plugins.request_rules.pipeline import Pipeline
from plugins.request_scope import MAX_WAIT_HEADER, RequestScope, current_scope
from plugins.tracing import trace_wait
from router.config import Config
from router.errors import ModelNeverFits, Refusal, ServiceUnavailable, StoreUnavailable, Unfit
from router.scheduling.fairness import clamped
from router.settings import LoadingMessages
from router.store.key_ring import caller_of_id
from router.store.ticket import LineLimits, Ticket

_Number = TypeVar("_Number", int, float)
#: Seconds for which a resolved name is remembered: LiteLLM's model list can change while the gateway runs.
_REMEMBERED = 5.0
_MOST_NAMES = 2000


class LifecycleHook(CustomLogger):  # type: ignore[misc] # LiteLLM is not typed for this
    """Wakes what a request asks for. LiteLLM only calls hooks that are defined on the class itself."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._rules = Pipeline(config.rules)
        self._loading_messages = config.settings.loading_messages
        self._bound = config.settings.max_wait
        self._limits = {
            name: LineLimits(spec.parallel or 0, spec.line_limit, config.settings.caller_line_limit)
            for name, spec in config.models.items()
        }
        self._disabled = config.disabled
        self._oversized = config.oversized
        self._engines = {_address(spec.api_base): name for name, spec in config.models.items()}
        self._names: dict[str, str | None] = {}
        self._forget_at = 0.0

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any] | None:
        """Return when the model of `data` may be called: the data to call it with, or None for `data` as it is. Raises
        Refused."""
        scope = current_scope()
        if scope is None:  # LiteLLM's own background work wakes nothing
            return None
        name = self._lifecycle_name(data.get("model"))
        fitted = await self._fitted(scope, name or str(data.get("model")), data, call_type, user_api_key_dict)
        if scope.gone.is_set():  # LiteLLM goes on with an empty body when its client leaves while it sends one
            raise Refused("The client has closed its connection.", param="body", code=499)
        if name is None or (scope.ticket is not None and scope.ticket.model == name):
            return fitted
        limit, shown_in = _wait_limit(scope), _shown_in(scope, self._loading_messages)
        ticket = _new_ticket(scope, name, data, user_api_key_dict)
        scope.answer.set_headers({"X-Hearth-Model": name, "X-Hearth-Request": scope.id})
        if ticket.stream:
            progress = Progress(scope, ticket, shown_in, data)
            scope.answer.keep_alive(progress, progress.every)
        await self._acquire(scope, ticket, limit, user_api_key_dict)
        scope.answer.set_headers(waited_headers(ticket.waited))
        return fitted

    async def _acquire(self, scope: RequestScope, ticket: Ticket, limit: float | None, key: UserAPIKeyAuth) -> None:
        """Return when the ticket has its lease. limit: seconds that the caller is willing to wait. Raises Refused, and
        ProxyException for a key that was revoked or blocked while the request waited."""
        limits = self._limits.get(ticket.model)
        try:
            await scope.admission.acquire(ticket, limit=limit, bound=self._bound, limits=limits)
        except StoreUnavailable:
            refusal = ServiceUnavailable("Redis is away; try again in a moment.", model=ticket.model, retry_after=2.0)
            raise _answer(scope, refusal, key) from None
        except Refusal as refusal:
            trace_wait(scope, refusal.type)
            raise _answer(scope, refusal, key) from None
        if ticket.waited is not None:
            trace_wait(scope, "granted")
            if scope.still_allowed is not None:
                await scope.still_allowed()

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
        return [each for each in healthy_deployments if _engine_of(each, self._engines) in (None, held)]

    async def _fitted(
        self, scope: RequestScope, model: str, data: dict[str, Any], call_type: str, key: UserAPIKeyAuth
    ) -> dict[str, Any] | None:
        """The data after the model's request rules; None when they have changed nothing. Raises Refused."""
        try:
            request = await self._rules.apply(model, data, call_type, functools.partial(may_use, key))
        except Unfit as unfit:
            raise Refused(unfit.message, param=unfit.param or "model", openai_code=unfit.code) from None
        if request is None:
            return None
        scope.answer.set_headers({"X-Hearth-Changed": "; ".join(request.changes)})
        return request.data

    def _lifecycle_name(self, model: Any) -> str | None:
        """The model whose engine answers for `model` (a name, an alias, or a name that a wildcard matches)."""
        if model is None:
            return None
        if not isinstance(model, str) or not 0 < len(model) <= LONGEST_NAME:
            raise Refused(f"model: is the name of a model, as text of at most {LONGEST_NAME} letters", param="model")
        if model in self._disabled:  # LiteLLM does not know it, and a wildcard would send it somewhere else
            raise Refused(
                f"The model {model!r} is disabled here: {self._disabled[model]}. GET /v1/models lists the others.",
                param="model",
                type="model_disabled",
                code=404,
            )
        now = time.monotonic()
        if now > self._forget_at or len(self._names) > _MOST_NAMES:
            self._names.clear()
            self._forget_at = now + _REMEMBERED
        if model not in self._names:
            self._names[model] = _resolve(model, self._engines)
        name = self._names[model]
        if name in self._oversized:
            never = ModelNeverFits.of(str(name))
            raise Refused(never.message, param="model", type=never.type, code=never.status)
        return name


def is_admin(key: UserAPIKeyAuth) -> bool:
    """Whether the key may do everything: the master key, or a proxy admin's that is not for some addresses only."""
    return bool(key.user_role == LitellmUserRoles.PROXY_ADMIN and not key.allowed_routes)


def caller_of(key: UserAPIKeyAuth) -> str:
    """A short stable name for a key that gives nothing of it away."""
    return caller_of_id(key.api_key or "")


def _new_ticket(scope: RequestScope, model: str, data: Mapping[str, Any], key: UserAPIKeyAuth) -> Ticket:
    """The request's ticket for `model`; the one that it had for another model ends."""
    earlier, metadata = scope.ticket, key.metadata or {}
    if earlier is not None:
        scope.admission.end(earlier)
    scope.ticket = Ticket(
        id=scope.id if earlier is None else uuid.uuid4().hex,
        model=model,
        caller=caller_of(key),
        alias=key.key_alias or "",
        stream=data.get("stream") is True,
        priority=clamped(_number(metadata, "priority", 0)),
        share=_number(metadata, "share", 1.0),
        cut=scope.cut,
    )
    return scope.ticket


def _number(metadata: Mapping[str, Any], name: str, default: _Number) -> _Number:
    """A key's setting of the scheduler; the default for what is no number."""
    value = metadata.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return type(default)(value)


class Refused(ProxyException):  # type: ignore[misc] # LiteLLM is not typed for this
    """A refusal as LiteLLM passes it on. Some of its addresses look for `status_code`, and answer 500 without it.

    code: the HTTP status. openai_code: what the error's `code` says instead of it; LiteLLM has it but does not show it.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str,
        type: str = "invalid_request_error",  # noqa: A002
        code: int = 400,
        openai_code: str | None = None,
    ) -> None:
        super().__init__(message=message, type=type, param=param, code=code, openai_code=openai_code)
        self.status_code = code

    def to_dict(self) -> dict[str, Any]:
        """The error as clients read it."""
        return {**super().to_dict(), "code": str(self.openai_code)}


def _resolve(model: str, engines: Mapping[str, str]) -> str | None:
    """Raises Refused for names by which LiteLLM would reach an engine past its model. engines: names by address."""
    llm_router = proxy_server.llm_router
    if llm_router is None:
        return None
    entries = llm_router.get_model_list(model_name=model) or []
    for entry in entries:
        if (engine := _engine_of(entry, engines)) is not None:
            return engine
        if (entry.get("model_info") or {}).get("lifecycle"):
            raise Refused(
                f"The model {model!r} was added with a lifecycle, which only the configuration file can give. Add it "
                f"there, or take the lifecycle out and give it the api_base of an engine that is there.",
                param="model",
                type="model_without_engine",
                code=404,
            )
    if not entries:
        if "," in model:
            raise Refused("model: is the name of one model", param="model")
        for entry in llm_router.get_model_list() or []:
            inner = ((entry.get("litellm_params") or {}).get("model"), (entry.get("model_info") or {}).get("id"))
            if model in inner and (engine := _engine_of(entry, engines)) is not None:
                raise Refused(f"model: there is no {model!r}; did you mean {engine!r}?", param="model")
    return None


def _engine_of(entry: Any, engines: Mapping[str, str]) -> str | None:
    """The model with a lifecycle whose engine an entry of LiteLLM's model list calls; None when it calls none.

    Of the file's entries the lifecycle says it. Those that were added since, in LiteLLM's database, can only share an
    engine of the file, whose address they name: a key, though it be the admin's, starts nothing that the file does not
    name."""
    info = entry.get("model_info") or {}
    if not info.get("lifecycle") or info.get("db_model"):
        return engines.get(_address((entry.get("litellm_params") or {}).get("api_base")))
    llm_router = proxy_server.llm_router
    # its get_deployment would build and validate a whole object, with every request
    index = llm_router.model_id_to_deployment_index_map.get(str(info.get("id")))
    return str((entry if index is None else llm_router.model_list[index])["model_name"])


def _address(api_base: Any) -> str:
    """An engine's address as it is compared."""
    return str(api_base or "").rstrip("/").lower()


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


def _shown_in(scope: RequestScope, default: LoadingMessages) -> LoadingMessages:
    text = scope.header(LOADING_HEADER)
    if text is None:
        return default
    try:
        return LoadingMessages(text.strip().lower())
    except ValueError:
        raise Refused(
            f"X-Hearth-Loading is reasoning, content or off, and not {text[:40]!r}.", param="X-Hearth-Loading"
        ) from None


def _answer(scope: RequestScope, refusal: Refusal, key: UserAPIKeyAuth) -> Refused:
    waited = scope.ticket.waited if scope.ticket is not None else None
    scope.refused = refusal.type
    scope.answer.set_headers({**refusal_headers(refusal), **waited_headers(waited)})
    message = refusal.message
    if refusal.log and is_admin(key):
        message += "\nThe engine's last lines:\n" + "\n".join(refusal.log)
    return Refused(message, type=refusal.type, param="model", code=refusal.status)

"""What Hearth needs of LiteLLM's settings, and where it hooks itself in."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import litellm
from litellm._logging import verbose_proxy_logger
from litellm.litellm_core_utils import token_counter
from litellm.proxy import proxy_server
from litellm.proxy._types import LiteLLMRoutes

from plugins.key_auth import KeyCheck
from plugins.key_limits import KeyLimits
from plugins.lifecycle import LifecycleHook, Refused
from router.catalogue import is_disabled
from router.config import Config
from router.store.known_keys import KnownKeys

log = logging.getLogger(__name__)

GetConfig = Callable[..., Awaitable[dict[str, Any]]]

#: LiteLLM imports it with each request, and bears with its absence.
_TRACING = "litellm.integrations.otel.logger"

#: Addresses of ours that every valid key may ask.
_OURS = ("/lifecycle/{path:path}", "/metrics")

#: What LiteLLM's counter takes an image for that is somewhere else: width and height in pixels.
_IMAGE_ELSEWHERE = (1024, 1024)

#: Set unless the file sets them itself.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "general_settings": {
        "cancel_on_disconnect": True,  # a generation that nobody reads any more is stopped
        "disable_model_info_refresh": True,  # it would ask sleeping engines for their models every five minutes
    },
    "litellm_settings": {
        # its counter would fetch one for every model with "llama-3" in its name, and all requests would stand still
        "disable_hf_tokenizer_download": True,
    },
    "router_settings": {
        "disable_cooldowns": True,  # one engine a model: keeping it out after an error would only refuse requests
        "num_retries": 0,  # the client decides whether to try again
    },
}

#: LiteLLM prints whole requests with these, or writes log lines past ours (HEARTH_LOG_FORMAT).
_NEVER = {"set_verbose", "debug_level", "json_logs"}


def with_defaults(get_config: GetConfig) -> GetConfig:
    """`ProxyConfig.get_config`, with our defaults for what the file leaves open, and without the disabled models."""

    async def get_config_with_defaults(*args: Any, **kwargs: Any) -> dict[str, Any]:
        config = await get_config(*args, **kwargs)
        if models := config.get("model_list"):
            config["model_list"] = [entry for entry in models if not is_disabled(entry)]
        for section in ("litellm_settings", "router_settings"):
            for name in _NEVER.intersection(config.get(section) or {}):
                log.warning("%s.%s is ignored: it would write requests into the log", section, name)
                del config[section][name]
        for section, defaults in _DEFAULTS.items():
            config[section] = {**defaults, **(config.get(section) or {})}
        return config

    return get_config_with_defaults


def remember_that_tracing_is_missing() -> None:
    """Python does not remember imports that failed: without this, each request pays half a millisecond for finding out
    anew that OpenTelemetry's SDK is not installed."""
    try:
        importlib.import_module(_TRACING)
    except ImportError:
        sys.modules.setdefault(_TRACING, None)  # type: ignore[arg-type] # None: "known to be missing"


def count_images_without_fetching_them() -> None:
    """LiteLLM's counter asks for a client's `image_url` with `detail: high` to learn its size, at the end of a stream.
    All requests would stand still until some server answers, and that server would hear from the gateway."""
    measured = token_counter.get_image_dimensions

    def without_fetching(data: str) -> tuple[int, int]:
        return _IMAGE_ELSEWHERE if data.startswith(("http://", "https://")) else measured(data)

    token_counter.get_image_dimensions = without_fetching


def _is_news(record: logging.LogRecord) -> bool:
    """LiteLLM logs every exception; a refusal is an answer, and none of its business."""
    told = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(each, Refused) for each in (*told, *(record.exc_info or ())))


def install(config: Config, keys: KnownKeys) -> None:
    """Register the hook, last of all, so that LiteLLM's own limits refuse before anything wakes; and the key check."""
    remember_that_tracing_is_missing()
    count_images_without_fetching_them()
    let_keys_see_their_own()
    verbose_proxy_logger.filters.insert(0, _is_news)  # before LiteLLM's own make text of it
    check_keys_unless_others_do(keys)
    # LiteLLM adds no second callback of a class's name: one that the file's `callbacks` made would stay in ours' place.
    litellm.callbacks[:] = [each for each in litellm.callbacks if type(each).__name__ != LifecycleHook.__name__]
    litellm.logging_callback_manager.add_litellm_callback(LifecycleHook(config))


def let_keys_see_their_own() -> None:
    """LiteLLM keeps addresses that it does not know for admins, and from keys that are for calling models only (which
    its admin UI makes unless told otherwise). Ours decide by themselves: the router gives a key what is its own."""
    for group in (LiteLLMRoutes.self_managed_routes, LiteLLMRoutes.llm_api_routes):
        group.value.extend(route for route in _OURS if route not in group.value)


def check_keys_unless_others_do(keys: KnownKeys) -> None:
    """Our keys, with LiteLLM's checks of what a key may do; nothing where LiteLLM has a database, or the
    configuration a `custom_auth`."""
    if proxy_server.user_custom_auth is not None or os.environ.get("DATABASE_URL"):
        return
    proxy_server.user_custom_auth = KeyCheck(keys)
    litellm.enable_post_custom_auth_checks = True
    proxy_server.general_settings["custom_auth_run_common_checks"] = True
    litellm.logging_callback_manager.add_litellm_callback(KeyLimits(keys))

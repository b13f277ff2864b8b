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
from litellm.proxy import proxy_server

from plugins.key_auth import check_key
from plugins.lifecycle import LifecycleHook, Refused
from router.config import LifecycleSettings

GetConfig = Callable[..., Awaitable[dict[str, Any]]]

#: LiteLLM imports it with each request, and bears with its absence.
_TRACING = "litellm.integrations.otel.logger"

#: Set unless the file sets them itself.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "general_settings": {
        "cancel_on_disconnect": True,  # a generation that nobody reads any more is stopped
        "disable_model_info_refresh": True,  # it would ask sleeping engines for their models every five minutes
    },
    "router_settings": {
        "disable_cooldowns": True,  # one engine a model: keeping it out after an error would only refuse requests
        "num_retries": 0,  # the client decides whether to try again
    },
}


def with_defaults(get_config: GetConfig) -> GetConfig:
    """`ProxyConfig.get_config`, with our defaults for what the file leaves open."""

    async def get_config_with_defaults(*args: Any, **kwargs: Any) -> dict[str, Any]:
        config = await get_config(*args, **kwargs)
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


def _is_news(record: logging.LogRecord) -> bool:
    """LiteLLM logs every exception with its traceback; a refusal is an answer, and none of its business."""
    return not (record.exc_info and isinstance(record.exc_info[1], Refused))


def install(settings: LifecycleSettings) -> None:
    """Register the hook, last of all, so that LiteLLM's own limits refuse before anything wakes; and the key check."""
    remember_that_tracing_is_missing()
    verbose_proxy_logger.addFilter(_is_news)
    litellm.logging_callback_manager.add_litellm_callback(LifecycleHook(settings))
    if proxy_server.user_custom_auth is None and not os.environ.get("DATABASE_URL"):
        proxy_server.user_custom_auth = check_key

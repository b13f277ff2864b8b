"""Where a Hearth process finds the others: read once from the environment, given on as plain values."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from router.errors import ConfigError
from router.logs import LogFormat, log_format, log_level


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen (HEARTH_LISTEN): a unix socket's path, or host and port."""

    uds: str | None = None
    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """`unix:///path`, `HOST:PORT` or `[IPV6]:PORT`. Raises ConfigError."""
        if text.startswith("unix://"):
            return cls(uds=text.removeprefix("unix://"))
        try:
            parts = urlsplit(f"//{text}")
            if parts.hostname and parts.port is not None:
                return cls(host=parts.hostname, port=parts.port)
        except ValueError:
            pass
        raise ConfigError(f"HEARTH_LISTEN: {text!r} is not an address: write HOST:PORT or unix:///PATH")


@dataclass(frozen=True, slots=True)
class Environment:
    """HEARTH_CONFIG, HEARTH_REDIS_URL, HEARTH_LISTEN, HEARTH_ROUTER_URL, HEARTH_STATE_DIR, HEARTH_LOG_FORMAT and
    HEARTH_LOG_LEVEL. log_level: of the logging module."""

    config: Path
    redis_url: str
    listen: Address
    router_url: str
    state_dir: Path
    log_format: LogFormat = LogFormat.TEXT
    log_level: int = logging.INFO

    @classmethod
    def read(cls, default_listen: str) -> Environment:
        """What is empty counts as not set. Raises ConfigError when one of them makes no sense."""
        return cls(
            config=Path(_value("HEARTH_CONFIG", "litellm_config.yaml")),
            redis_url=_url("HEARTH_REDIS_URL", "redis://127.0.0.1:6379/0", ("redis", "rediss", "unix")),
            listen=Address.parse(_value("HEARTH_LISTEN", default_listen)),
            router_url=_url("HEARTH_ROUTER_URL", "http://127.0.0.1:8010", ("http", "https", "unix")),
            state_dir=Path(_value("HEARTH_STATE_DIR", ".hearth")),
            log_format=log_format(_value("HEARTH_LOG_FORMAT", LogFormat.TEXT)),
            log_level=log_level(_value("HEARTH_LOG_LEVEL", "info")),
        )


def _value(name: str, default: str) -> str:
    return os.environ.get(name) or default


def _url(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """An address of one of these kinds, of which `unix` needs a path and all others a host. Its text is in no message,
    since there may be a password in it. Raises ConfigError."""
    text = _value(name, default)
    try:
        parts = urlsplit(text)
        whole = bool(parts.path if parts.scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        whole = False
    if not whole or parts.scheme not in schemes:
        raise ConfigError(f"{name} is no address that can be used: write {schemes[0]}://HOST:PORT or unix:///PATH")
    return text

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
    """Where to listen: a unix socket's path, or host and port."""

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
        raise ConfigError(f"{text!r} is not an address: write HOST:PORT or unix:///PATH")


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
        """Raises ConfigError when one of them makes no sense."""
        return cls(
            config=Path(os.environ.get("HEARTH_CONFIG", "litellm_config.yaml")),
            redis_url=os.environ.get("HEARTH_REDIS_URL", "redis://127.0.0.1:6379/0"),
            listen=Address.parse(os.environ.get("HEARTH_LISTEN", default_listen)),
            router_url=os.environ.get("HEARTH_ROUTER_URL", "http://127.0.0.1:8010"),
            state_dir=Path(os.environ.get("HEARTH_STATE_DIR", ".hearth")),
            log_format=log_format(os.environ.get("HEARTH_LOG_FORMAT") or LogFormat.TEXT),
            log_level=log_level(os.environ.get("HEARTH_LOG_LEVEL") or "info"),
        )

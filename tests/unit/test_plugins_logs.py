"""LiteLLM's own loggers inside the gateway."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from plugins.logs import calm_litellm


@pytest.fixture
def litellms() -> Iterator[logging.Logger]:
    """One of LiteLLM's loggers; afterwards it is as it was."""
    logger = logging.getLogger("LiteLLM Proxy")
    before = {name: getattr(logger, name) for name in ("level", "propagate")}
    handlers, filters = logger.handlers[:], logger.filters[:]
    yield logger
    for name, value in before.items():
        setattr(logger, name, value)
    logger.handlers[:], logger.filters[:] = handlers, filters


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_no_record_is_made_that_would_be_dropped(litellms: logging.Logger, level: int) -> None:
    """Each costs a request a tenth of a millisecond, for LiteLLM's search for secrets in it."""
    litellms.setLevel(level)
    calm_litellm()
    assert not litellms.isEnabledFor(logging.INFO)
    assert litellms.isEnabledFor(logging.WARNING)


def test_one_that_was_told_to_say_less_still_does(litellms: logging.Logger) -> None:
    litellms.setLevel(logging.ERROR)
    calm_litellm()
    assert not litellms.isEnabledFor(logging.WARNING)

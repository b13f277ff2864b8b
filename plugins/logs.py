"""The gateway's log lines: they say of which request they tell, and never what is in it.

Whatever LiteLLM and other libraries log while requests are served can quote them: an engine's error with the prompt in
it, a validation error with the value, the whole body at DEBUG. So from the first request on their words are left out;
what remains is who logged from where, and what kind of exceptions there were. Our own words never have any of it.
"""

from __future__ import annotations

import logging

import litellm

from plugins.request_scope import current_scope
from router.logs import frames

_OURS = ("gateway", "plugins", "router")
_LITELLM = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
_PRINTED = ("stdout", "stderr")
_LEFT_OUT = "left out, since it can quote a request"


class RequestFields(logging.Filter):
    """Adds the request that a record belongs to: its id, its model and its key's name."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (scope := current_scope()) is not None:
            ticket = scope.ticket
            known = {
                "request_id": scope.id,
                "model": ticket.model if ticket is not None else None,
                "key_alias": ticket.alias if ticket is not None else scope.key and scope.key.name,
            }
            for name, value in known.items():
                if not hasattr(record, name):
                    setattr(record, name, value)
        return True


class Discretion(logging.Filter):
    """Takes out of a record what could be a part of a request, once `serving` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.serving = False

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.name.partition(".")[0] in _OURS
        if not self.serving:
            return True
        if not ours and (record.levelno < logging.WARNING or record.name in _PRINTED):
            return False
        if record.exc_info and record.exc_info[1] is not None:
            record.exception = _kinds(record.exc_info[1])
            record.exc_text = frames(record.exc_info[2])
        elif record.exc_text:
            record.exc_text = None
        record.exc_info = record.stack_info = None
        if not ours:
            record.msg, record.args = _LEFT_OUT, None
            record.where = f"{record.module}.{record.funcName}:{record.lineno}"
        return True


def _note_exception(record: logging.LogRecord) -> bool:
    """Keeps the kind of an exception that a message tells of, before it becomes text."""
    for each in record.args if isinstance(record.args, tuple) else ():
        if isinstance(each, BaseException):
            record.exception = _kinds(each)
    return True


def _kinds(error: BaseException) -> str:
    """The types of an exception and of those behind it, the outermost first."""
    found: list[str] = []
    following: BaseException | None = error
    while following is not None and len(found) < 10:
        status = getattr(following, "status_code", None)
        kind = type(following)
        found.append(f"{kind.__module__}.{kind.__qualname__}" + (f" ({status})" if isinstance(status, int) else ""))
        following = following.__cause__ or following.__context__
    return " < ".join(found)


def calm_litellm() -> None:
    """LiteLLM's own handlers write in their own way, and at DEBUG it writes (and prints) all that it gets."""
    litellm.set_verbose = False
    litellm.suppress_debug_info = True
    for name in _LITELLM:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        if _note_exception not in logger.filters:
            logger.filters.insert(0, _note_exception)
        logger.setLevel(max(logger.level, logging.WARNING))  # of what is below, nothing would be kept

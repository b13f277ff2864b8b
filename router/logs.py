"""Log lines: text for people, or one JSON object a line. Both have the same fields, and neither has a prompt."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Any

from router.errors import ConfigError

#: What a record may have beside its message, in this order; set with `extra`, or by a filter of the handler.
FIELDS = ("request_id", "model", "key_alias", "outcome", "waited_seconds", "seconds", "where", "exception")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogFormat(StrEnum):
    """HEARTH_LOG_FORMAT."""

    TEXT = "text"
    JSON = "json"


def log_format(text: str) -> LogFormat:
    """Raises ConfigError."""
    try:
        return LogFormat(text.strip().lower())
    except ValueError:
        raise ConfigError(f"HEARTH_LOG_FORMAT is text or json, and not {text[:40]!r}") from None


def log_level(text: str) -> int:
    """Raises ConfigError."""
    level = logging.getLevelNamesMapping().get(text.strip().upper())
    if level not in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        raise ConfigError(f"HEARTH_LOG_LEVEL is debug, info, warning or error, and not {text[:40]!r}")
    return level


class TextFormatter(logging.Formatter):
    """The usual line, with what else is known of the record behind it."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        fields = " ".join(f"{name}={_plain(value)}" for name, value in _fields(record).items())
        line = super().formatMessage(record)
        return f"{line} [{fields}]" if fields else line


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message; then those of FIELDS that are known, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(how: LogFormat, level: int, *filters: logging.Filter) -> logging.Handler:
    """Let the root write to stderr in this way, at that level. filters: of its handler, so that they see every record.
    Warnings and uncaught exceptions are log lines too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if how is LogFormat.JSON else TextFormatter())
    for each in filters:
        handler.addFilter(each)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    return handler


def capture_prints() -> None:
    """Let what is printed be log lines of the loggers `stdout` and `stderr`: libraries print tracebacks, and more."""
    sys.stdout = _Printed(logging.getLogger("stdout"), logging.INFO)
    sys.stderr = _Printed(logging.getLogger("stderr"), logging.WARNING)


class _Printed(io.TextIOBase):
    """A stream whose lines are log lines."""

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        self._rest = ""
        self._busy = threading.local()
        self._nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """For programs that a library starts, such as the engine of LiteLLM's database: what they say goes nowhere."""
        return self._nowhere

    def write(self, text: str) -> int:
        if not getattr(self._busy, "now", False):  # logging prints when it cannot write
            self._busy.now = True
            try:
                *lines, self._rest = (self._rest + text).split("\n")
                for line in filter(str.strip, lines):
                    self._logger.log(self._level, "%s", line)
            finally:
                self._busy.now = False
        return len(text)


def frames(trace: TracebackType | None) -> str:
    """Where an exception came from: files, lines and functions, without any value."""
    return "".join(traceback.format_tb(trace, limit=-20)).rstrip()


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("router").critical("an error that nobody expected", exc_info=(kind, error, trace))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in FIELDS if (value := record.__dict__.get(name)) not in (None, "")}


def _plain(value: object) -> str:
    """One word: a key's name or a model's may have blanks and line ends in it."""
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)

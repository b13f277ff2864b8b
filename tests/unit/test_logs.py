"""Log lines: their two forms, the request that they belong to, and that other people's words are left out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from plugins import logs as logs_of_gateway
from plugins import request_scope
from plugins.answer import Answer
from plugins.logs import Discretion, RequestFields
from plugins.request_scope import RequestScope
from router import logs
from router.environment import Environment
from router.errors import ConfigError
from router.logs import JsonFormatter, TextFormatter, log_format, log_level
from router.store.ticket import Ticket

SECRET = "what the user said"


class Sink(logging.Handler):
    """Formats records as one of the two forms."""

    def __init__(self, formatter: logging.Formatter, *filters: logging.Filter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        for each in filters:
            self.addFilter(each)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines[-1])
        return found


def logger(name: str, sink: Sink) -> logging.Logger:
    made = logging.Logger(name, logging.DEBUG)
    made.addHandler(sink)
    return made


async def _nowhere(_: Any) -> None:
    raise AssertionError("nothing is sent here")


@contextmanager
def a_request() -> Iterator[RequestScope]:
    scope = RequestScope(None, Answer(_nowhere, "/v1/chat/completions", 1.0), [])  # type: ignore[arg-type]
    token = request_scope._current.set(scope)
    try:
        yield scope
    finally:
        request_scope._current.reset(token)


# --- the two forms


def test_json_has_one_object_a_line_whatever_is_in_the_message() -> None:
    sink = Sink(JsonFormatter())
    logger("router.x", sink).warning("two\nlines of %s", "ünïcode")
    assert "\n" not in sink.lines[0]
    time = sink.last.pop("time")
    assert time[10] == "T"
    assert time.endswith("+00:00")
    assert sink.last | {"time": time} == {
        "time": time,
        "level": "warning",
        "logger": "router.x",
        "message": "two\nlines of ünïcode",
    }


def test_json_has_what_else_is_known_and_the_traceback() -> None:
    sink = Sink(JsonFormatter())
    try:
        int("broken")
    except ValueError:
        logger("router", sink).exception("no", extra={"model": "m", "waited_seconds": 1.5, "key_alias": "", "other": 1})
    found = sink.last
    assert (found["model"], found["waited_seconds"]) == ("m", 1.5)
    assert "ValueError: invalid literal" in found["traceback"]
    assert not {"key_alias", "other", "outcome"} & found.keys()


def test_text_has_the_same_fields_and_nobody_can_forge_a_line_with_them() -> None:
    sink = Sink(TextFormatter())
    logger("gateway", sink).info("request", extra={"model": "m", "key_alias": "ada\nERROR x: [model=z]"})
    assert sink.lines[0].endswith(r'INFO gateway: request [model=m key_alias="ada\nERROR x: [model=z]"]')
    logger("gateway", sink).info("plain")
    assert sink.lines[1].endswith("INFO gateway: plain")


def test_warnings_uncaught_errors_and_prints_are_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    root = logging.getLogger()
    before, hook, level, stdout = list(root.handlers), sys.excepthook, root.level, sys.stdout
    monkeypatch.setattr(sys, "stderr", out)
    try:
        handler = logs.configure(log_format("json"), logging.INFO)
        logs.capture_prints()
        print("hello\nthere")
        print(SECRET, file=sys.stderr, end="")
        print("!", file=sys.stderr)
        subprocess.run(["echo", SECRET], stdout=sys.stdout, stderr=sys.stderr, check=True)
        sys.excepthook(ValueError, ValueError("broken"), None)
    finally:
        root.removeHandler(handler)
        root.handlers, sys.excepthook, sys.stdout = before, hook, stdout
        root.setLevel(level)
        logging.captureWarnings(False)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["logger"], line["message"]) for line in found] == [
        ("stdout", "hello"),
        ("stdout", "there"),
        ("stderr", f"{SECRET}!"),
        ("router", "an error that nobody expected"),
    ]
    assert found[-1]["level"] == "critical"


@pytest.mark.parametrize(("read", "wrong"), [(log_format, "xml"), (log_level, "loud"), (log_level, "notset")])
def test_settings_that_make_no_sense_are_refused(read: Any, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        read(wrong)


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTH_LOG_FORMAT", "HEARTH_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    assert (Environment.read("x:1").log_format, Environment.read("x:1").log_level) == ("text", logging.INFO)
    monkeypatch.setenv("HEARTH_LOG_FORMAT", "JSON")
    monkeypatch.setenv("HEARTH_LOG_LEVEL", "debug")
    assert (Environment.read("x:1").log_format, Environment.read("x:1").log_level) == ("json", logging.DEBUG)


# --- the request that a line belongs to


async def test_a_line_says_of_which_request_it_tells() -> None:
    sink = Sink(JsonFormatter(), RequestFields())
    with a_request() as scope:
        logger("plugins.x", sink).info("hm")
        assert sink.last["request_id"] == scope.id
        assert "model" not in sink.last
        scope.ticket = Ticket("m", alias="ada")
        logger("plugins.x", sink).info("hm")
        assert (sink.last["model"], sink.last["key_alias"]) == ("m", "ada")
        logger("plugins.x", sink).info("hm", extra={"request_id": "another"})
        assert sink.last["request_id"] == "another"


def test_a_line_outside_of_requests_has_no_request() -> None:
    sink = Sink(JsonFormatter(), RequestFields())
    logger("plugins.x", sink).info("hm")
    assert "request_id" not in sink.last


# --- discretion


def quoting() -> BaseException:
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise RuntimeError(f"because of {SECRET}") from error
    except RuntimeError as error:
        return error


@pytest.fixture
def serving() -> Sink:
    discretion = Discretion()
    discretion.serving = True
    return Sink(JsonFormatter(), discretion)


@pytest.mark.parametrize("name", ["LiteLLM Proxy", "uvicorn.error", "asyncio", "pluginsx"])
def test_words_of_others_are_left_out_and_what_happened_is_not(serving: Sink, name: str) -> None:
    logger(name, serving).error("it said %s", SECRET, exc_info=quoting(), stack_info=True)
    assert SECRET not in serving.lines[0]
    found = serving.last
    assert found["where"].startswith("test_logs.test_words_of_others")
    assert found["exception"] == "builtins.RuntimeError < builtins.ValueError"
    assert "in quoting" in found["traceback"]


def test_an_exception_that_became_text_is_still_known(serving: Sink) -> None:
    talkative = logger("LiteLLM", serving)
    talkative.addFilter(logs_of_gateway._note_exception)
    talkative.error("Exception occured - %s", quoting())
    assert SECRET not in serving.lines[0]
    assert serving.last["exception"] == "builtins.RuntimeError < builtins.ValueError"


def test_our_words_stay_without_those_of_exceptions(serving: Sink) -> None:
    logger("plugins.x", serving).error("ours", exc_info=quoting())
    assert SECRET not in serving.lines[0]
    assert serving.last["message"] == "ours"
    assert "where" not in serving.last


def test_what_others_print_or_say_in_passing_is_dropped(serving: Sink) -> None:
    logger("LiteLLM", serving).info(SECRET)
    logger("stderr", serving).warning(SECRET)
    logger("stdout", serving).warning(SECRET)
    assert serving.lines == []


def test_before_anybody_is_served_all_of_it_can_be_read() -> None:
    sink = Sink(TextFormatter(), Discretion())
    logger("LiteLLM", sink).warning("the file is wrong", exc_info=ValueError("so"))
    assert "the file is wrong" in sink.lines[0]
    assert "ValueError: so" in sink.lines[0]


def test_an_exception_that_lasts_for_long_is_cut(serving: Sink) -> None:
    error: BaseException = ValueError("0")
    for number in range(30):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    logger("LiteLLM", serving).error("x", exc_info=error)
    assert serving.last["exception"].count("<") == 9

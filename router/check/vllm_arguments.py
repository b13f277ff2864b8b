"""Run by a Python that has vLLM, and by no other: holds command lines against vLLM's own argument parser.

Reads from stdin a JSON object of argument lists by name; writes to stdout a JSON object with vLLM's `version`, and in
`answers` by name the options that the parser does not know (`unknown`) and those that it refuses (`refused`: pairs of
the option, or null, and the parser's words). Needs nothing of Hearth.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from typing import Any, NoReturn

#: Where vLLM keeps them, the newest place first.
_PARSERS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
_PARSER_CLASSES = ("vllm.utils.argparse_utils", "vllm.utils")
_TOOL_PARSERS = ("vllm.tool_parsers", "vllm.entrypoints.openai.tool_parsers")
_NAMED = re.compile(r"^argument ([^:]*): |^ambiguous option: (\S+)")
_OPTION = re.compile(r"--?[A-Za-z]")


class _Refused(Exception):
    """What argparse would print before it exits."""


def _first(modules: tuple[str, ...], name: str) -> Any:
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


def _parser() -> Any:
    try:
        importlib.import_module("vllm")
    except ImportError as error:
        sys.exit(f"there is no vLLM in this Python that can be loaded ({error})")
    base = _first(_PARSER_CLASSES, "FlexibleArgumentParser")
    make = _first(_PARSERS, "make_arg_parser")
    if base is None or make is None:
        sys.exit("this vLLM keeps its argument parser elsewhere; hearth check knows that of 0.8 to 0.32")

    class Parser(base):  # type: ignore[misc, valid-type]
        unknown: tuple[str, ...] = ()

        def error(self, message: str) -> NoReturn:
            raise _Refused(message)

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
            namespace, rest = super().parse_known_args(args, namespace)
            self.unknown = tuple(word.partition("=")[0] for word in rest if _OPTION.match(word))
            return namespace, []

    return make(Parser())


def _answer(parser: Any, arguments: list[str]) -> dict[str, Any]:
    refused: list[tuple[str | None, str]] = []
    while True:
        try:
            namespace = parser.parse_args(arguments)
            break
        except _Refused as error:
            options, message = _named(str(error)), str(error)
        except Exception as error:
            options, message = (), f"{type(error).__name__}: {error}"
        shorter = _without(arguments, options)
        refused.append((options[0] if options else None, message))
        if shorter == arguments:
            return {"unknown": [], "refused": refused}
        arguments = shorter
    refused.extend(_objections(namespace))
    return {"unknown": list(dict.fromkeys(parser.unknown)), "refused": refused}


def _named(message: str) -> tuple[str, ...]:
    """The names of the option that argparse complains of."""
    match = _NAMED.match(message)
    return tuple((match[1] or match[2].partition("=")[0]).split("/")) if match else ()


def _without(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    kept, dropping = [], False
    for word in arguments:
        if _OPTION.match(word):
            dropping = word.partition("=")[0].partition(".")[0].replace("_", "-") in options
        if not dropping:
            kept.append(word)
    return kept


def _objections(namespace: Any) -> list[tuple[str | None, str]]:
    """What vLLM checks of parsed arguments before it loads anything; files of the image are not here."""
    found: list[tuple[str | None, str]] = []
    namespace.chat_template = None
    validate = _first(_PARSERS, "validate_parsed_serve_args")
    try:
        if validate is not None:
            validate(namespace)
    except (TypeError, ValueError) as error:
        found.append((None, str(error).removeprefix("Error: ")))
    registries = (
        ("tool_call_parser", "tool_parser_plugin", _first(_TOOL_PARSERS, "ToolParserManager")),
        ("reasoning_parser", "reasoning_parser_plugin", _first(("vllm.reasoning",), "ReasoningParserManager")),
    )
    for option, plugin, registry in registries:
        name = getattr(namespace, option, None)
        if (
            name
            and registry is not None
            and hasattr(registry, "list_registered")
            and not getattr(namespace, plugin, None)
        ):
            known = registry.list_registered()
            if name not in known:
                flag = "--" + option.replace("_", "-")
                found.append(
                    (flag, f"argument {flag}: no parser is called {name!r}; there are {', '.join(sorted(known))}")
                )
    return found


def main() -> None:
    """Answer one question."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM logs to stdout
    questions = json.load(sys.stdin)
    parser = _parser()
    vllm = importlib.import_module("vllm")
    found = {name: _answer(parser, arguments) for name, arguments in questions.items()}
    with answers:
        json.dump({"version": vllm.__version__, "answers": found}, answers)


if __name__ == "__main__":
    main()

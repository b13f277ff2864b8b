"""Asks vLLM's own argument parser, in a Python that has it, about all command lines at once: to load it takes long."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from router.errors import HearthError

#: Seconds. Loading vLLM for the first time compiles its Python files.
LIMIT = 300.0
_SCRIPT = Path(__file__).with_name("vllm_arguments.py")


class ParserUnavailable(HearthError):
    """The Python that was named has no vLLM that could be asked."""


class Verdict(BaseModel):
    """Of one command line. unknown: options. refused: the option, where there is one, and the parser's words."""

    unknown: list[str]
    refused: list[tuple[str | None, str]]


class Answer(BaseModel):
    """version: vLLM's. answers: by name of the command line."""

    version: str
    answers: dict[str, Verdict]


def ask(python: str, commands: Mapping[str, Sequence[str]], limit: float = LIMIT) -> Answer:
    """commands: the arguments after `vllm serve`, by any name. Raises ParserUnavailable."""
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    question = json.dumps({name: list(arguments) for name, arguments in commands.items()})
    try:
        done = subprocess.run(
            [python, str(_SCRIPT)],
            input=question,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except OSError as error:
        raise ParserUnavailable(f"{python}: cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ParserUnavailable(f"{python}: vLLM's parser did not answer in {limit:.0f} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise ParserUnavailable(f"{python}: vLLM's parser cannot be asked: {said[0]}")
    try:
        return Answer.model_validate_json(done.stdout)
    except ValidationError as error:
        raise ParserUnavailable(f"{python}: vLLM's parser gave no answer that makes sense") from error

"""`hearth up`: checks what can be checked before anything starts, runs the embedded server, and tells how to use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from router import config as configuration
from router.cli.progress import PartsDisplay
from router.config import Config
from router.errors import ConfigError
from router.supervisor import master_key
from router.supervisor.embedded_server import EmbeddedServer, Plan, require_free
from router.supervisor.failures import PartFailed, StartRefused
from router.supervisor.master_key import MasterKey
from router.supervisor.parts import Listening
from router.supervisor.state_directory import StateDirectory

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run_up(config_file: Path, listening: Listening, state_dir: Path | None, out: Console, err: Console) -> int:
    """The exit code: 0 after a stop that was asked for, 1 when it could not run, 2 when the configuration is wrong."""
    try:
        document = configuration.read_yaml(config_file)
        config = configuration.parse(document)
        master_key.require_from_environment((document.get("general_settings") or {}).get("master_key"))
    except ConfigError as error:
        _print(err, str(error))
        return 2
    for fault in config.oversized.values():
        _print(err, f"{fault}; requests for it are refused")
    try:
        require_free(listening)
        state = StateDirectory(state_dir or config_file.resolve().parent / ".hearth")
    except StartRefused as error:
        _print(err, str(error))
        return 1
    with contextlib.closing(state):
        try:
            key = master_key.obtain(os.environ, state.path)
            plan = Plan(config_file, config, listening, state, key)
            return asyncio.run(_serve(plan, first_chat_model(document, config), out))
        except StartRefused as error:
            _print(err, str(error))
        except PartFailed as error:
            _print(err, "\n".join([str(error), *(f"  {line}" for line in error.lines)]))
            _print(err, f"All of its log: {state.log(error.part)}")
    return 1


async def _serve(plan: Plan, model: str | None, out: Console) -> int:
    display = PartsDisplay(out)

    def on_ready() -> None:
        display.end()
        display.tell(welcome(plan.listening, plan.key, model))

    async with display.drawing():
        return await EmbeddedServer(plan, display, on_ready).run()


def welcome(listening: Listening, key: MasterKey, model: str | None) -> str:
    """What to do now, with a line that works as pasted. model: None when there is none to chat with."""
    lines = ["", f"Hearth is up: {listening.url}/v1"]
    if key.file:
        lines.append(f"The admin key is in {key.file}")
    else:
        lines.append(f"The admin key is the one in ${master_key.VARIABLE}")
    if listening.host not in _LOOPBACK:
        lines.append("Other machines can reach it; the key is all that protects it.")
    if model is not None:
        lines += ["", curl_line(listening, key, model)]
    return "\n".join([*lines, "", "Ctrl-C stops everything.", ""])


def curl_line(listening: Listening, key: MasterKey, model: str) -> str:
    """One shell line that asks `model` something."""
    secret = f"$(cat {shlex.quote(str(key.file))})" if key.file else f"${master_key.VARIABLE}"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]}, ensure_ascii=False)
    return (
        f'curl {listening.url}/v1/chat/completions -H "Authorization: Bearer {secret}" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def first_chat_model(document: Mapping[str, Any], config: Config) -> str | None:
    """The first model with a lifecycle that can be chatted with."""
    for entry in document.get("model_list") or []:
        name = str(entry.get("model_name", ""))
        if name in config.models and "*" not in name and (entry.get("model_info") or {}).get("mode", "chat") == "chat":
            return name
    return None


def _print(console: Console, text: str) -> None:
    with contextlib.suppress(OSError):
        console.print(text, markup=False, highlight=False, soft_wrap=True)

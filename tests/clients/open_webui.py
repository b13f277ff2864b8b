"""Open WebUI, started for a test, with one account, and asked as its page asks it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import yaml
from programs import QUIET
from stack import free_port

_START_LIMIT = 600


def reason_without_open_webui() -> str:
    """Why it cannot be run here; empty when it can."""
    if os.environ.get("HEARTH_TEST_OPEN_WEBUI"):
        return ""
    return "there is no Open WebUI here (tests/environment/open-webui installs it)"


@asynccontextmanager
async def open_webui(home: Path, lines: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is logged in. lines: what `hearth client open-webui` prints; Compose would fill in the key."""
    told: dict[str, str] = yaml.safe_load(lines)
    port = free_port()
    environment = QUIET | {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DATA_DIR": str(home / "data"),
        "WEBUI_SECRET_KEY": secrets.token_hex(16),
        "OFFLINE_MODE": "true",
        "HF_HUB_OFFLINE": "1",
        "RAG_EMBEDDING_ENGINE": "openai",  # else it wants a model of its own from the network
        "ANONYMIZED_TELEMETRY": "false",
        **told,
        "OPENAI_API_KEY": key,
    }
    with _log(home) as log:
        command = [os.environ["HEARTH_TEST_OPEN_WEBUI"], "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = await asyncio.create_subprocess_exec(*command, cwd=home, env=environment, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None, trust_env=False) as client:
            async with asyncio.timeout(_START_LIMIT):
                await _until_up(client, process, home / "log")
                account = {"name": "Ada", "email": "ada@example.com", "password": secrets.token_hex(16)}
                answer = await client.post("/api/v1/auths/signup", json=account)
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
            yield client
    finally:
        process.terminate()
        await process.wait()


async def streamed(client: httpx.AsyncClient, model: str, **more: Any) -> list[dict[str, Any]]:
    """The deltas of a streamed answer."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi there"}], "stream": True, **more}
    deltas = []
    async with client.stream("POST", "/api/chat/completions", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                deltas += [choice["delta"] for choice in chunk.get("choices", [])]
    return deltas


def _log(home: Path) -> BinaryIO:
    home.mkdir()
    return (home / "log").open("wb")


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


async def _until_up(client: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    while True:
        assert process.returncode is None, _end(log)
        try:
            if (await client.get("/health")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)

"""Redis, router and gateway as real processes in a directory of their own, for one benchmark."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.processes import START_LIMIT, Child, free_port, until
from router.supervisor.parts import redis_command

MASTER_KEY = "sk-3b0e6f5c8d1a47c2b9e4d7f6a1c8e5b2"
_FOREIGN = ("HEARTH_", "LITELLM_", "DATABASE_URL", "CONFIG_FILE_PATH", "REDIS_", "OPENAI_", "ANTHROPIC_")
#: With it, modules without compiled code are compiled again and again, some of LiteLLM's with each request.
_SLOWING = ("PYTHONDONTWRITEBYTECODE",)


def model_entry(name: str, port: int, **lifecycle: Any) -> dict[str, Any]:
    """One entry of `model_list` for an engine on a port of this machine."""
    return {
        "model_name": name,
        "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": f"http://127.0.0.1:{port}/v1"},
        "model_info": {"lifecycle": lifecycle},
    }


def simulator(name: str, port: int, load_seconds: float, *more: str) -> list[str]:
    """The command of an engine simulator."""
    flags = ["--port", str(port), "--served-model-name", name, "--load-seconds", f"{load_seconds:.2f}", *more]
    return [sys.executable, "-m", "router.engine_simulator", *flags]


def configuration(models: Sequence[dict[str, Any]], runtime: str, memory: str = "100GiB") -> dict[str, Any]:
    """A whole configuration file with one GPU of that memory."""
    lifecycle = {"runtime": runtime, "gpus": {"0": {"memory": memory}}, "idle_timeout": 0, "stop_timeout": "5s"}
    general = {"master_key": "os.environ/LITELLM_MASTER_KEY", "lifecycle": lifecycle}
    return {"model_list": list(models), "general_settings": general}


class Stack:
    """The three processes. Use `Stack.running`."""

    def __init__(
        self,
        document: Mapping[str, Any],
        directory: Path,
        *,
        router: str = "router",
        gateway_cores: Collection[int] = (),
        other_cores: Collection[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.config = directory / "models.yaml"
        self.config.write_text(yaml.safe_dump(dict(document)))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._redis_socket = directory / "redis.sock"
        self.redis_url = f"unix://{self._redis_socket}"
        self.headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        self.api = httpx.Client(base_url=self.url, headers=self.headers, timeout=30, trust_env=False)
        common = clean_environment() | {
            "HEARTH_CONFIG": str(self.config),
            "HEARTH_REDIS_URL": self.redis_url,
            "HEARTH_ROUTER_URL": f"unix://{directory}/router.sock",
            "HEARTH_STATE_DIR": str(directory / "state"),
            **(environment or {}),
        }
        (directory / "redis").mkdir()
        command = redis_command(self._redis_socket, directory / "redis")
        self._redis = Child("redis", command, common, directory, other_cores)
        until(self._redis_socket.exists, "Redis listens")
        listen = {"HEARTH_LISTEN": f"unix://{directory}/router.sock"}
        self.router = Child("router", [sys.executable, "-m", router], common | listen, directory, other_cores)
        listen = {"HEARTH_LISTEN": f"127.0.0.1:{self.port}"}
        command = (sys.executable, "-m", "plugins.gateway")
        self.gateway = Child("gateway", command, common | listen, directory, gateway_cores)

    @classmethod
    @contextmanager
    def running(cls, document: Mapping[str, Any], **options: Any) -> Iterator[Stack]:
        """A stack that is up, and ended with its engines afterwards."""
        directory = Path(tempfile.mkdtemp(prefix="hearth-benchmark-"))
        stack = cls(document, directory, **options)
        try:
            until(stack._up, "the stack is up", START_LIMIT)
            yield stack
        finally:
            stack._end()
            shutil.rmtree(directory, ignore_errors=True)

    @classmethod
    @asynccontextmanager
    async def running_meanwhile(cls, document: Mapping[str, Any], **options: Any) -> AsyncIterator[Stack]:
        """The same, while the event loop goes on serving what the stack needs to start and to end."""
        running = cls.running(document, **options)
        stack = await asyncio.to_thread(running.__enter__)
        try:
            yield stack
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)

    def _up(self) -> bool:
        for child in (self._redis, self.router, self.gateway):
            child.require_running()
        try:
            return self.api.get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def _end(self) -> None:
        try:
            for name in self.phases():
                self.act(name, "sleep", force=True)
            self.until_all_asleep()
        except (httpx.HTTPError, TimeoutError):
            pass  # the gateway never came up, so no engine was started
        finally:
            for child in (self.gateway, self.router, self._redis):
                child.stop()
            self.api.close()

    def phases(self) -> dict[str, str]:
        """The phase of each model."""
        answer = self.api.get("/lifecycle/models")
        answer.raise_for_status()
        return {model["name"]: model["phase"] for model in answer.json()["models"]}

    def starts(self) -> list[str]:
        """The models in the order of their starts, as the router tells it."""
        lines = self.api.get("/lifecycle/events", params={"recent": 10_000, "follow": False}).text.splitlines()
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        return [event["model"] for event in events if event["event"] == "starting"]

    def act(self, model: str, action: str, **query: Any) -> None:
        self.api.post(f"/lifecycle/models/{model}/{action}", params=query).raise_for_status()

    def until_asleep(self, model: str) -> None:
        until(lambda: self.phases()[model] == "asleep", f"{model} is asleep", 60)

    def until_all_asleep(self) -> None:
        until(lambda: set(self.phases().values()) <= {"asleep", "failed"}, "all models are asleep", 60)

    def chat(self, model: str, **more: Any) -> httpx.Response:
        """A short chat, answered. Raises httpx.HTTPStatusError when it is not."""
        answer = self.api.post("/v1/chat/completions", json=chat_body(model, **more), timeout=120)
        return answer.raise_for_status()


def chat_body(model: str, **more: Any) -> dict[str, Any]:
    """A chat whose answer is one token long, unless `more` says otherwise."""
    return {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 1, **more}


def clean_environment() -> dict[str, str]:
    """This process's environment without what configures Hearth or LiteLLM or slows them, with the master key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*_FOREIGN, *_SLOWING))}
    return kept | {"LITELLM_MASTER_KEY": MASTER_KEY}

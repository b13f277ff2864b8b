"""A whole Hearth on one machine, as real processes: a private Redis, the router, the gateway, and engine simulators.

Everything lives in one directory and listens on unix sockets or free ports of 127.0.0.1, so stacks do not meet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import psutil
import yaml

from router.supervisor.parts import redis_program

ROOT = Path(__file__).parents[2]
MASTER_KEY = "sk-0f4a7c1d92be4e53a86d17c05b9e3f28"
#: A key without the right to administer, known to a gateway that was configured with `user_key`.
USER_KEY = "sk-user-6b1f0d2c8a974e35b7"
#: Seconds within which everything on a busy machine must have happened.
LIMIT = 30.0
_START_LIMIT = 90.0

_KEYS = f'''
import hashlib
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth
from plugins.key_auth import check_key

async def check(request, api_key):
    if api_key == "{USER_KEY}":
        name = hashlib.sha256(api_key.encode()).hexdigest()
        role = LitellmUserRoles.INTERNAL_USER
        return UserAPIKeyAuth(api_key=name, key_alias="a user", user_role=role, user_id="user")
    return await check_key(request, api_key)
'''

#: LiteLLM executes a plugin that lies beside its configuration as a module of its own: a second class and instance.
_SECOND_HOOK = """

from router.settings import LifecycleSettings
settings = LifecycleSettings.model_validate({"gpus": {"0": {"memory": 1}}})
second_hook = LifecycleHook(Config(settings=settings, models={}))
"""


def free_port() -> int:
    """A TCP port that nobody listens on, from below those that the kernel gives to outgoing connections, and that no
    other call gets, also in another test process: it must stay free while its engine sleeps."""
    while True:
        port = random.randrange(20_000, 32_000)
        claim = os.open(Path(tempfile.gettempdir()) / f"hearth-test-port-{port}", os.O_CREAT | os.O_RDWR, 0o600)
        with socket.socket() as probe, contextlib.suppress(OSError):
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held, with its descriptor, until this process ends
            probe.bind(("127.0.0.1", port))
            return port
        os.close(claim)


def until(condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
    """Wait until the condition holds. Raises AssertionError after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:.0f} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Model:
    """One model of the stack. name: may be a wildcard. served: what its engine calls itself.

    exclusive: its engines must never run beside another exclusive one of the same GPU, and the launcher watches it.
    info: what else its `model_info` says. options: more arguments for its engine.
    """

    name: str
    served: tuple[str, ...] = ()
    gpu: str = "0"
    memory: str = "10GiB"
    load_seconds: float = 0.1
    tokens_per_second: float = 300.0
    alone: bool = False
    lifecycle: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        return self.name.replace("/", "_").replace("*", "all")


class Part:
    """One process of the stack that can be ended, killed, frozen and started again."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = list(command)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask it to end, and wait for that; by force when it does not."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(LIMIT)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


class Stack:
    """Redis, router and gateway on one configuration file.

    settings: keys of `general_settings.lifecycle` beside the stack's own. extra: further top-level sections.
    user_key: whether the gateway knows USER_KEY. plugins_beside_config: put a copy of plugins/ where LiteLLM would take
    plugin files from, and name it in `callbacks`. environment: more variables for the router and the gateway.
    """

    def __init__(
        self,
        directory: Path,
        models: Sequence[Model],
        *,
        gpus: dict[str, Any],
        settings: dict[str, Any] | None = None,
        extra: dict[str, dict[str, Any]] | None = None,
        user_key: bool = False,
        plugins_beside_config: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._more_environment = environment or {}
        self.models = {model.name: model for model in models}
        self.ports = {model.name: free_port() for model in models}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis_socket = directory / "redis.sock"
        self.state = directory / "state"
        (directory / "config").mkdir(parents=True)
        (directory / "engines").mkdir()
        self.config = directory / "config" / "models.yaml"
        document = self._document(gpus, settings or {}, extra or {})
        if user_key:
            (directory / "config" / "keys.py").write_text(_KEYS)
            document["general_settings"]["custom_auth"] = "keys.check"
        if plugins_beside_config:
            shutil.copytree(ROOT / "plugins", directory / "config" / "plugins")
            with (directory / "config" / "plugins" / "lifecycle.py").open("a") as copy:
                copy.write(_SECOND_HOOK)
            document["litellm_settings"] = {"callbacks": ["plugins.lifecycle.second_hook"]}
        self.config.write_text(yaml.safe_dump(document))

        self.redis = Part(
            "redis",
            [redis_program(), "--port", "0", "--save", "", "--unixsocket", str(self.redis_socket)],
            dict(os.environ),
            directory,
        )
        self.router = self.another_router("router")
        self.gateway = Part(
            "gateway", [sys.executable, "-m", "plugins.gateway"], self._environment(f"127.0.0.1:{self.port}"), directory
        )

    def another_router(self, name: str) -> Part:
        """A router beside the first one, on a socket of its own."""
        listen = f"unix://{self.directory}/{name}.sock"
        return Part(name, [sys.executable, "-m", "router"], self._environment(listen), self.directory)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it; returns when the gateway answers that everything is up."""
        self.redis.start()
        self.gateway.start()
        self.router.start()
        self.until_up()

    def until_up(self) -> None:
        def up() -> bool:
            for part in (self.redis, self.router, self.gateway):
                assert part.running, f"{part.name} has ended:\n{part.tail()}"
            return self.healthz().get("runtime") == "up"

        try:
            until(up, "the whole stack is up", _START_LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.healthz()}\n{self.gateway.tail()}\n{self.router.tail()}") from None

    def healthz(self) -> dict[str, Any]:
        """What /healthz says; empty while the gateway does not answer."""
        try:
            found: dict[str, Any] = httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return found

    async def router_state(self, name: str) -> str:
        """Whether the router of that name is `acting` or `standing by`, as it says itself; empty when it is away."""
        transport = httpx.AsyncHTTPTransport(uds=f"{self.directory}/{name}.sock", verify=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://router", timeout=2) as client:
            try:
                return str((await client.get("/healthz")).json()["router"])
            except (httpx.HTTPError, ValueError, KeyError):
                return ""

    def stop(self) -> None:
        """End everything, engines included."""
        for part in (self.gateway, self.router, self.redis):
            part.thaw()
            part.stop()
        for name in self.models:
            if (process := self.engine_process(name)) is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def engine_process(self, name: str) -> psutil.Process | None:
        """The process of a model's engine, found by the router's record of it."""
        record = self.state / "engines" / f"{quote(name, safe='')}.json"
        try:
            known = json.loads(record.read_text())
            process = psutil.Process(known["pid"])
            alive = abs(process.create_time() - known["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def starts(self, name: str) -> list[str]:
        """One entry for each start of the model's engine: its pid, or `overlap`."""
        journal = self._file(name, "journal")
        return journal.read_text().split() if journal.exists() else []

    def set_options(self, name: str, *options: str) -> None:
        """Arguments for the next starts of the model's engine, beside those of the configuration."""
        self._file(name, "options").write_text(" ".join(options))

    def _file(self, name: str, kind: str) -> Path:
        return self.directory / "engines" / f"{self.models[name].file_name}.{kind}"

    def _environment(self, listen: str) -> dict[str, str]:
        ours = ("HEARTH_", "LITELLM_", "DATABASE_URL", "CONFIG_FILE_PATH", "REDIS_", "OPENAI_", "ANTHROPIC_", "OTEL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {
            "HEARTH_CONFIG": str(self.config),
            "HEARTH_REDIS_URL": f"unix://{self.redis_socket}",
            "HEARTH_ROUTER_URL": f"unix://{self.directory}/router.sock",
            "HEARTH_LISTEN": listen,
            "HEARTH_STATE_DIR": str(self.state),
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "PYTHONFAULTHANDLER": "1",  # where a crash of the interpreter itself came from is in the part's log
            **self._more_environment,
        }

    def _document(
        self, gpus: dict[str, Any], settings: dict[str, Any], extra: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        document: dict[str, Any] = {
            "model_list": [self._entry(model) for model in self.models.values()],
            "general_settings": {
                "master_key": "os.environ/LITELLM_MASTER_KEY",
                "lifecycle": {"runtime": "process", "gpus": gpus, "idle_timeout": 0, "stop_timeout": "5s", **settings},
            },
        }
        for section, values in extra.items():
            document.setdefault(section, {}).update(values)
        return document

    def _entry(self, model: Model) -> dict[str, Any]:
        engine = model.name if "*" in model.name else (model.served or (model.name,))[0]
        command = [
            sys.executable,
            str(ROOT / "tests" / "e2e" / "engine_launcher.py"),
            str(self._file(model.name, "journal")),
            str(self._file(model.name, "options")),
            str(self.directory / "engines" / f"gpu-{model.gpu}.lock") if model.alone else "-",
            "--",
            *("--port", str(self.ports[model.name])),
            *("--served-model-name", *(model.served or (model.name,))),
            *("--load-seconds", str(model.load_seconds)),
            *("--tokens-per-second", str(model.tokens_per_second)),
            *("--answer-tokens", "12"),
            *model.options,
        ]
        lifecycle = {"command": command, "gpu": model.gpu, "memory": model.memory, **model.lifecycle}
        provider = engine.rsplit("/", 1)[-1]
        return {
            "model_name": model.name,
            "litellm_params": {
                "model": f"hosted_vllm/{provider}",
                "api_base": f"http://127.0.0.1:{self.ports[model.name]}/v1",
            },
            "model_info": {"lifecycle": lifecycle, **model.info},
        }

"""Where a new model is read from: a directory, a repository on Hugging Face, a container on this machine."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import requests.exceptions
from docker.errors import DockerException, NotFound
from docker.utils import kwargs_from_env

from router.adding import checkpoint
from router.adding.checkpoint import Checkpoint
from router.check.engine_command import SIMULATOR, VLLM, EngineCommand, find
from router.errors import ConfigError, RuntimeUnavailable
from router.fetch.weights import Hub, download, look

_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".bin", ".pt")
_LIMIT = 10
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Running:
    """A container as a model for a new one. image: with its digest where it has one. prefix: the words before the
    engine's own. environment: what was set beside the image's own; secrets as references to variables of the same
    name. binds: directories of this machine. script: whether a shell started the engine, whose other lines are lost."""

    name: str
    image: str
    engine: EngineCommand
    prefix: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    binds: tuple[str, ...]
    script: bool


def of_directory(directory: Path) -> Checkpoint:
    """A checkpoint on this machine. Raises ConfigError."""
    try:
        config = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
        sizes = {file.name: file.stat().st_size for file in directory.iterdir() if file.is_file()}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory / _CONFIG} cannot be read: {error}") from error
    index = directory / "model.safetensors.index.json"
    return checkpoint.read(str(directory), config, _indexed(index) or weight_bytes(sizes))


def of_repository(repository: str, hub: Hub) -> Checkpoint:
    """A checkpoint on Hugging Face; of its files, config.json alone is fetched. Raises ConfigError and FetchFailed."""
    with tempfile.TemporaryDirectory(prefix="hearth-add-") as name:
        snapshot = look(repository, "main", Path(name), hub)
        configs = tuple(file for file in snapshot.files if file.name == _CONFIG)
        if not configs:
            raise ConfigError(f"{repository} has no config.json, so nothing is known of it")
        where = download(replace(snapshot, files=configs), Path(name), hub, lambda _: None)
        config = json.loads((where / _CONFIG).read_text(encoding="utf-8"))
    return checkpoint.read(repository, config, weight_bytes({file.name: file.size for file in snapshot.files}))


def of_container(name: str) -> Running:
    """A container, running or not. Raises ConfigError when it starts no engine that is known, RuntimeUnavailable when
    Docker cannot be asked."""
    try:
        client = docker.APIClient(timeout=_LIMIT, **kwargs_from_env())
        try:
            container: dict[str, Any] = client.inspect_container(name)
            image: dict[str, Any] = client.inspect_image(container["Image"])  # type: ignore[no-untyped-call]
        finally:
            client.close()
    except NotFound as error:
        raise ConfigError(f"Docker has no container {name!r}, or no longer its image") from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise RuntimeUnavailable(f"Docker cannot be asked about {name}: {error}") from error
    return running(container, image)


def running(container: dict[str, Any], image: dict[str, Any]) -> Running:
    """From what Docker says of a container and of its image. Raises ConfigError."""
    name, config = str(container["Name"]).removeprefix("/"), container["Config"]
    words = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
    engine = find((), words)
    if engine is None or engine.kind is SIMULATOR or engine.model is None:
        raise ConfigError(f"{name} starts no engine that is known here (vLLM, SGLang): {' '.join(words)[:200]}")
    behind = words[len(words) - len(engine.arguments) :] == engine.arguments
    module = ("vllm", "serve") if engine.kind is VLLM else ("python3", "-m", "sglang.launch_server")
    own = set((image.get("Config") or {}).get("Env") or ())
    added = [value.partition("=") for value in config.get("Env") or () if value not in own]
    return Running(
        name=name,
        image=_pinned(str(config["Image"]), image.get("RepoDigests") or ()),
        engine=engine,
        prefix=words[: len(words) - len(engine.arguments)] if behind else module,
        environment=tuple(
            (key, f"${{{key}:-}}" if _SECRET.search(key) else _dollars(value)) for key, _, value in added
        ),
        binds=tuple((container.get("HostConfig") or {}).get("Binds") or ()),
        script=not behind,
    )


def weight_bytes(sizes: dict[str, int]) -> int | None:
    """Bytes of the files of weights; None when there are none."""
    for suffix in _WEIGHTS:
        if found := [size for name, size in sizes.items() if name.endswith(suffix)]:
            return sum(found)
    return None


def _indexed(index: Path) -> int | None:
    try:
        size = json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return size if isinstance(size, int) else None


def _pinned(image: str, digests: Sequence[str]) -> str:
    """The image with its digest, if it came from a registry."""
    if "@" in image or not digests:
        return image
    return f"{image}@{digests[0].partition('@')[2]}"


def _dollars(value: str) -> str:
    return value.replace("$", "$$")

"""Where a new model is read from: a directory, a repository on Hugging Face, a container on this machine."""

from __future__ import annotations

import io
import json
import re
import tarfile
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

_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
#: Bytes; no config.json and no index of weights comes near it.
_SMALL = 16 * 2**20
_WEIGHTS = (".safetensors", ".bin", ".pt")
_LIMIT = 10
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Running:
    """A container as a model for a new one. image: with its digest where it has one. prefix: the words before the
    engine's own. environment: what was set beside the image's own; secrets as references to variables of the same
    name. binds: directories of this machine. script: whether a shell started the engine, whose other lines are lost.
    checkpoint: what lies in the container where the engine reads it; None where it loads a repository, or cannot be
    read."""

    name: str
    image: str
    engine: EngineCommand
    prefix: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    binds: tuple[str, ...]
    script: bool
    checkpoint: Checkpoint | None = None


def of_directory(directory: Path) -> Checkpoint:
    """A checkpoint on this machine. Raises ConfigError."""
    try:
        config = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
        sizes = {file.name: file.stat().st_size for file in directory.iterdir() if file.is_file()}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory / _CONFIG} cannot be read: {error}") from error
    index = directory / _INDEX
    return checkpoint.read(str(directory), config, _indexed(index) or weight_bytes(sizes))


def of_repository(repository: str, hub: Hub) -> Checkpoint:
    """A checkpoint on Hugging Face; of its files, config.json alone is fetched. Raises ConfigError and FetchFailed."""
    with tempfile.TemporaryDirectory(prefix="hearth-add-") as name:
        snapshot = look(repository, "main", Path(name), hub)
        configs = tuple(file for file in snapshot.files if file.name == _CONFIG)
        if not configs:
            raise ConfigError(f"{repository} has no config.json, so nothing is known of it")
        where = download(replace(snapshot, files=configs), Path(name), hub, lambda _: None)
        try:
            config = json.loads((where / _CONFIG).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{repository}: its config.json cannot be read: {error}") from error
    return checkpoint.read(repository, config, weight_bytes({file.name: file.size for file in snapshot.files}))


def of_container(name: str) -> Running:
    """A container, running or not. Raises ConfigError when it starts no engine that is known, RuntimeUnavailable when
    Docker cannot be asked."""
    try:
        client = docker.APIClient(timeout=_LIMIT, **kwargs_from_env())
        try:
            container: dict[str, Any] = client.inspect_container(name)
            image: dict[str, Any] = client.inspect_image(container["Image"])  # type: ignore[no-untyped-call]
            found = running(container, image)
            model = found.engine.model or ""
            read = _inside(client, str(container["Id"]), model) if model.startswith("/") else None
        finally:
            client.close()
    except NotFound as error:
        raise ConfigError(f"Docker has no container {name!r}, or no longer its image") from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise RuntimeUnavailable(f"Docker cannot be asked about {name}: {error}") from error
    return replace(found, checkpoint=read)


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


def _inside(client: docker.APIClient, container: str, directory: str) -> Checkpoint | None:
    """The checkpoint in a container's directory, mounts included, whether it runs or not; None where there is none.

    Of the weights only the size is asked: that of the one file, or the sum in the index of several.
    """
    try:
        config = json.loads(_file(client, container, f"{directory}/{_CONFIG}"))
        try:
            size = json.loads(_file(client, container, f"{directory}/{_INDEX}"))["metadata"]["total_size"]
        except NotFound:
            size = _size(client, container, f"{directory}/model.safetensors")
        return checkpoint.read(directory, config, size if isinstance(size, int) else None)
    except (NotFound, ConfigError, ValueError, LookupError, TypeError):
        return None


def _file(client: docker.APIClient, container: str, path: str) -> bytes:
    """A small file in a container. Raises docker's NotFound, and ValueError for what is no small file."""
    chunks, about = client.get_archive(container, path)
    if about.get("linkTarget") and about["linkTarget"] != path:
        chunks, about = client.get_archive(container, about["linkTarget"])
    if int(about["size"]) > _SMALL:
        raise ValueError(f"{path} has {about['size']} bytes")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        content = archive.extractfile(archive.next() or tarfile.TarInfo())
        if content is None:
            raise ValueError(f"{path} is no file")
        return content.read()


def _size(client: docker.APIClient, container: str, path: str) -> int | None:
    """Bytes of a file in a container; None when it is not there. None of it is transferred."""
    try:
        _, about = client.get_archive(container, path)
        if about.get("linkTarget") and about["linkTarget"] != path:
            _, about = client.get_archive(container, about["linkTarget"])
    except NotFound:
        return None
    return int(about["size"])


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

"""The lifecycle configuration, read from LiteLLM's own file.

A model's lifecycle is `model_info.lifecycle` of its entry in `model_list`; what holds for all models is
`general_settings.lifecycle`. Every other key belongs to LiteLLM and is left to it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from router.errors import ConfigError
from router.quantities import Duration, Size, format_size


class Role(StrEnum):
    """How a model shares its GPU."""

    NORMAL = "normal"
    UTILITY = "utility"
    EXCLUSIVE = "exclusive"


def _gpu_names(value: object) -> object:
    """GPU names are text; YAML reads a bare 0 as a number."""
    if isinstance(value, dict):
        return {str(name) if isinstance(name, int) else name: gpu for name, gpu in value.items()}
    names = value if isinstance(value, list) else [value]
    return [str(name) if isinstance(name, int) else name for name in names]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelLifecycle(_Strict):
    """`model_info.lifecycle`: how one model's engine is run. Durations default to the global ones."""

    container: str | None = Field(
        None, description="Docker: the container's name. It must exist; Hearth never creates one."
    )
    command: list[str] | None = Field(
        None, min_length=1, description="Process runtime: the engine's program and arguments."
    )
    environment: dict[str, str] = Field({}, description="Process runtime: variables added to the engine's environment.")
    gpu: Annotated[list[str], BeforeValidator(_gpu_names)] = Field(
        ["0"], min_length=1, description="The GPU, or the list of GPUs, that the engine runs on."
    )
    memory: Size = Field(description="What the engine claims of each of its GPUs, such as 70GiB.")
    role: Role = Field(
        Role.NORMAL,
        description="normal: shares the GPU while it fits. exclusive: alone on it. "
        "utility: small and kept running; the last to give way, and comes back by itself.",
    )
    idle_timeout: Duration | None = Field(
        None, description="Stop after this long without a request, from the end of the last one; 0 is never."
    )
    start_timeout: Duration | None = Field(
        None, gt=0, description="Give up on a start that is not healthy after this long."
    )
    stop_timeout: Duration | None = Field(
        None, description="What the engine gets to stop by itself before it is killed."
    )
    drain_timeout: Duration | None = Field(
        None, description="Longest wait for running requests before the engine is stopped for another model."
    )
    health_path: str = Field(
        "/health", pattern="^/", description="Path on the engine that answers 200 when it is ready."
    )


class GpuSettings(_Strict):
    """One GPU, or the unified memory of a box such as a DGX Spark."""

    memory: Size = Field(description="All of its memory, such as 119GiB.")
    reserve: Size = Field(0, description="What is never given to models.")

    @property
    def room(self) -> int:
        """Bytes that models may claim."""
        return self.memory - self.reserve

    @model_validator(mode="after")
    def _reserve_is_smaller(self) -> GpuSettings:
        if self.reserve >= self.memory:
            raise ValueError("reserve is not smaller than memory, so nothing is left for models")
        return self


class Cooldown(_Strict):
    """How long a model that failed is left alone: `first`, doubled with each failure in a row, up to `longest`."""

    first: Duration = Field(5.0, description="After the first failure in a row.")
    longest: Duration = Field(600.0, description="However many there were.")


class LifecycleSettings(_Strict):
    """`general_settings.lifecycle`: what holds for all models."""

    runtime: Literal["docker", "process"] = Field("docker", description="What runs the engines.")
    gpus: Annotated[dict[str, GpuSettings], BeforeValidator(_gpu_names)] = Field(
        min_length=1, description="The GPUs by name."
    )
    idle_timeout: Duration = Field(1200.0, description="See the model's key of the same name.")
    start_timeout: Duration = Field(900.0, gt=0, description="See the model's key of the same name.")
    stop_timeout: Duration = Field(30.0, gt=0, description="See the model's key of the same name.")
    drain_timeout: Duration = Field(900.0, gt=0, description="See the model's key of the same name.")
    max_wait: Duration = Field(3600.0, gt=0, description="The longest that a request waits for its model.")
    keepalive_interval: Duration = Field(
        5.0,
        gt=0,
        le=10,
        description="Streaming callers get an SSE comment this often until their answer begins.",
    )
    max_body: Size = Field(64 * 2**20, gt=0, description="Longest request body; more is answered 413.")
    cooldown: Cooldown = Field(Cooldown(), description="How long a model is left alone after it failed.")


class ModelSpec(BaseModel):
    """One model, all defaults filled in. name: LiteLLM's `model_name`. Times are seconds, memory bytes per GPU."""

    model_config = ConfigDict(frozen=True)

    name: str
    api_base: str
    health_url: str
    container: str | None
    command: tuple[str, ...] | None
    environment: dict[str, str]
    gpus: tuple[str, ...]
    memory: int
    role: Role
    idle_timeout: float
    start_timeout: float
    stop_timeout: float
    drain_timeout: float


class Config(BaseModel):
    """The whole lifecycle configuration: global settings and the models by name."""

    model_config = ConfigDict(frozen=True)

    settings: LifecycleSettings
    models: dict[str, ModelSpec]


def load(path: Path) -> Config:
    """Read and check `path` with its includes. Raises ConfigError with a line for every fault found."""
    return parse(read_yaml(path))


def read_yaml(path: Path, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The document at `path`, with the files of its top-level `include` merged in LiteLLM's way: lists are
    appended, everything else replaced. within: the files that include this one. Raises ConfigError."""
    if path.resolve() in within:
        raise ConfigError(f"{path}: includes itself")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: is not a mapping at the top level")
    includes = document.pop("include", [])
    if not isinstance(includes, list):
        raise ConfigError(f"{path}: include: is a list of file names")
    for name in includes:
        for key, value in read_yaml(path.parent / str(name), (*within, path.resolve())).items():
            if isinstance(value, list) and isinstance(document.get(key), list):
                document[key] = document[key] + value
            else:
                document[key] = value
    return document


def parse(document: Mapping[str, Any]) -> Config:
    """Check the lifecycle parts of a LiteLLM configuration. Raises ConfigError with all faults, not only the first."""
    faults: list[str] = []
    settings = _settings(document, faults)
    models: dict[str, ModelSpec] = {}
    names: set[str] = set()
    for index, entry in enumerate(_part(document, "model_list", list, faults)):
        if not isinstance(entry, dict):
            faults.append(f"model_list[{index}]: is not a mapping")
            continue
        name = str(entry.get("model_name") or "")
        where = f"model_list[{index}] ({name})"
        section = _part(entry, "model_info", dict, faults, where + ".").get("lifecycle")
        if section is None:
            continue
        if not name:
            faults.append(f"{where}: model_name: is missing")
        where += ".model_info.lifecycle"
        try:
            lifecycle = ModelLifecycle.model_validate(section)
        except ValidationError as error:
            faults.extend(_explain(where, ModelLifecycle, error))
            continue
        if name in names:
            faults.append(f"{where}: a second entry named {name!r} has a lifecycle; one engine a name")
        names.add(name)
        if settings is not None:
            api_base = _from_environment(
                str(_part(entry, "litellm_params", dict, faults, f"model_list[{index}].").get("api_base") or "")
            )
            misfits = list(_misfits(lifecycle, settings, api_base))
            faults.extend(f"{where}: {misfit}" for misfit in misfits)
            if not misfits:
                models[name] = _spec(name, lifecycle, settings, api_base)
    faults.extend(_shared_names(models))
    if settings is None or faults:
        raise ConfigError("\n".join(faults))
    return Config(settings=settings, models=models)


def _settings(document: Mapping[str, Any], faults: list[str]) -> LifecycleSettings | None:
    general = _part(document, "general_settings", dict, faults)
    try:
        return LifecycleSettings.model_validate(general.get("lifecycle") or {})
    except ValidationError as error:
        faults.extend(_explain("general_settings.lifecycle", LifecycleSettings, error))
        return None


def _part(
    mapping: Mapping[str, Any],
    key: str,
    kind: type[list[Any]] | type[dict[str, Any]],
    faults: list[str],
    where: str = "",
) -> Any:
    """The list or mapping under `key`; an empty one when there is none, or when it is something else (a fault)."""
    value = mapping.get(key)
    if value is None or isinstance(value, kind):
        return kind() if value is None else value
    faults.append(f"{where}{key}: is not a {'list' if kind is list else 'mapping'}")
    return kind()


def _misfits(lifecycle: ModelLifecycle, settings: LifecycleSettings, api_base: str) -> Iterator[str]:
    """What in one model's lifecycle does not go with the global settings or with its address."""
    if settings.runtime == "docker" and not lifecycle.container:
        yield "container: is missing; the docker runtime needs the container's name"
    if settings.runtime == "process" and not lifecycle.command:
        yield "command: is missing; the process runtime needs the engine's program and arguments"
    for gpu in lifecycle.gpu:
        if gpu not in settings.gpus:
            yield f"gpu: {gpu!r} is not one of general_settings.lifecycle.gpus: {', '.join(settings.gpus)}"
            continue
        room = settings.gpus[gpu].room
        if lifecycle.memory > room:
            claim = format_size(lifecycle.memory)
            yield f"memory: {claim} never fits GPU {gpu}, which has {format_size(room)} for models"
    address = urlsplit(api_base)
    if address.scheme not in ("http", "https") or not address.hostname:
        yield "litellm_params.api_base: is missing; it is the engine's address, such as http://NAME:8000/v1"


def _spec(name: str, lifecycle: ModelLifecycle, settings: LifecycleSettings, api_base: str) -> ModelSpec:
    address = urlsplit(api_base)

    def or_default(own: float | None, default: float) -> float:
        return default if own is None else own

    return ModelSpec(
        name=name,
        api_base=api_base,
        health_url=f"{address.scheme}://{address.netloc}{lifecycle.health_path}",
        container=lifecycle.container,
        command=tuple(lifecycle.command) if lifecycle.command else None,
        environment=lifecycle.environment,
        gpus=tuple(lifecycle.gpu),
        memory=lifecycle.memory,
        role=lifecycle.role,
        idle_timeout=or_default(lifecycle.idle_timeout, settings.idle_timeout),
        start_timeout=or_default(lifecycle.start_timeout, settings.start_timeout),
        stop_timeout=or_default(lifecycle.stop_timeout, settings.stop_timeout),
        drain_timeout=or_default(lifecycle.drain_timeout, settings.drain_timeout),
    )


def _from_environment(value: str) -> str:
    prefix = "os.environ/"
    return os.environ.get(value.removeprefix(prefix), "") if value.startswith(prefix) else value


def _shared_names(models: Mapping[str, ModelSpec]) -> Iterator[str]:
    for attribute in ("container", "health_url"):
        owners: dict[str, str] = {}
        for spec in models.values():
            value = getattr(spec, attribute)
            if value is not None and owners.setdefault(value, spec.name) != spec.name:
                what = "container" if attribute == "container" else "address"
                yield f"models {owners[value]!r} and {spec.name!r} have the same {what} {value}"


def _explain(where: str, model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        path = ".".join([where, *(str(part) for part in fault["loc"])])
        if fault["type"] == "extra_forbidden":
            key = str(fault["loc"][-1])
            near = difflib.get_close_matches(key, _known_keys(model), n=1, cutoff=0.5)
            yield f"{path}: is not a known key" + (f"; did you mean {near[0]!r}?" if near else "")
        else:
            yield f"{path}: {fault['msg'].removeprefix('Value error, ')}"


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    if model is LifecycleSettings:
        keys |= set(GpuSettings.model_fields) | set(Cooldown.model_fields)
    return keys

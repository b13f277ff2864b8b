"""The lifecycle configuration, read from LiteLLM's own file.

A model's lifecycle is `model_info.lifecycle` of its entry in `model_list`, what its requests may ask for is
`model_info.request_rules`, and what people should know of it `model_info.catalogue`; what holds for all models is
`general_settings.lifecycle`. Every other key belongs to LiteLLM and is left to it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from router.catalogue import Card, Catalogue, ClientLimits, KnownProblem, card_of
from router.errors import ConfigError
from router.quantities import format_size
from router.request_rules import Parameters, RequestRules, Thinking, rules_of
from router.schedule import Schedule
from router.settings import (
    Cooldown,
    GpuSettings,
    LifecycleSettings,
    ModelLifecycle,
    PageCacheSettings,
    Role,
    Scheduling,
)


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
    priority: int = 0
    parallel: int | None = None
    line_limit: int = 1000
    memory_timeout: float = 0.0

    @property
    def unload_limit(self) -> float:
        """The longest that a stop takes until its memory is there for others."""
        return self.stop_timeout + self.memory_timeout


class Config(BaseModel):
    """The whole lifecycle configuration: global settings, and by name the models and the rules for their requests.

    rules: also of models without a lifecycle; models of which nothing is said are not in it.
    cards: of all models with a lifecycle. disabled: those that are not served, with the reason; they are in no other
    mapping but `cards`.
    """

    model_config = ConfigDict(frozen=True)

    settings: LifecycleSettings
    models: dict[str, ModelSpec]
    rules: dict[str, RequestRules] = {}
    cards: dict[str, Card] = {}
    disabled: dict[str, str] = {}


def load(path: Path) -> Config:
    """Read and check `path` with its includes. Raises ConfigError with a line for every fault found."""
    return parse(read_yaml(path))


def _read_file(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_yaml(path: Path, within: tuple[Path, ...] = (), *, read: Callable[[Path], Any] = _read_file) -> dict[str, Any]:
    """The document at `path`, with the files of its top-level `include` merged in LiteLLM's way: lists are
    appended, everything else replaced. within: the files that include this one. read: reads one file, and raises what
    yaml.safe_load of its text would. Raises ConfigError."""
    if path.resolve() in within:
        raise ConfigError(f"{path}: includes itself")
    try:
        document = read(path) or {}
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
        for key, value in read_yaml(path.parent / str(name), (*within, path.resolve()), read=read).items():
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
    rules: dict[str, RequestRules] = {}
    cards: dict[str, Card] = {}
    names: set[str] = set()
    for index, entry in enumerate(_part(document, "model_list", list, faults)):
        if not isinstance(entry, dict):
            faults.append(f"model_list[{index}]: is not a mapping")
            continue
        name = str(entry.get("model_name") or "")
        where = f"model_list[{index}] ({name})"
        info = _part(entry, "model_info", dict, faults, where + ".")
        found = _rules(where + ".model_info.request_rules", info, faults)
        if found is not None and rules.setdefault(name, found) != found:
            faults.append(f"{where}: another entry named {name!r} has other request rules; one set a name")
        catalogue = _catalogue(where + ".model_info.catalogue", info, faults)
        section = info.get("lifecycle")
        if section is None:
            if catalogue is not None and catalogue.disabled:
                faults.append(
                    f"{where}.model_info.catalogue.disabled: is for models with a lifecycle; remove the entry"
                )
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
        cards[name] = card_of(name, info, catalogue or Catalogue())
        if settings is not None:
            api_base = _from_environment(
                str(_part(entry, "litellm_params", dict, faults, f"model_list[{index}].").get("api_base") or "")
            )
            misfits = list(_misfits(lifecycle, settings, api_base))
            faults.extend(f"{where}: {misfit}" for misfit in misfits)
            if not misfits:
                models[name] = _spec(name, lifecycle, settings, api_base)
    faults.extend(_shared_names(models))
    disabled = {name: card.catalogue.disabled for name, card in cards.items() if card.catalogue.disabled}
    if settings is not None:
        faults.extend(f"general_settings.lifecycle.{fault}" for fault in _cold(settings, models, names, disabled))
    if settings is None or faults:
        raise ConfigError("\n".join(faults))
    return Config(
        settings=settings,
        models={name: spec for name, spec in models.items() if name not in disabled},
        rules={name: found for name, found in rules.items() if name not in disabled},
        cards=cards,
        disabled=disabled,
    )


def _catalogue(where: str, info: Mapping[str, Any], faults: list[str]) -> Catalogue | None:
    section = info.get("catalogue")
    try:
        return None if section is None else Catalogue.model_validate(section)
    except ValidationError as error:
        faults.extend(_explain(where, Catalogue, error))
        return None


def _rules(where: str, info: Mapping[str, Any], faults: list[str]) -> RequestRules | None:
    try:
        return rules_of(info)
    except ValidationError as error:
        faults.extend(_explain(where, RequestRules, error))
        return None


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

    measured = any(settings.gpus[gpu].measure != "off" for gpu in lifecycle.gpu)
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
        priority=lifecycle.priority,
        parallel=lifecycle.parallel,
        line_limit=lifecycle.line_limit or settings.line_limit,
        memory_timeout=settings.memory_timeout if measured else 0.0,
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


def _cold(
    settings: LifecycleSettings, models: Mapping[str, ModelSpec], names: Collection[str], disabled: Mapping[str, str]
) -> Iterator[str]:
    """What keeps a model from ever being kept warm as the settings say. names: of all models with a lifecycle, also
    those that were read with faults."""
    default = settings.default_model
    wished = [(f"preload.{index}", name) for index, name in enumerate(settings.preload)]
    wished += [("default_model", default)] if default is not None else []
    wished += [(f"schedules.{index}.model", schedule.model) for index, schedule in enumerate(settings.schedules)]
    for path, name in wished:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"{path}: {name!r} is not a model with a lifecycle{hint}"
        elif name in disabled:
            yield f"{path}: {name!r} is disabled: {disabled[name]}"
        elif name in models and models[name].role is Role.UTILITY:
            yield f"{path}: {name!r} is a utility, which is kept running anyway; leave it out"
    preloads = [spec for spec in models.values() if spec.name in settings.preload]
    utilities = [spec for spec in models.values() if spec.role is Role.UTILITY and spec.name not in disabled]
    standing = [spec for spec in models.values() if spec in preloads or spec.name == default]
    together = "preload and default_model" if default else "preload"
    for gpu, whole in settings.gpus.items():
        if why := _crowded(gpu, whole, standing):
            yield f"{together}: they can never all be warm: {why}"
        elif any(gpu in spec.gpus for spec in preloads) and (why := _crowded(gpu, whole, [*preloads, *utilities])):
            yield f"preload: it can never be warm beside the utility models: {why}"


def _crowded(gpu: str, whole: GpuSettings, specs: Iterable[ModelSpec]) -> str:
    """Why these do not fit together on a GPU; empty when they do."""
    here = [spec for spec in specs if gpu in spec.gpus]
    listed = ", ".join(f"{spec.name} ({format_size(spec.memory)})" for spec in here)
    alone = [spec.name for spec in here if spec.role is Role.EXCLUSIVE]
    if alone and len(here) > 1:
        return f"{alone[0]} is exclusive, and {listed} share GPU {gpu}"
    if sum(spec.memory for spec in here) > whole.room:
        return f"GPU {gpu} has {format_size(whole.room)} for models, and there are {listed}"
    return ""


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
        parts = (GpuSettings, Cooldown, Scheduling, PageCacheSettings)
        keys |= {key for part in parts for key in part.model_fields}
        keys |= {field.alias or name for name, field in Schedule.model_fields.items()}
    if model is Catalogue:
        keys |= set(KnownProblem.model_fields) | set(ClientLimits.model_fields)
    if model is RequestRules:
        keys |= set(Thinking.model_fields) | set(Parameters.model_fields)
    return keys

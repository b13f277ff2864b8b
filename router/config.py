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
from typing import Any, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from router.catalogue import Card, Catalogue, card_of
from router.errors import ConfigError
from router.quantities import format_size
from router.request_rules import RequestRules, rules_of
from router.settings import GpuSettings, LifecycleSettings, ModelLifecycle, Role

_Section = TypeVar("_Section", bound=BaseModel)


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
    cards: of all models with a lifecycle. disabled: those that are not served, with the reason. oversized: those that
    declare more memory than their GPU has for models, with the fault; they do not keep the others from being served.
    Both are in no other mapping but `cards` and `unserved`, which says how they would be run.
    """

    model_config = ConfigDict(frozen=True)

    settings: LifecycleSettings
    models: dict[str, ModelSpec]
    rules: dict[str, RequestRules] = {}
    cards: dict[str, Card] = {}
    disabled: dict[str, str] = {}
    oversized: dict[str, str] = {}
    unserved: dict[str, ModelSpec] = {}


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
    general = _part(document, "general_settings", dict, faults)
    settings = _checked(LifecycleSettings, general.get("lifecycle") or {}, "general_settings.lifecycle", faults)
    found = _Entries(faults)
    for index, entry in enumerate(_part(document, "model_list", list, faults)):
        if isinstance(entry, dict):
            found.read(entry, f"model_list[{index}]", settings)
        else:
            faults.append(f"model_list[{index}]: is not a mapping")
    faults.extend(_shared_names(found.models))
    disabled = {name: card.catalogue.disabled for name, card in found.cards.items() if card.catalogue.disabled}
    reasons: dict[str, str] = {}
    if settings is not None:
        reasons = dict.fromkeys(found.oversized, "too large for its GPU") | {
            name: f"disabled: {reason}" for name, reason in disabled.items()
        }
        never_warm = _never_warm(settings, found.models, found.cards, reasons)
        faults.extend(f"general_settings.lifecycle.{fault}" for fault in never_warm)
    if settings is None or faults:
        raise ConfigError("\n".join([*faults, *found.oversized.values()]))
    return Config(
        settings=settings,
        models={name: spec for name, spec in found.models.items() if name not in reasons},
        rules={name: rules for name, rules in found.rules.items() if name not in reasons},
        cards=found.cards,
        disabled=disabled,
        oversized=found.oversized,
        unserved={name: spec for name, spec in found.models.items() if name in reasons},
    )


class _Entries:
    """What the entries of `model_list` say. A model whose lifecycle does not go with the settings has a card alone.
    oversized: see Config."""

    def __init__(self, faults: list[str]) -> None:
        self.models: dict[str, ModelSpec] = {}
        self.rules: dict[str, RequestRules] = {}
        self.cards: dict[str, Card] = {}
        self.oversized: dict[str, str] = {}
        self._faults = faults

    def read(self, entry: Mapping[str, Any], place: str, settings: LifecycleSettings | None) -> None:
        """Add one entry. place: where it stands, for the faults. settings: None when they have faults themselves."""
        name = str(entry.get("model_name") or "")
        where = f"{place} ({name})"
        info = _part(entry, "model_info", dict, self._faults, where + ".")
        self._read_rules(name, info, where)
        catalogue = Catalogue()
        if info.get("catalogue") is not None:
            catalogue = (
                _checked(Catalogue, info["catalogue"], f"{where}.model_info.catalogue", self._faults) or catalogue
            )
        if info.get("lifecycle") is not None:
            self._read_lifecycle(name, entry, info, catalogue, where, settings)
        elif catalogue.disabled:
            self._faults.append(
                f"{where}.model_info.catalogue.disabled: is for models with a lifecycle; remove the entry"
            )

    def _read_rules(self, name: str, info: Mapping[str, Any], where: str) -> None:
        try:
            rules = rules_of(info)
        except ValidationError as error:
            self._faults.extend(_explain(f"{where}.model_info.request_rules", RequestRules, error))
            return
        if rules is not None and self.rules.setdefault(name, rules) != rules:
            self._faults.append(f"{where}: another entry named {name!r} has other request rules; one set a name")

    def _read_lifecycle(
        self,
        name: str,
        entry: Mapping[str, Any],
        info: Mapping[str, Any],
        catalogue: Catalogue,
        where: str,
        settings: LifecycleSettings | None,
    ) -> None:
        if not name:
            self._faults.append(f"{where}: model_name: is missing")
        parameters = _part(entry, "litellm_params", dict, self._faults, where + ".")
        where += ".model_info.lifecycle"
        lifecycle = _checked(ModelLifecycle, info["lifecycle"], where, self._faults)
        if lifecycle is None:
            return
        if name in self.cards:
            self._faults.append(f"{where}: a second entry named {name!r} has a lifecycle; one engine a name")
        self.cards[name] = card_of(name, info, catalogue)
        if settings is None:
            return
        api_base = _from_environment(str(parameters.get("api_base") or ""))
        misfits = list(_misfits(lifecycle, settings, api_base))
        self._faults.extend(f"{where}: {misfit}" for misfit in misfits)
        if misfits:
            return
        self.models[name] = _spec(name, lifecycle, settings, api_base)
        if too_large := _too_large(lifecycle, settings):
            self.oversized[name] = f"{where}.memory: {too_large}"
            self.cards[name] = self.cards[name].model_copy(update={"too_large": too_large})


def _checked(kind: type[_Section], section: object, where: str, faults: list[str]) -> _Section | None:
    """The section as an object of this kind; None, and its faults among the others, when it has any."""
    try:
        return kind.model_validate(section)
    except ValidationError as error:
        faults.extend(_explain(where, kind, error))
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
    if not api_base:
        yield "litellm_params.api_base: is missing; it is the engine's address, such as http://NAME:8000/v1"
    elif not _is_address(api_base):
        yield f"litellm_params.api_base: {api_base!r} is no address; write the engine's, such as http://NAME:8000/v1"


def _is_address(text: str) -> bool:
    try:
        address = urlsplit(text)
        return (
            address.scheme in ("http", "https")
            and bool(address.hostname)
            and address.port != 0
            and not any(letter.isspace() for letter in text)
        )
    except ValueError:  # a port that is no number, or a bracket that is not closed
        return False


def _too_large(lifecycle: ModelLifecycle, settings: LifecycleSettings) -> str:
    """Which GPU a model can never fit; empty when it fits each of its own, being alone."""
    for gpu in lifecycle.gpu:
        room = settings.gpus[gpu].room
        if lifecycle.memory > room:
            return f"{format_size(lifecycle.memory)} never fits GPU {gpu}, which has {format_size(room)} for models"
    return ""


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


def _never_warm(
    settings: LifecycleSettings, models: Mapping[str, ModelSpec], names: Collection[str], never_run: Mapping[str, str]
) -> Iterator[str]:
    """What keeps a model from ever being kept warm as the settings say. names: of all models with a lifecycle, also
    those that do not go with the settings. never_run: those that are never started, with what they are."""
    default = settings.default_model
    wished = [(f"preload.{index}", name) for index, name in enumerate(settings.preload)]
    wished += [("default_model", default)] if default is not None else []
    wished += [(f"schedules.{index}.model", schedule.model) for index, schedule in enumerate(settings.schedules)]
    for path, name in wished:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"{path}: {name!r} is not a model with a lifecycle{hint}"
        elif name in never_run:
            yield f"{path}: {name!r} is {never_run[name]}"
        elif name in models and models[name].role is Role.UTILITY:
            yield f"{path}: {name!r} is a utility, which is kept running anyway; leave it out"
    served = [spec for spec in models.values() if spec.name not in never_run]
    preloads = [spec for spec in served if spec.name in settings.preload]
    utilities = [spec for spec in served if spec.role is Role.UTILITY]
    standing = [spec for spec in served if spec in preloads or spec.name == default]
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


def _known_keys(section: type[BaseModel]) -> set[str]:
    """The keys of a section and of all sections inside it."""
    keys: set[str] = set()
    for name, field in section.model_fields.items():
        keys.add(field.alias or name)
        for inner in _sections_in(field.annotation):
            keys |= _known_keys(inner)
    return keys


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)

"""Everything that the checks look at, read once: the configuration, the Compose files, what is known of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router import config as configuration
from router.check import compose_file, located
from router.check.compose_file import Compose
from router.check.compose_service import Service
from router.check.engine_command import EngineCommand, find
from router.check.findings import Place
from router.check.image_facts import ENGINE_FLAGS, EngineFacts, read_facts, read_recipes
from router.check.located import Located
from router.config import Config, ModelSpec
from router.errors import ConfigError

#: A model's container is in one of these profiles.
PULLED, BUILT, DISABLED = "models", "models-built", "models-disabled"
PROFILES = (PULLED, BUILT, DISABLED)


@dataclass(frozen=True, slots=True)
class Engine:
    """One configured model, served or not, and what runs it. entry: its entry in `model_list`.

    service: its container; None when Compose has none, or the engine is a process. command: None when it starts no
    engine that is known.
    """

    spec: ModelSpec
    entry: Located
    service: Service | None
    command: EngineCommand | None

    @property
    def info(self) -> Mapping[str, Any]:
        """`model_info`."""
        return self.entry["model_info"]  # type: ignore[no-any-return]

    @property
    def disabled(self) -> str | None:
        """Why the catalogue says that it does not work; None when it says nothing."""
        return (self.info.get("catalogue") or {}).get("disabled")

    def at(self, *path: str) -> str:
        """Where in the configuration a key of the entry stands, or as much of its path as there is."""
        mapping, place = self.entry, self.entry.place
        for key in path:
            if key not in mapping.places:
                break
            place = mapping.places[key]
            below = mapping.get(key)
            if not isinstance(below, Located):
                break
            mapping = below
        return str(place)

    def in_service(self, key: str) -> str:
        """Where a key of the service stands; for a process, its command."""
        return self.service.at(key) if self.service else self.at("model_info", "lifecycle", "command")


@dataclass(frozen=True, slots=True)
class Subject:
    """document: LiteLLM's configuration with its includes. config: None when it cannot be used; why, and what is wrong
    with models that are not served for it, is in `faults`.

    compose: None when there is none. recipes: the images that can be built here. root: the directory of
    docker-compose.yml, else that of the configuration.
    """

    path: Path
    document: Located
    config: Config | None
    faults: list[str]
    repeated: list[tuple[str, Place]]
    compose: Compose | None
    facts: EngineFacts
    recipes: frozenset[str]
    root: Path
    engines: list[Engine]

    @property
    def model_services(self) -> list[Service]:
        """The services that run models: in a profile of models, named by the configuration, or starting an engine."""
        if self.compose is None:
            return []
        named = {engine.spec.container for engine in self.engines}
        return [
            service
            for service in self.compose.services.values()
            if any(profile.startswith(PULLED) for profile in service.profiles)
            or service.container_name in named
            or find(service.entrypoint, service.command) is not None
        ]


def gather(path: Path, compose_path: Path | None, environment: Mapping[str, str]) -> Subject:
    """Read everything. compose_path: None reads docker-compose.yml beside `path` if it is there and engines are
    containers. Raises ConfigError when a file cannot be read at all; what is in it may be wrong."""
    repeated: list[tuple[str, Place]] = []

    def read_located(file: Path) -> Any:
        document, twice = located.read_with_repetitions(file)
        repeated.extend(twice)
        return document

    document = configuration.read_yaml(path, read=read_located)
    config: Config | None = None
    try:
        config = configuration.parse(document)
        faults = list(config.oversized.values())
    except ConfigError as error:
        faults = str(error).splitlines()
    if compose_path is None and (config is None or config.settings.runtime == "docker"):
        beside = path.parent / "docker-compose.yml"
        compose_path = beside if beside.exists() else None
    compose = None if compose_path is None else compose_file.read(compose_path, environment)
    root = (compose_path or path).parent
    return Subject(
        path=path,
        document=document if isinstance(document, Located) else Located(Place(path)),
        config=config,
        faults=faults,
        repeated=repeated,
        compose=compose,
        facts=read_facts(root / ENGINE_FLAGS),
        recipes=read_recipes(root),
        root=root,
        engines=_engines(document, config, compose),
    )


def _engines(document: Mapping[str, Any], config: Config | None, compose: Compose | None) -> list[Engine]:
    if config is None:
        return []
    found = []
    specs = config.models | config.unserved  # they have to be right when they are served again
    for entry in document.get("model_list") or []:
        spec = specs.get(str(entry.get("model_name")))
        if spec is None or "lifecycle" not in (entry.get("model_info") or {}):
            continue
        service = _service_of(spec, compose)
        if service is not None:
            command = find(service.entrypoint, service.command)
        else:
            command = find((), spec.command) if spec.command else None
        found.append(Engine(spec, entry, service, command))
    return found


def _service_of(spec: ModelSpec, compose: Compose | None) -> Service | None:
    """The service with the model's container, by the container's name or else by its own."""
    if compose is None or spec.container is None:
        return None
    for service in compose.services.values():
        if service.container_name == spec.container:
            return service
    return compose.services.get(spec.container)

"""docker-compose.yml as Compose reads it, as far as `hearth check` needs it: `include`, `extends`, anchors, variables.

Compose itself may not be there, and it forgets the lines. A test holds this reader against `docker compose config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from router.check.compose_service import Service, service
from router.check.compose_syntax import canonical, merged
from router.check.findings import Place
from router.check.interpolation import Missing, substitute
from router.check.located import Located, read_with_repetitions
from router.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Compose:
    """Everything that the files say together, all profiles.

    missing: variables without a value. repeated: keys that stand twice in one mapping. twice: services of which two
    files have one. written: all files as they are written, variables not filled in.
    """

    path: Path
    services: dict[str, Service]
    networks: frozenset[str]
    volumes: frozenset[str]
    missing: dict[Missing, Place]
    repeated: list[tuple[str, Place]]
    twice: list[tuple[str, Place]]
    written: dict[Path, Located]


def read(path: Path, environment: Mapping[str, str]) -> Compose:
    """The composition that begins at `path`. environment: variables of the shell; they go before those of `.env`.

    Raises ConfigError when a file cannot be read or is not what Compose takes.
    """
    values = _env_file(path.parent / ".env") | dict(environment)
    reader = _Reader()
    found = reader.project(path, path.parent, values, ())
    return Compose(
        path=path,
        services=found.services,
        networks=frozenset(found.networks),
        volumes=frozenset(found.volumes),
        missing=reader.missing,
        repeated=list(dict.fromkeys(reader.repeated)),
        twice=reader.twice,
        written=reader.written,
    )


def _env_file(path: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


@dataclass
class _Project:
    services: dict[str, Service] = field(default_factory=dict)
    networks: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)


class _Reader:
    """Reads files; collects what is said about them on the way."""

    def __init__(self) -> None:
        self.missing: dict[Missing, Place] = {}
        self.repeated: list[tuple[str, Place]] = []
        self.twice: list[tuple[str, Place]] = []
        self.written: dict[Path, Located] = {}

    def project(self, path: Path, base: Path, values: Mapping[str, str], within: tuple[Path, ...]) -> _Project:
        """One file with what it includes. base: what its relative paths are relative to. within: who includes it."""
        if path.resolve() in within:
            raise ConfigError(f"{path}: includes itself")
        document = self._document(path, values)
        found = _Project()
        for name, form in _mappings(document, "services"):
            found.services[name] = _service(name, self._extended(form, path, base, values, ()))
        found.networks.update(_mapping(document, "networks"))
        found.volumes.update(_mapping(document, "volumes"))
        for item in _included(document):
            env_files = item.get("env_file") or []
            own = dict(values)
            for name in [env_files] if isinstance(env_files, str) else env_files:
                own = _env_file(base / str(name)) | own
            names = item["path"] if isinstance(item["path"], list) else [item["path"]]
            for name in names:
                file = path.parent / str(name)
                directory = base / str(item["project_directory"]) if "project_directory" in item else file.parent
                self._add(self.project(file, directory, own, (*within, path.resolve())), found)
        return found

    def _add(self, included: _Project, found: _Project) -> None:
        for name, one in included.services.items():
            if name in found.services:
                self.twice.append((name, one.place))
            found.services.setdefault(name, one)
        found.networks |= included.networks
        found.volumes |= included.volumes

    def _extended(
        self, form: Located, path: Path, base: Path, values: Mapping[str, str], within: tuple[tuple[Path, str], ...]
    ) -> Located:
        """The service in canonical form on top of what it extends."""
        extends = form.pop("extends", None)
        try:
            own = canonical(form, base)
        except ValueError as error:
            raise ConfigError(f"{form.place}: {error}") from error
        if extends is None:
            return own
        source = extends if isinstance(extends, Mapping) else {"service": extends}
        name = str(source.get("service"))
        file = path.parent / str(source["file"]) if source.get("file") else path
        if (file, name) in within:
            raise ConfigError(f"{form.place}: extends itself")
        document = self._document(file, values)
        other = dict(_mappings(document, "services")).get(name)
        if other is None:
            raise ConfigError(f"{form.place}: extends {name!r}, which is not in {file}")
        other_base = base if file == path else file.parent
        return merged(self._extended(other, file, other_base, values, (*within, (file, name))), own)

    def _document(self, path: Path, values: Mapping[str, str]) -> Located:
        """A copy of the file's content with variables filled in."""
        if path not in self.written:
            try:
                document, repeated = read_with_repetitions(path)
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path}: cannot be read: {error}") from error
            except yaml.YAMLError as error:
                raise ConfigError(f"{path}: is not YAML: {error}") from error
            if not isinstance(document, Located):
                raise ConfigError(f"{path}: is not a mapping at the top level")
            self.written[path] = document
            self.repeated.extend(repeated)
        result = self._filled(self.written[path], values, Place(path))
        assert isinstance(result, Located)  # noqa: S101
        return result

    def _filled(self, value: Any, values: Mapping[str, str], place: Place) -> Any:
        if isinstance(value, str):
            try:
                text, missing = substitute(value, values)
            except ValueError as error:
                raise ConfigError(f"{place}: {error}") from error
            for one in missing:
                self.missing.setdefault(one, place)
            return text
        if isinstance(value, list):
            return [self._filled(item, values, place) for item in value]
        if isinstance(value, Located):
            result = Located(value.place)
            result.places = value.places
            for key, item in value.items():
                result[key] = self._filled(item, values, value.at(str(key)))
            return result
        return value


def _service(name: str, form: Located) -> Service:
    try:
        return service(name, form)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{form.place}: service {name}: {error}") from error


def _mappings(document: Located, key: str) -> Iterator[tuple[str, Located]]:
    section = _mapping(document, key)
    for name, value in section.items():
        if not isinstance(value, Located):
            raise ConfigError(f"{section.at(str(name))}: {key}.{name}: is not a mapping")
        yield str(name), value


def _mapping(document: Located, key: str) -> Located:
    value = document.get(key)
    if value is None:
        return Located(document.at(key))
    if not isinstance(value, Located):
        raise ConfigError(f"{document.at(key)}: {key}: is not a mapping")
    return value


def _included(document: Located) -> Iterator[Mapping[str, Any]]:
    items = document.get("include") or []
    if not isinstance(items, list):
        raise ConfigError(f"{document.at('include')}: include: is a list of files")
    for item in items:
        form = item if isinstance(item, Mapping) else {"path": item}
        if not form.get("path"):
            raise ConfigError(f"{document.at('include')}: include: an entry without a path")
        yield form

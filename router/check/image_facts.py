"""What custom-docker-containers/ says of the images: which are built there, and what no tool can be asked about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from router.check import located
from router.errors import ConfigError

#: Beside docker-compose.yml.
IMAGES = Path("custom-docker-containers")
ENGINE_FLAGS = IMAGES / "engine-flags.yaml"
RECIPES = IMAGES / "docker-bake.json"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name in its parts: `registry/name:tag@digest`."""

    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """A colon after the last slash begins the tag; one before it is a registry's port."""
        name, _, digest = text.partition("@")
        head, colon, tail = name.rpartition(":")
        if colon and "/" not in tail:
            return cls(head, tail, digest or None)
        return cls(name, None, digest or None)

    @property
    def names(self) -> tuple[str, ...]:
        """What engine-flags.yaml may call it: for any tag, and with its own."""
        return (self.repository, f"{self.repository}:{self.tag}") if self.tag else (self.repository,)


class ImageFacts(BaseModel):
    """One image. flags: by option, why vLLM's parser of today need not know it.

    entrypoint: vllm where the image starts that by itself, so that commands begin with `serve`. engine: the only one
    that is in the image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flags: dict[str, str] = {}
    entrypoint: Literal["vllm"] | None = None
    engine: Literal["vllm", "sglang"] | None = None


class EngineFacts(BaseModel):
    """The whole file. images: by name, with or without a tag. options: of engines without a parser, by engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: dict[str, ImageFacts] = {}
    options: dict[str, frozenset[str]] = {}

    def of(self, image: str | None) -> ImageFacts:
        """What is known of an image, its tag's facts on top of those for all its tags."""
        known = [facts for name in Reference.parse(image or "").names if (facts := self.images.get(name))]
        flags = {name: why for facts in known for name, why in facts.flags.items()}
        return ImageFacts(
            flags=flags,
            entrypoint=next((one.entrypoint for one in known if one.entrypoint), None),
            engine=next((one.engine for one in known if one.engine), None),
        )


def read_facts(path: Path) -> EngineFacts:
    """What the file says; nothing when there is none. Raises ConfigError."""
    if not path.exists():
        return EngineFacts()
    try:
        return EngineFacts.model_validate(located.read(path) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def read_recipes(root: Path) -> frozenset[str]:
    """The images that can be built: the tags of docker-bake.json whose Dockerfile is there, and each folder's own name.

    root: the directory of docker-compose.yml. Raises ConfigError.
    """
    found = {file.parent.name for file in (root / IMAGES).glob("*/Dockerfile")}
    path = root / RECIPES
    if path.exists():
        try:
            targets = json.loads(path.read_text(encoding="utf-8"))["target"]
            found.update(tag for target in targets for tag in _tags(targets, target, root))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    return frozenset(found)


def _tags(targets: Mapping[str, Any], name: str, root: Path) -> Iterator[str]:
    target: dict[str, Any] = {}
    for inherited in targets[name].get("inherits", []):
        target |= targets[inherited]
    target |= targets[name]
    file = root / target.get("context", ".") / target.get("dockerfile", "Dockerfile")
    if file.is_file():
        yield from targets[name].get("tags", [])

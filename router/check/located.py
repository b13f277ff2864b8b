"""YAML whose mappings know the file and the line of each of their keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from router.check.findings import Place

try:
    from yaml import CSafeLoader as _Base  # twenty times as fast
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]


class Located(dict[Any, Any]):
    """A mapping with the place where it begins and the place of each key; a merged key's is where it was written."""

    __slots__ = ("place", "places")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.places: dict[str, Place] = {}

    def at(self, key: str) -> Place:
        """Where `key` stands; where the mapping begins when there is no such key."""
        return self.places.get(key, self.place)


class _Loader(_Base):
    file = Path()


def _construct(loader: _Loader, node: yaml.MappingNode) -> Iterator[Located]:
    found = Located(Place(loader.file, node.start_mark.line + 1))
    yield found
    loader.flatten_mapping(node)
    for key, _ in node.value:
        found.places[str(key.value)] = Place(loader.file, key.start_mark.line + 1)
    found.update(loader.construct_mapping(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _construct)


def read(path: Path) -> Any:
    """The document in `path`, its mappings as Located. Raises OSError, UnicodeDecodeError, yaml.YAMLError."""
    return _load(path)[0]


def read_with_repetitions(path: Path) -> tuple[Any, list[tuple[str, Place]]]:
    """`read`, and the keys that stand twice in one mapping, of which YAML silently takes the last."""
    return _load(path)


def _load(path: Path) -> tuple[Any, list[tuple[str, Place]]]:
    loader = _Loader(path.read_text(encoding="utf-8"))
    loader.file = path
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        repeated = list(_repeated(node, path, set()))
        return loader.construct_document(node), repeated
    finally:
        loader.dispose()


def _repeated(node: yaml.Node, path: Path, seen: set[int]) -> Iterator[tuple[str, Place]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, path, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in keys:
                    yield key.value, Place(path, key.start_mark.line + 1)
                keys.add(key.value)
            yield from _repeated(value, path, seen)

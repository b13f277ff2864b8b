"""One service as it is written, brought into one form: short syntax to long, paths to where they point.

What is done follows the Compose specification; the rules of merging are those of `extends`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from router.check.located import Located

#: Lists that a service replaces when it extends another; all others are put together.
_REPLACED = frozenset({("command",), ("entrypoint",), ("healthcheck", "test")})


def canonical(service: Located, base: Path) -> Located:
    """The service in long syntax. base: the directory that its relative paths are relative to.

    Raises ValueError for what Compose would not take.
    """
    result = Located(service.place)
    result.places = dict(service.places)
    for key, value in service.items():
        convert = _FORMS.get(str(key))
        result[str(key)] = value if convert is None or value is None else convert(value, base)
    return result


def merged(base: Located, over: Located, path: tuple[str, ...] = ()) -> Located:
    """`over` on top of what it extends; both canonical."""
    result = Located(over.place)
    result.places = base.places | over.places
    result.update(base)
    for key, value in over.items():
        below = (*path, str(key))
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merged(_located(old, over), _located(value, over), below)
        elif isinstance(old, list) and isinstance(value, list) and below not in _REPLACED:
            result[key] = old + [item for item in value if item not in old]
        elif value is not None or key not in result:
            result[key] = value
    return result


def _located(value: Mapping[Any, Any], near: Located) -> Located:
    if isinstance(value, Located):
        return value
    result = Located(near.place)
    result.update(value)
    return result


def _words(value: object, _: Path) -> list[str]:
    return shlex.split(value) if isinstance(value, str) else [_text(word) for word in _list(value)]


def _texts(value: object, _: Path) -> list[str]:
    return [_text(item) for item in _list(value)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pairs(value: object, _: Path) -> dict[str, str | None]:
    """`environment` and the like, a mapping or a list of NAME=VALUE; None is taken from the shell."""
    if isinstance(value, Mapping):
        return {str(name): None if one is None else _text(one) for name, one in value.items()}
    pairs = (_text(item).partition("=") for item in _list(value))
    return {name: one if equals else None for name, equals, one in pairs}


def _networks(value: object, _: Path) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(name): one or {} for name, one in value.items()}
    return {_text(name): {} for name in _list(value)}


def _healthcheck(value: object, _: Path) -> object:
    if isinstance(value, Mapping) and isinstance(value.get("test"), str):
        return {**value, "test": ["CMD-SHELL", value["test"]]}
    return value


def _volumes(value: object, base: Path) -> dict[str, dict[str, Any]]:
    """By target, because a service replaces what it extends there."""
    mounts = (_mount(item, base) for item in _mounts(value))
    return {mount["target"]: mount for mount in mounts}


def _mounts(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else _list(value)


def _mount(item: object, base: Path) -> dict[str, Any]:
    if isinstance(item, Mapping):
        kind, source, read_only = item.get("type", "volume"), item.get("source"), _flag(item.get("read_only"))
        target = item.get("target")
    else:
        parts = _text(item).split(":")
        source, target = (parts[0], parts[1]) if len(parts) > 1 else (None, parts[0])
        kind = "bind" if source and source[0] in "./~" else "volume"
        read_only = len(parts) > 2 and "ro" in parts[2].split(",")
    if not target:
        raise ValueError(f"volumes: {item!r} has no path in the container")
    if kind == "bind" and source:
        source = str((base / Path(str(source)).expanduser()).resolve())
    return {"type": str(kind), "source": source, "target": str(target), "read_only": read_only}


def _ports(value: object, _: Path) -> list[dict[str, str]]:
    return [_port(item) for item in _list(value)]


def _port(item: object) -> dict[str, str]:
    if isinstance(item, Mapping):
        return {key: _text(item.get(key) or "") for key in ("host_ip", "published", "target")}
    address, _, target = _text(item).partition("/")[0].rpartition(":")
    host, _, published = address.rpartition(":")
    return {"host_ip": host.strip("[]"), "published": published, "target": target}


def _build(value: object, base: Path) -> dict[str, Any]:
    form = dict(value) if isinstance(value, Mapping) else {"context": _text(value)}
    form["context"] = str((base / str(form.get("context") or ".")).resolve())
    return form


def _flag(value: object) -> bool:
    return value if isinstance(value, bool) else str(value).lower() == "true"


def _as_flag(value: object, _: Path) -> bool:
    return _flag(value)


_FORMS: dict[str, Callable[[Any, Path], object]] = {
    "build": _build,
    "cap_add": _texts,
    "cap_drop": _texts,
    "command": _words,
    "entrypoint": _words,
    "environment": _pairs,
    "healthcheck": _healthcheck,
    "init": _as_flag,
    "networks": _networks,
    "ports": _ports,
    "privileged": _as_flag,
    "profiles": _texts,
    "read_only": _as_flag,
    "security_opt": _texts,
    "tmpfs": _texts,
    "volumes": _volumes,
}

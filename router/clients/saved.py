"""A client's file: read for what is in it, and written in one step, with a copy of what was there."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.errors import HearthError
from router.staged_file import staged


class NotOurs(HearthError):
    """What is in a client's file cannot be kept; it is left alone."""


@dataclass(frozen=True, slots=True)
class SavedFile:
    """What a file is to hold. secret: there is a key in it."""

    path: Path
    text: str = field(repr=False)
    secret: bool = False


def present(path: Path) -> str | None:
    """What is in the file; None without one. Raises NotOurs."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise NotOurs(f"{path} cannot be read: {error}") from error


def object_in(path: Path, text: str | None) -> Mapping[str, Any]:
    """The JSON object in the text; an empty one where there is none. Raises NotOurs."""
    if text is None or not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NotOurs(
            f"{path} is not plain JSON ({error}); comments in it would be lost. Leave --write away, and put the parts "
            f"that are printed into it by hand."
        ) from error
    if not isinstance(found, dict):
        raise NotOurs(f"{path} holds no JSON object; move it away.")
    return found


def as_json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(file: SavedFile) -> Path | None:
    """Write it where it differs; the copy of what was there, if any. A link is followed, and stays one.

    A new file is its owner's alone. An old one keeps its permissions, but for those of others where a key is in it.
    Raises NotOurs.
    """
    path = file.path.resolve()
    old = present(path)
    if old == file.text and not _too_open(path, file.secret):
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if old is not None else 0o600
        if file.secret:
            mode &= 0o600
        copy = None
        if old is not None and old != file.text:
            copy = _copy_path(path)
            _put(copy, old, mode)
        _put(path, file.text, mode)
    except OSError as error:
        raise NotOurs(f"{path} cannot be written: {error}") from error
    return copy


def _too_open(path: Path, secret: bool) -> bool:
    return secret and bool(path.stat().st_mode & 0o077)


def _copy_path(path: Path) -> Path:
    """A name that is free beside the file."""
    number = 1
    while (copy := path.with_name(f"{path.name}.before-{number}")).exists():
        number += 1
    return copy


def _put(path: Path, text: str, mode: int) -> None:
    with staged(path, text, mode) as new:
        new.replace(path)

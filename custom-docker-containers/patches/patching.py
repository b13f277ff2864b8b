"""Changes of exact text. A change that does not find its place exactly once is an error, and then nothing is written.

A patch that was made already is an error too: in a build it means that the source is not the one that was meant.
Python's standard library only: it runs inside the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class PatchError(Exception):
    """The source is not what the patch was written for."""


@dataclass(frozen=True)
class Change:
    """`before` becomes `after`; both are whole pieces of text, compared to the letter."""

    before: str
    after: str


@dataclass(frozen=True)
class Patch:
    """Changes to one file, named below the root of the source."""

    file: str
    changes: tuple[Change, ...]


def apply(patch: Patch, root: Path) -> None:
    """Make the patch, all of it or nothing, and read it back. Raises PatchError."""
    path = root / patch.file
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PatchError(f"{path} cannot be read: {error}") from error
    new = patched(old, patch)
    if path.suffix == ".py":
        try:
            compile(new, str(path), "exec")
        except SyntaxError as error:
            raise PatchError(f"{path} would no longer be Python: {error}") from error
    beside = path.with_name(f"{path.name}.patched")
    beside.write_text(new, encoding="utf-8")
    beside.chmod(path.stat().st_mode)
    beside.replace(path)
    _require_made(path.read_text(encoding="utf-8"), patch)


def patched(text: str, patch: Patch) -> str:
    """`text` with the changes made in order. Raises PatchError."""
    for number, change in enumerate(patch.changes, 1):
        where = f"{patch.file}, change {number} of {len(patch.changes)}"
        if change.after in text:
            raise PatchError(f"{where}: it was made already")
        found = text.count(change.before)
        if found != 1:
            raise PatchError(f"{where}: its place was found {found} times instead of once; is this another version?")
        text = text.replace(change.before, change.after)
    return text


def _require_made(text: str, patch: Patch) -> None:
    for number, change in enumerate(patch.changes, 1):
        if text.count(change.after) != 1:
            raise PatchError(f"{patch.file}: change {number} is not there after it was made")

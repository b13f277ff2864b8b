"""A file's new text beside it, whole and on the disk, so that the file can be replaced in one step."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def staged(path: Path, text: str, mode: int) -> Iterator[Path]:
    """A file with this text and mode in the directory of `path`, which must exist; `replace(path)` puts it in place.
    It is gone at the end, unless it was renamed, and its owner's alone until it gets its mode. Raises OSError."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(number)
            os.fchmod(number, mode)
        yield new
    finally:
        new.unlink(missing_ok=True)

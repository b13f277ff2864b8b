"""The server's admin key: LITELLM_MASTER_KEY from the environment, else a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from router.errors import ConfigError
from router.supervisor.failures import StartRefused

VARIABLE = "LITELLM_MASTER_KEY"
FILE_NAME = "master-key"
_SHORTEST = 12


@dataclass(frozen=True, slots=True)
class MasterKey:
    """file: where the key is kept; None when it came from the environment."""

    value: str = field(repr=False)
    file: Path | None


def obtain(environment: Mapping[str, str], state_dir: Path) -> MasterKey:
    """The key from the environment, or the one in `state_dir`, made on the first run. Raises StartRefused."""
    value = environment.get(VARIABLE)
    if value is not None:
        if fault := weakness(value):
            raise StartRefused(
                f"{VARIABLE} {fault}. Set it to something hard to guess, or unset it: "
                f"then a random key is made and kept in {state_dir / FILE_NAME}."
            )
        return MasterKey(value, None)
    path = state_dir / FILE_NAME
    try:
        return MasterKey(_create(path), path)
    except FileExistsError:
        return MasterKey(_checked(read(path), path), path)


def weakness(key: str) -> str:
    """What is wrong with a key, as the end of a sentence; empty when nothing is."""
    if not key.strip():
        return "is empty"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "has characters that do not fit into an HTTP header"
    if len(key) < _SHORTEST:
        return f"is shorter than {_SHORTEST} characters"
    return ""


def read(path: Path) -> str:
    """The key in `path`. Raises StartRefused when others could have read or put it there, and OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            raise StartRefused(f"The key file {path} is not a file of yours.")
        if found.st_mode & 0o077:
            raise StartRefused(f"The key file {path} can be read by other users; run: chmod 600 {path}")
        return file.read(4096).strip()


def require_from_environment(master_key: object) -> None:
    """`general_settings.master_key`: it must be left to the environment, where the supervisor puts the key.
    Raises ConfigError."""
    if master_key not in (None, f"os.environ/{VARIABLE}"):
        raise ConfigError(
            f"general_settings.master_key: `hearth up` keeps the key outside of this file; write os.environ/{VARIABLE}"
        )


def _create(path: Path) -> str:
    key = f"sk-{secrets.token_urlsafe(32)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key}\n")
    return key


def _checked(key: str, path: Path) -> str:
    if fault := weakness(key):
        raise StartRefused(f"The key in {path} {fault}; remove the file, and a new key is made.")
    return key

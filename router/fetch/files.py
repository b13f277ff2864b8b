"""One published file, fetched into a directory: checked, complete or not there at all.

A file is written beside its place under another name and renamed when its size and its SHA-256 are right, so an engine
never reads half of one. What is there already is checked in the same way and not fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Protocol

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tenacity.wait import wait_base

from router.errors import FetchFailed

ATTEMPTS = 4
_BLOCK = 1 << 16
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
#: A file that trickles in would renew the timeout of each read for ever.
_LONGEST = 900.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class PublishedFile:
    """size: bytes. sha256: 64 hexadecimal digits, of the whole file."""

    name: str
    url: str
    size: int
    sha256: str


class Outcome(Enum):
    """What `fetch` did."""

    PRESENT = "already there, checksum right"
    FETCHED = "fetched, checksum right"
    REPLACED = "what was there had another checksum; fetched anew"


class Progress(Protocol):
    """Is told how one file comes along."""

    def at(self, size: int) -> None:
        """`size` bytes are there; less than before when an attempt begins anew."""

    def again(self, why: str) -> None:
        """An attempt has failed for this reason and another follows."""


class _Passing(Exception):
    """An attempt failed in a way that another one may not."""


def fetch(
    file: PublishedFile,
    directory: Path,
    client: httpx.Client,
    progress: Progress,
    wait: wait_base | None = None,
) -> Outcome:
    """Make sure that `directory` holds `file`. wait: between attempts, by default growing from 1 s to 10 s.

    Raises FetchFailed, and then what was in the directory is as it was.
    """
    target = directory / file.name
    there = _is_there(target)
    if there and _is_right(target, file):
        progress.at(file.size)
        return Outcome.PRESENT
    attempts = Retrying(
        retry=retry_if_exception_type(_Passing),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait or wait_exponential_jitter(initial=1, max=10),
        before_sleep=lambda state: progress.again(str(state.outcome.exception() if state.outcome else "")),
        reraise=True,
    )
    try:
        attempts(_attempt, file, target, client, progress)
    except _Passing as error:
        raise FetchFailed(f"{file.name}: {error}, {ATTEMPTS} times in a row.\n{_by_hand(file, target)}") from error
    return Outcome.REPLACED if there else Outcome.FETCHED


def http_client() -> httpx.Client:
    """A client with limits on every wait; proxies come from the usual variables."""
    return httpx.Client(timeout=_TIMEOUT, follow_redirects=True)


def _attempt(file: PublishedFile, target: Path, client: httpx.Client, progress: Progress) -> None:
    """Raises _Passing where another attempt may help, else FetchFailed."""
    progress.at(0)
    with _new_file(target) as (out, path):
        size, digest = _receive(file, out, target, client, progress)
        if size < file.size:
            raise _Passing(f"only {size} of {file.size} bytes came")
        if digest != file.sha256:
            raise FetchFailed(
                f"{file.name}: what came from {file.url} is not that file (its SHA-256 begins with {digest[:12]}, it "
                f"should be {file.sha256[:12]}), and was thrown away. Something between here and there answers in its "
                f"place, or there is a new version that this Hearth does not know.\n{_by_hand(file, target)}"
            )
        with _disk_errors(target):
            out.flush()
            os.fsync(out.fileno())
            path.chmod(0o644)  # an engine may run as another user
            path.replace(target)


def _receive(
    file: PublishedFile, out: IO[bytes], target: Path, client: httpx.Client, progress: Progress
) -> tuple[int, str]:
    """The number of bytes that came, and their SHA-256."""
    digest, size, latest = hashlib.sha256(), 0, time.monotonic() + _LONGEST
    try:
        with client.stream("GET", file.url) as answer:
            if answer.status_code in _PASSING:
                raise _Passing(f"{file.url} answered {answer.status_code}")
            if answer.status_code != httpx.codes.OK:
                raise FetchFailed(f"{file.name}: {file.url} answered {answer.status_code}.")
            for block in answer.iter_bytes(_BLOCK):
                size += len(block)
                if size > file.size:
                    digest.update(block)
                    break  # not that file: a log-in page, say
                with _disk_errors(target):
                    out.write(block)
                digest.update(block)
                progress.at(size)
                if time.monotonic() > latest:
                    raise _Passing(f"{size} of {file.size} bytes came in {_LONGEST:.0f} s")
    except httpx.InvalidURL as error:
        raise FetchFailed(f"{file.name}: {file.url} is not an address: {error}") from error
    except httpx.UnsupportedProtocol as error:
        raise FetchFailed(f"{file.name}: {file.url} is not an http or https address.") from error
    except httpx.RemoteProtocolError as error:
        raise _Passing(f"the connection ended after {size} of {file.size} bytes") from error
    except httpx.HTTPError as error:
        raise _Passing(f"{file.url} cannot be reached ({error or type(error).__name__})") from error
    return size, digest.hexdigest()


def _is_there(target: Path) -> bool:
    if target.is_dir():
        raise FetchFailed(f"{target} is a directory; a file belongs there. Move it away and try again.")
    return target.exists()


def _is_right(target: Path, file: PublishedFile) -> bool:
    try:
        if target.stat().st_size != file.size:
            return False
        with target.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    except OSError as error:
        raise FetchFailed(f"{target} cannot be read: {error.strerror}.") from error


@contextlib.contextmanager
def _new_file(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file beside `target`, gone at the end unless it was renamed."""
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as out:
            yield out, path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FetchFailed(f"{target} cannot be written: {error.strerror}.") from error


def _by_hand(file: PublishedFile, target: Path) -> str:
    return (
        f"On a machine that reaches it, fetch {file.url} and copy it to {target}; then run this again, and it checks "
        "the copy."
    )

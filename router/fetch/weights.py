"""A model's weights in the layout of Hugging Face's cache, which is what engines read below their --download-dir.

huggingface_hub does the work: a file is complete or not there, files that are there are not fetched again, and one
whose connection breaks goes on where it was. A file that was under way when the whole command ended begins anew.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from router.errors import FetchFailed
from router.quantities import format_size

#: The same weights in forms that no engine here reads.
_OTHER_FORMS = ("original/*", "metal/*", "onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.msgpack", "*.h5", "*.tflite")
#: What an engine does not load when there are safetensors beside it; the first three hold code, too.
_BESIDE_SAFETENSORS = ("*.bin", "*.pt", "*.pth", "*.gguf")
_WEIGHTS = ("*.safetensors", *_BESIDE_SAFETENSORS)
#: Bytes that stay free on the disk.
MARGIN = 2**30
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Hub:
    """Where models are published. endpoint: None is huggingface_hub's own. token: None is what a log-in has left."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WantedFile:
    """size: bytes. present: complete in the cache."""

    name: str
    size: int
    present: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What belongs to one revision of a repository. revision: as asked for. commit: what that is now."""

    repository: str
    revision: str
    commit: str
    files: tuple[WantedFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes still to be fetched."""
        return sum(file.size for file in self.files if not file.present)


def wanted(names: Sequence[str], *, weights: bool = True) -> list[str]:
    """Those of a repository's files that an engine reads. weights: else only what describes them, and the tokenizer."""
    left = [name for name in names if not _matches(name, _OTHER_FORMS)]
    if not weights:
        return [name for name in left if not _matches(name, _WEIGHTS)]
    if any(_matches(name, ("*.safetensors",)) for name in left):
        left = [name for name in left if not _matches(name, _BESIDE_SAFETENSORS)]
    return left


def look(repository: str, revision: str, cache: Path, hub: Hub, *, weights: bool = True) -> Snapshot:
    """What there is, and what of it lies in `cache` already. Raises FetchFailed."""
    with _explained(repository, revision, hub):
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        info = api.model_info(repository, revision=revision, files_metadata=True)
    commit, sizes = info.sha or revision, {file.rfilename: file.size or 0 for file in info.siblings or ()}
    files = tuple(
        WantedFile(name, sizes[name], _is_there(repository, name, cache, commit))
        for name in wanted(list(sizes), weights=weights)
    )
    if not files:
        raise FetchFailed(f"{repository} has no files that an engine reads.")
    return Snapshot(repository, revision, commit, files)


def require_room(snapshot: Snapshot, cache: Path) -> None:
    """Raises FetchFailed when what is missing does not fit the disk."""
    directory = next(parent for parent in (cache, *cache.absolute().parents) if parent.exists())
    free = shutil.disk_usage(directory).free
    if snapshot.missing + MARGIN > free:
        raise FetchFailed(
            f"{snapshot.repository} needs {format_size(snapshot.missing)} more, and {format_size(MARGIN)} should stay "
            f"free; {cache} has {format_size(free)}. Nothing was fetched."
        )


def download(snapshot: Snapshot, cache: Path, hub: Hub, progress: Callable[[int], None]) -> Path:
    """Fetch what is missing; the snapshot's directory. progress: gets the bytes that came since the last call, from
    several threads, fewer than none when a file begins anew. To be called from the main thread: SIGINT ends it between
    two blocks. Raises FetchFailed and KeyboardInterrupt."""
    stopped = threading.Event()
    with _explained(snapshot.repository, snapshot.revision, hub), _interruptible(stopped):
        found = snapshot_download(
            snapshot.repository,
            revision=snapshot.revision,
            cache_dir=cache,
            allow_patterns=[_escaped(file.name) for file in snapshot.files],
            endpoint=hub.endpoint,
            token=hub.token,
            max_workers=_WORKERS,
            tqdm_class=_bars(progress, stopped),
        )
    return Path(found)


class _Interrupted(Exception):
    """Ctrl-C, as a thread that downloads hears of it."""


def _bars(progress: Callable[[int], None], stopped: threading.Event) -> type[tqdm]:
    """What huggingface_hub takes for its bars: nothing is drawn, and `progress` is told."""

    class Bar(tqdm):
        monitor_interval = 0  # no thread of its own

        def __init__(self, *arguments: Any, name: str | None = None, **options: Any) -> None:
            # one bar counts what is written, one what comes over the network, one the files
            self._written = name == "huggingface_hub.snapshot_download"
            super().__init__(*arguments, **options | {"disable": False, "file": io.StringIO()})  # type: ignore[no-untyped-call]

        def display(self, *_: object, **__: object) -> None:
            """Nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            if stopped.is_set():
                raise _Interrupted
            if self._written and n:
                progress(int(n))
            shown: bool | None = super().update(n)
            return shown

    return Bar


@contextlib.contextmanager
def _interruptible(stopped: threading.Event) -> Iterator[None]:
    """Lets SIGINT end downloads: the library's threads would otherwise finish their files first."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        yield
    except _Interrupted as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def _explained(repository: str, revision: str, hub: Hub) -> Iterator[None]:
    """What the library raises, as FetchFailed with what to do."""
    try:
        yield
    except GatedRepoError as error:
        todo = (
            "the account of HF_TOKEN has no access: accept the terms on its page with that account"
            if hub.token
            else "accept its terms on its page, and set HF_TOKEN to a token of that account (it may only read)"
        )
        raise FetchFailed(f"{repository} is given only to those who accepted its terms; {todo}.") from error
    except RevisionNotFoundError as error:
        raise FetchFailed(f"{repository} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        todo = "or HF_TOKEN may not see it" if hub.token else "or it is private: then set HF_TOKEN"
        raise FetchFailed(f"There is no model repository {repository!r}, {todo}.") from error
    except HFValidationError as error:
        raise FetchFailed(f"{repository!r} is no name of a repository: {error}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError) as error:
        where = hub.endpoint or "Hugging Face"
        raise FetchFailed(
            f"{repository}: {where} cannot be reached, or broke off ({_first_line(error)}). Run it again: files that "
            "are complete are kept."
        ) from error
    except OSError as error:
        raise FetchFailed(f"{repository} cannot be kept: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__


def _is_there(repository: str, name: str, cache: Path, commit: str) -> bool:
    return isinstance(try_to_load_from_cache(repository, name, cache_dir=cache, revision=commit), str)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _escaped(name: str) -> str:
    """A file's name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)

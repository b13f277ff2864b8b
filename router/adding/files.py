"""The files of a box that a new model goes into: shown as a difference, tried with `hearth check`, all written or none
of them."""

from __future__ import annotations

import contextlib
import difflib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.adding.entry import COMPOSE_HEADER, LITELLM_HEADER, Addition, entry_lines, service_lines, with_block
from router.check.findings import Finding, Severity
from router.check.run import run
from router.errors import ConfigError
from router.staged_file import staged

COMPOSE_OWN, LITELLM_OWN = "compose/models-own.yml", "compose/litellm-own.yaml"
#: What `hearth check` reads beside the configuration.
_READ = ("docker-compose.yml", ".env", "compose", "custom-docker-containers")


@dataclass(frozen=True, slots=True)
class Change:
    """One file. before: None when there is none yet."""

    path: Path
    before: str | None
    after: str

    def difference(self) -> str:
        """As `diff -u` has it."""
        old = [] if self.before is None else self.before.splitlines(keepends=True)
        name = str(self.path)
        lines = difflib.unified_diff(old, self.after.splitlines(keepends=True), name if old else "/dev/null", name)
        return "".join(lines)

    @property
    def added(self) -> tuple[int, int]:
        """The first and the last line that is new, from 1; what undoing it takes out."""
        old, new = (self.before or "").splitlines(), self.after.splitlines()
        blocks = difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes()
        changed = [(first, last) for kind, _, _, first, last in blocks if kind != "equal"]
        return changed[0][0] + 1, changed[-1][1]


def changes(config: Path, addition: Addition) -> list[Change]:
    """What the new model needs in the files beside `config`. Raises ConfigError when something is in the way."""
    root = config.parent
    own = {path: _text(root / path) for path in (COMPOSE_OWN, LITELLM_OWN)}
    try:
        services = with_block(
            own[COMPOSE_OWN] or f"{COMPOSE_HEADER}services:\n", "services", service_lines(addition), apart=True
        )
        if addition.cache and f"\n  {addition.cache}:" not in services:
            services = with_block(services, "volumes", [f"  {addition.cache}:"])
        entries = with_block(
            own[LITELLM_OWN] or f"{LITELLM_HEADER}model_list:\n", "model_list", entry_lines(addition), apart=True
        )
        return [
            Change(root / COMPOSE_OWN, own[COMPOSE_OWN], services),
            Change(root / LITELLM_OWN, own[LITELLM_OWN], entries),
            *_included(root / "docker-compose.yml", COMPOSE_OWN),
            *_included(config, LITELLM_OWN),
        ]
    except ValueError as error:
        raise ConfigError(f"{root}: {error}") from error


def faults(config: Path, made: Sequence[Change], environment: Mapping[str, str]) -> list[Finding]:
    """The errors that `hearth check` would find with the changes and does not find without. Raises ConfigError."""
    root = config.parent
    with tempfile.TemporaryDirectory(prefix="hearth-add-") as name:
        copy = Path(name)
        for part in (*_READ, config.name):
            if (root / part).is_dir():
                shutil.copytree(root / part, copy / part)
            elif (root / part).exists():
                shutil.copy(root / part, copy / part)
        before = {(error.code, error.message) for error in _errors(copy / config.name, environment)}
        for change in made:
            file = copy / change.path.relative_to(root)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(change.after, encoding="utf-8")
        after = _errors(copy / config.name, environment)
    return [error for error in after if (error.code, error.message) not in before]


def write(made: Sequence[Change]) -> None:
    """All of them or none. All texts are on the disk before the first file is replaced, each in one step, and the two
    that include the others come last, so no reader finds a file named that is not there. Raises ConfigError, also when
    somebody has changed one of the files since it was read; then all are as they were."""
    with contextlib.ExitStack() as stack:
        staged = []
        for change in made:
            with _told(change.path):
                staged.append(stack.enter_context(_beside(change.path, change.after)))
        for change in made:
            if _text(change.path) != change.before:
                raise ConfigError(f"{change.path} was changed meanwhile, so nothing was written: run this again")
        with contextlib.ExitStack() as undo:
            for change, new in zip(made, staged, strict=True):
                undo.callback(_put_back, change)
                with _told(change.path):
                    new.replace(change.path)
            undo.pop_all()  # all are there


@contextlib.contextmanager
def _beside(path: Path, text: str) -> Iterator[Path]:
    """A file with this text in the directory of `path`, and the mode of what is there; gone at the end, unless it was
    renamed. A directory that was made for it and is empty then goes too."""
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644  # the containers read it too
    try:
        with staged(path, text, mode) as new:
            yield new
    finally:
        if made:
            with contextlib.suppress(OSError):  # not empty: what was written is there
                path.parent.rmdir()


def _put_back(change: Change) -> None:
    """Undo one change, as far as it was made."""
    if change.before is None:
        change.path.unlink(missing_ok=True)
    elif _text(change.path) != change.before:
        with _told(change.path), _beside(change.path, change.before) as old:
            old.replace(change.path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _included(path: Path, name: str) -> list[Change]:
    """The change that includes `name`; none when it is included."""
    text = _text(path)
    if text is None:
        raise ConfigError(f"{path} is not there: this is done in a directory such as Hearth's own")
    if any(line.strip().removeprefix("- ").strip("\"'") == name for line in text.splitlines()):
        return []
    return [Change(path, text, with_block(text, "include", [f"  - {name}"]))]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _errors(config: Path, environment: Mapping[str, str]) -> list[Finding]:
    return [finding for finding in run(config, None, environment, None).findings if finding.severity is Severity.ERROR]

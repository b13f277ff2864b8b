"""Volumes: weights and caches outlive the container, and what is mounted is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from router.check.codes import found
from router.check.compose_service import Service
from router.check.engine_command import SIMULATOR, VLLM, EngineCommand, Kind, find
from router.check.findings import Finding
from router.check.subject import Subject

_HOME = "/root"
#: What an engine compiles when it first starts, by the variable that moves it: where that is below the variable's
#: value, where it is without the variable, and the engine that has it if not all do.
_COMPILED = {
    "FLASHINFER_WORKSPACE_BASE": ("FlashInfer's kernels", ".cache/flashinfer", f"{_HOME}/.cache/flashinfer", None),
    "TRITON_CACHE_DIR": ("Triton's kernels", "", f"{_HOME}/.triton/cache", None),
    "VLLM_CACHE_ROOT": ("vLLM's compiled graphs", "", f"{_HOME}/.cache/vllm", VLLM),
}
#: Only where they are set.
_MOVED = {
    "TORCHINDUCTOR_CACHE_DIR": "TorchInductor's kernels",
    "TORCH_EXTENSIONS_DIR": "Torch's extensions",
    "CCACHE_DIR": "compiled objects",
}


def check(subject: Subject) -> Iterator[Finding]:
    """Mounts of all services, and what engines must keep."""
    compose = subject.compose
    if compose is None:
        return
    for service in compose.services.values():
        yield from _sources(service, compose.volumes, subject.root.resolve())
    users: dict[str, tuple[str, str]] = {}
    for service in subject.model_services:
        command = find(service.entrypoint, service.command)
        if command is None or command.kind is SIMULATOR:
            continue
        yield from _weights(service, command)
        yield from _caches(service, command.kind)
        yield from _shared(service, command.kind, users)


def _sources(service: Service, volumes: frozenset[str], root: Path) -> Iterator[Finding]:
    for mount in service.mounts:
        if mount.kind == "volume" and mount.source and mount.source not in volumes:
            yield found("volume-undeclared", service.at("volumes"), f"{service.name}: {mount.source}")
        # Elsewhere on the host is the host's business, and may be another machine's than this one.
        if (
            mount.kind == "bind"
            and mount.source
            and Path(mount.source).is_relative_to(root)
            and not Path(mount.source).exists()
        ):
            yield found("mount-source", service.at("volumes"), f"{service.name}: {mount.source} is not there")


def _weights(service: Service, command: EngineCommand) -> Iterator[Finding]:
    model = command.model or ""
    path = model if model.startswith("/") else command.value(command.kind.weights) or _hub(service.environment)
    if service.volume_of(path) is None:
        yield found(
            "weights-mount", service.at("volumes"), f"{service.name}: the weights go to {path}, which is on no volume"
        )


def _hub(environment: Mapping[str, str | None]) -> str:
    """Where Hugging Face's library puts weights when nobody tells it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := environment.get(name):
            return value
    return f"{environment.get('HF_HOME') or f'{_HOME}/.cache/huggingface'}/hub"


def compiled(environment: Mapping[str, str | None], kind: Kind) -> dict[str, str]:
    """By path, what an engine of this kind compiles into it."""
    paths = {}
    for variable, (what, below, default, owner) in _COMPILED.items():
        if owner not in (None, kind):
            continue
        base = environment.get(variable)
        paths[f"{base.rstrip('/')}/{below}".rstrip("/") if base else default] = what
    for variable, what in _MOVED.items():
        if value := environment.get(variable):
            paths[value] = what
    return paths


def _caches(service: Service, kind: Kind) -> Iterator[Finding]:
    lost = {path: what for path, what in compiled(service.environment, kind).items() if service.volume_of(path) is None}
    home = service.environment.get("HF_HOME") or f"{_HOME}/.cache/huggingface"
    if service.volume_of(home) is None:
        lost[home] = "what Hugging Face's library keeps"
    if lost:
        listed = ", ".join(f"{what} ({path})" for path, what in lost.items())
        yield found("cache-mount", service.at("volumes"), f"{service.name}: on no volume: {listed}")


def _shared(service: Service, kind: Kind, users: dict[str, tuple[str, str]]) -> Iterator[Finding]:
    """users: by volume, the first service that compiles into it, and its image."""
    mounts = [mount for path in compiled(service.environment, kind) if (mount := service.volume_of(path))]
    for source in dict.fromkeys(mount.source for mount in mounts if mount.source):
        owner, image = users.setdefault(source, (service.name, service.image or ""))
        if image != (service.image or ""):
            yield found("cache-shared", service.at("volumes"), f"{service.name} and {owner} compile into {source}")

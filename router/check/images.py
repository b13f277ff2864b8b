"""Images: those that are pulled are pinned, those that are built here have a Dockerfile and are never pulled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from router.check.codes import found
from router.check.compose_service import Service
from router.check.engine_command import find
from router.check.findings import Finding
from router.check.image_facts import Reference
from router.check.subject import BUILT, PULLED, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """The images of all services."""
    if subject.compose is None:
        return
    models = {service.name for service in subject.model_services}
    for service in subject.model_services:
        yield from _entrypoint(subject, service)
    for service in subject.compose.services.values():
        if service.build is not None:
            yield from _stanza(service)
        elif service.image is None:
            yield found("image-missing", service.place, f"{service.name} has no image")
        elif service.name in models and _built_here(service):
            yield from _built(subject, service, service.image)
        else:
            yield from _pulled(service, service.image)


def _entrypoint(subject: Subject, service: Service) -> Iterator[Finding]:
    command = service.command
    has = subject.facts.of(service.image).engine
    if has is not None and (started := find(service.entrypoint, command)) and started.kind.name != has:
        said = f"{service.name}: {service.image} has {has}, and the command starts {started.kind.name}"
        yield found("image-entrypoint", service.at("command"), said)
        return
    if service.entrypoint is not None or service.image is None or service.build is not None:
        return
    starts = subject.facts.of(service.image).entrypoint
    if command[:1] == ("serve",) and starts is None:
        yield found("image-entrypoint", service.at("command"), f"{service.name}: {service.image} does not start vllm")
    elif command[:2] == ("vllm", "serve") and starts is not None:
        yield found("image-entrypoint", service.at("command"), f"{service.name}: {service.image} starts vllm itself")


def _built_here(service: Service) -> bool:
    return service.pull_policy in ("never", "build") or BUILT in service.profiles


def _stanza(service: Service) -> Iterator[Finding]:
    build = service.build or {}
    file = Path(build["context"]) / str(build.get("dockerfile") or "Dockerfile")
    if "dockerfile_inline" not in build and "://" not in str(build["context"]) and not file.is_file():
        yield found("dockerfile-missing", service.at("build"), f"{service.name}: {file} is not there")


def _built(subject: Subject, service: Service, image: str) -> Iterator[Finding]:
    reference = Reference.parse(image)
    name = f"{reference.repository}:{reference.tag}" if reference.tag else reference.repository
    if not {name, reference.repository.rsplit("/", 1)[-1]} & subject.recipes:
        said = f"{service.name}: {image} is built here, and there is no Dockerfile for it"
        yield found("dockerfile-missing", service.at("image"), said)
    if PULLED in service.profiles:
        yield found("image-profile", service.at("profiles"), f"{service.name}: {image} is built here")
    if service.pull_policy not in ("never", "build"):
        yield found("pull-policy", service.at("image"), f"{service.name}: {image} is built here, and may be pulled")


def _pulled(service: Service, image: str) -> Iterator[Finding]:
    reference = Reference.parse(image)
    if reference.digest is None and reference.tag in (None, "latest"):
        yield found("image-unpinned", service.at("image"), f"{service.name}: {image}")

"""How a model's container is run: by whom it is started and stopped, what it may do, how its health is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from router.check.codes import found
from router.check.compose_service import Service
from router.check.findings import Finding
from router.check.subject import BUILT, DISABLED, PROFILES, PULLED, Engine, Subject
from router.quantities import format_duration

_URL = re.compile(r"https?://[^\s'\"\\)]+")
_LOOPBACK = ("127.", "::1", "localhost")


def check(subject: Subject) -> Iterator[Finding]:
    """All services, then those of models, then the times and health paths that the configuration has too."""
    compose = subject.compose
    if compose is not None:
        models = {service.name for service in subject.model_services}
        for service in compose.services.values():
            yield from _any_service(service, is_model=service.name in models)
        for service in subject.model_services:
            yield from _model_service(service)
        for missing, place in compose.missing.items():
            if missing.message is None:
                yield found("variable-unset", place, f"{missing.name} is not set")
            else:
                yield found("variable-required", place, f"{missing.name} is not set: it {missing.message}")
        for key, place in compose.repeated:
            yield found("repeated-key", place, f"{key} stands twice")
    for engine in subject.engines:
        yield from _engine(engine)


def _any_service(service: Service, *, is_model: bool) -> Iterator[Finding]:
    missing = []
    if "ALL" not in service.cap_drop:
        missing.append("cap_drop does not have ALL")
    if not any(
        option.startswith("no-new-privileges") and not option.endswith("false") for option in service.security_opt
    ):
        missing.append("security_opt does not have no-new-privileges:true")
    if service.privileged:
        missing.append("it is privileged")
    if service.host_namespaces:
        missing.append(f"it shares the host's {' and '.join(service.host_namespaces)}")
    if missing:
        yield found("hardening", service.place, f"{service.name}: {'; '.join(missing)}")
    if not service.rotates_log:
        yield found("log-size", service.at("logging"), f"{service.name}: nothing limits its log")
    if is_model and service.ports:
        yield found("published-port", service.at("ports"), f"{service.name} publishes {_ports(service)}")
    elif any(not port.host_ip.startswith(_LOOPBACK) for port in service.ports):
        yield found("open-port", service.at("ports"), f"{service.name} publishes {_ports(service)}")
    if service.name != "router" and any("docker.sock" in f"{mount.source} {mount.target}" for mount in service.mounts):
        yield found("docker-socket", service.at("volumes"), f"{service.name} has Docker's socket")


def _ports(service: Service) -> str:
    return ", ".join(f"{port.host_ip or '*'}:{port.published or 'any'}" for port in service.ports)


def _model_service(service: Service) -> Iterator[Finding]:
    if len(service.profiles) != 1 or service.profiles[0] not in PROFILES:
        has = ", ".join(service.profiles) or "none"
        yield found("profile", service.at("profiles"), f"{service.name} has the profiles: {has}")
    if service.restart != "no":
        yield found("restart", service.at("restart"), f"{service.name}: restart is {service.restart}")
    if not service.gpu:
        yield found("gpu-missing", service.at("deploy"), f"{service.name} reserves no GPU")
    if not service.init:
        yield found("init", service.at("init"), f"{service.name} has no init process")
    if not service.healthcheck.test:
        yield found("health-check", service.at("healthcheck"), f"{service.name} has no health check")


def _engine(engine: Engine) -> Iterator[Finding]:
    spec, service, command = engine.spec, engine.service, engine.command
    if 0 < spec.idle_timeout < spec.stop_timeout:
        idle, stop = format_duration(spec.idle_timeout), format_duration(spec.stop_timeout)
        where = engine.at("model_info", "lifecycle", "idle_timeout")
        yield found("idle-timeout", where, f"{spec.name}: idle_timeout is {idle}, stop_timeout {stop}")
    if command is None:
        if service is not None or spec.command:
            yield found("unknown-engine", engine.in_service("command"), f"{spec.name}: no known engine in the command")
    else:
        path = urlsplit(spec.health_url).path
        if path not in command.kind.health_paths:
            where = engine.at("model_info", "lifecycle", "health_path")
            yield found("health-path", where, f"{spec.name}: {command.kind.name} does not answer {path}")
    if service is not None:
        yield from _profile_of(engine, service)
        yield from _health(engine, service)
        if service.stop_grace_period < spec.stop_timeout:
            has, wants = format_duration(service.stop_grace_period), format_duration(spec.stop_timeout)
            where = service.at("stop_grace_period")
            yield found("stop-grace", where, f"{service.name}: stop_grace_period is {has}, stop_timeout {wants}")


def _profile_of(engine: Engine, service: Service) -> Iterator[Finding]:
    disabled = DISABLED in service.profiles
    if disabled and not engine.disabled:
        where = engine.at("model_info", "catalogue")
        yield found(
            "disabled-profile",
            where,
            f"{engine.spec.name}: its container has the profile {DISABLED}, and no reason is given",
        )
    if engine.disabled and {PULLED, BUILT} & set(service.profiles):
        yield found(
            "disabled-profile",
            service.at("profiles"),
            f"{engine.spec.name} is disabled ({engine.disabled}), but its profile is {service.profiles[0]}",
        )


def _health(engine: Engine, service: Service) -> Iterator[Finding]:
    test = service.healthcheck.test
    if not test:
        return
    command = engine.command
    address = _URL.search(" ".join(test))
    if command is not None and address is not None:
        asked = urlsplit(address[0])
        if asked.path not in command.kind.health_paths or str(asked.port or 80) != command.port:
            yield found(
                "health-path",
                service.at("healthcheck"),
                f"{service.name}: the check asks {address[0]}; {command.kind.name} listens on port {command.port}",
            )
    period, limit = service.healthcheck.start_period, engine.spec.start_timeout
    said = f"start_period is {format_duration(period)}, start_timeout {format_duration(limit)}"
    if period < limit:
        yield found("start-period", service.at("healthcheck"), f"{service.name}: {said}")
    elif period > limit:
        yield found(
            "start-timeout", engine.at("model_info", "lifecycle", "start_timeout"), f"{engine.spec.name}: {said}"
        )

"""The configuration against Compose: does each model have its container, and do both mean the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from router.check.codes import found
from router.check.compose_service import Service
from router.check.findings import Finding
from router.check.subject import Engine, Subject

#: Who calls engines.
_CALLERS = ("gateway", "router")
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_MULTIPLES = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20}


def check(subject: Subject) -> Iterator[Finding]:
    """Names, addresses and limits that two files have to agree on."""
    compose = subject.compose
    if compose is not None:
        for name, place in compose.twice:
            yield found("service-twice", place, f"service {name} is in another file too")
        yield from _shared_container_names(list(compose.services.values()))
    for engine in subject.engines:
        if compose is not None and engine.spec.container is not None:
            yield from _container(engine)
            yield from _address(subject, engine)
        yield from _same_model(engine)
    if subject.config is not None:
        known = {engine.service.name for engine in subject.engines if engine.service}
        for service in subject.model_services:
            if service.name not in known:
                yield found(
                    "model-missing", service.place, f"no model in the configuration has the container of {service.name}"
                )


def _shared_container_names(services: list[Service]) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for service in services:
        name = service.container_name
        if name is not None and (owner := owners.setdefault(name, service.name)) != service.name:
            yield found(
                "duplicate-container",
                service.at("container_name"),
                f"services {owner} and {service.name} have the same container_name {name}",
            )


def _container(engine: Engine) -> Iterator[Finding]:
    service, container = engine.service, engine.spec.container
    if service is None:
        where = engine.at("model_info", "lifecycle", "container")
        yield found("container-missing", where, f"{engine.spec.name}: no service has the container {container}")
    elif service.container_name != container:
        has = f"container_name {service.container_name}" if service.container_name else "no container_name"
        yield found(
            "container-name", service.at("container_name"), f"service {service.name} has {has}, not {container}"
        )


def _address(subject: Subject, engine: Engine) -> Iterator[Finding]:
    service, compose = engine.service, subject.compose
    if service is None or compose is None:
        return
    callers = [caller for name in _CALLERS if (caller := compose.services.get(name))]
    shared = set(service.networks)
    for caller in callers:
        if not service.networks.keys() & caller.networks.keys():
            yield found(
                "network", service.at("networks"), f"{service.name} is on no network of the service {caller.name}"
            )
        shared &= caller.networks.keys()
    host = urlsplit(engine.spec.api_base).hostname or ""
    aliases = {alias for network in shared for alias in service.networks[network]}
    names = {service.name, service.container_name or service.name, *aliases}
    if host not in {name.lower() for name in names}:
        where = engine.at("litellm_params", "api_base")
        yield found("address-host", where, f"{engine.spec.name}: {host} is not {' or '.join(sorted(names))}")


def _same_model(engine: Engine) -> Iterator[Finding]:
    command, spec = engine.command, engine.spec
    if command is None:
        return
    address = urlsplit(spec.api_base)
    port = str(address.port or (443 if address.scheme == "https" else 80))
    if port != command.port:
        where = engine.at("litellm_params", "api_base")
        yield found(
            "address-port", where, f"{spec.name}: the address has port {port}, the engine listens on {command.port}"
        )
    asked = str(engine.entry.get("litellm_params", {}).get("model") or "").partition("/")[2]
    if asked not in command.served_names:
        serves = " and ".join(command.served_names) or "nothing by name"
        where = engine.at("litellm_params", "model")
        yield found("served-name", where, f"{spec.name}: LiteLLM asks for {asked}, the engine serves {serves}")
    weights, model = (engine.info.get("catalogue") or {}).get("weights"), command.model
    if weights and model and weights != model and not model.startswith("/"):
        where = engine.at("model_info", "catalogue", "weights")
        yield found("weights-name", where, f"{spec.name}: the engine loads {model}, not {weights}")
    lacking = sorted(command.kind.tools - set(command.names))
    if engine.info.get("supports_function_calling") is True and lacking:
        where = engine.at("model_info", "supports_function_calling")
        yield found("tool-calls", where, f"{spec.name}: the command has no {' and no '.join(lacking)}")
    yield from _context(engine)


def _context(engine: Engine) -> Iterator[Finding]:
    """Tokens that clients may use, against those that the engine takes; one that finds out itself says nothing."""
    assert engine.command is not None  # noqa: S101
    text = engine.command.value(engine.command.kind.context)
    taken = tokens(text) if text else None
    if taken is None:
        return
    name, rules = engine.spec.name, engine.info.get("request_rules") or {}
    own = rules.get("context_length")
    promised = own or engine.info.get("max_input_tokens")
    key = ("request_rules", "context_length") if own else ("max_input_tokens",)
    where = engine.at("model_info", *key)
    if not isinstance(promised, int) or isinstance(promised, bool):
        yield found(
            "context-unknown", where, f"{name}: the engine takes {taken} tokens, the configuration says nothing"
        )
    elif promised > taken:
        yield found("context-length", where, f"{name}: {promised} tokens, the engine takes {taken}")
    elif promised < taken and not own:
        yield found("context-unused", where, f"{name}: {promised} tokens, the engine takes {taken}")


def tokens(text: str) -> int | None:
    """A number as vLLM reads it, such as 131072, 128k (thousands) or 128K (of 1024); None for auto and the like."""
    match = _TOKENS.fullmatch(text.strip())
    return int(float(match[1]) * _MULTIPLES[match[2]]) if match else None

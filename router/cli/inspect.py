"""`hearth inspect`: everything that is known of one model, from the configuration, the server and Docker."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import docker
import requests.exceptions
import typer
import yaml
from docker.errors import DockerException, NotFound
from docker.utils import kwargs_from_env
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.api.views import ModelView
from router.catalogue import Card
from router.check.subject import Engine, gather
from router.cli.options import CONFIG_FILE, ConfigFile, Model, Url, access_to
from router.cli.server import Access, Server, ServerError
from router.errors import ConfigError
from router.quantities import format_duration, format_size
from router.store.state import Phase

_LOG_LINES = 20
#: Seconds that Docker has to answer.
_DOCKER_LIMIT = 3


@dataclass(slots=True)
class Known:
    """What was found out of one model. missing: by source, why it says nothing. log: an engine's last lines."""

    name: str
    engine: Engine | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    card: Card | None = None
    state: ModelView | None = None
    now: float = 0.0
    log: list[str] = field(default_factory=list)
    container: Mapping[str, Any] | None = None
    missing: dict[str, str] = field(default_factory=dict)


def inspect(
    model: Model,
    url: Url = None,
    config: ConfigFile = CONFIG_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Everything known of one model: configuration, catalogue, what it costs, what it does, its container, its log.

    Each source that cannot be asked is named. Exit code 1 when none knows the model.
    """
    known = Known(model)
    _read_configuration(known, config)
    asyncio.run(_ask_server(known, access_to(url)))
    if known.engine is None and known.card is None and known.state is None:
        for reason in known.missing.values():
            typer.echo(reason, err=True)
        raise typer.Exit(1)
    _ask_docker(known)
    if as_json:
        typer.echo(json.dumps(as_object(known), indent=2))
    else:
        Console(soft_wrap=True).print(shown(known))


def _read_configuration(known: Known, path: Path) -> None:
    try:
        subject = gather(path, None, os.environ)
    except ConfigError as error:
        known.missing["configuration"] = str(error)
        return
    if subject.config is None:
        known.missing["configuration"] = f"{path} has faults: `hearth check` names them"
        return
    known.engine = next((engine for engine in subject.engines if engine.spec.name == known.name), None)
    if known.engine is None:
        known.missing["configuration"] = f"{path} has no model {known.name!r} with a lifecycle"
        return
    known.card = subject.config.cards.get(known.name)
    rules = subject.config.rules.get(known.name)
    known.rules = {} if rules is None else rules.model_dump(mode="json", exclude_defaults=True)


async def _ask_server(known: Known, access: Access) -> None:
    try:
        async with Server(access) as server:
            views = await server.models()
            known.now = views.now
            known.state = next((view for view in views.models if view.name == known.name), None)
            cards = {card.name: card for card in (await server.catalogue()).cards}
            known.card = cards.get(known.name, known.card)
            if known.state is None:
                names = ", ".join(view.name for view in views.models) or "none"
                known.missing["server"] = f"The server serves no model {known.name!r}; it serves: {names}."
                return
            known.log = known.state.log
            if not known.log:
                known.log = (await server.logs(known.name, _LOG_LINES)).splitlines()
    except ServerError as error:  # what came before it stays
        known.missing["log" if known.state else "server"] = str(error)


def _ask_docker(known: Known) -> None:
    name = known.engine.spec.container if known.engine else None
    if name is None:
        return
    try:
        client = docker.APIClient(timeout=_DOCKER_LIMIT, **kwargs_from_env())
        try:
            known.container = client.inspect_container(name)
        finally:
            client.close()
    except NotFound:
        known.missing["container"] = f"Docker has no container {name}{_how_to_create(known.engine)}"
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        known.missing["container"] = f"Docker cannot be asked: {type(error).__name__}"


def _how_to_create(engine: Engine | None) -> str:
    service = engine.service if engine else None
    if service is None or not service.profiles:
        return ""
    return f": docker compose --profile {service.profiles[0]} create {service.name}"


def as_object(known: Known) -> dict[str, Any]:
    """All of it as plain data. Of an engine's environment the names only: tokens are kept there."""
    engine, plain = known.engine, dict[str, Any]()
    if engine is not None:
        spec = engine.spec.model_dump(mode="json") | {"environment": sorted(engine.spec.environment)}
        service = engine.service
        plain["configuration"] = spec | {"request_rules": dict(known.rules)}
        if service is not None:
            plain["compose"] = {
                "service": service.name,
                "file": str(service.place),
                "image": service.image,
                "profiles": list(service.profiles),
                "command": list(service.command),
                "environment": sorted(service.environment),
            }
    return {
        "model": known.name,
        **plain,
        "catalogue": known.card.model_dump(mode="json") if known.card else None,
        "server": known.state.model_dump(mode="json", exclude={"log"}) if known.state else None,
        "container": _container(known.container) if known.container is not None else None,
        "log": known.log,
        "missing": known.missing,
    }


def _container(found: Mapping[str, Any]) -> dict[str, Any]:
    state = found.get("State") or {}
    return {
        "name": str(found.get("Name", "")).removeprefix("/"),
        "id": str(found.get("Id", ""))[:12],
        "image": (found.get("Config") or {}).get("Image"),
        "state": state.get("Status"),
        "exit_code": state.get("ExitCode"),
        "out_of_memory": state.get("OOMKilled"),
        "started": state.get("StartedAt"),
        "finished": state.get("FinishedAt"),
    }


def shown(known: Known) -> RenderableType:
    """The same for people; what nobody knows is left out."""
    parts: list[RenderableType] = []
    sections = {
        "catalogue": _catalogue_rows(known.card),
        "configuration": _configuration_rows(known),
        "now": _state_rows(known),
        "container": _container_rows(known),
    }
    for title, rows in sections.items():
        if any(value for _, value in rows):
            parts += [Text(title.upper(), "bold"), _grid(rows)]
    if known.log:
        parts += [Text("LAST LINES OF THE ENGINE", "bold"), *(Text(f"  {line}", "dim") for line in known.log)]
    parts += [Text(f"{source}: {reason}", "yellow") for source, reason in known.missing.items()]
    return Group(*parts)


Rows = list[tuple[str, str]]


def _catalogue_rows(card: Card | None) -> Rows:
    if card is None:
        return []
    catalogue = card.catalogue
    can = [word for word in ("tools", "vision", "reasoning") if getattr(card, word)]
    return [
        ("model", card.name),
        ("family", catalogue.family),
        ("status", str(catalogue.status) + (f": {catalogue.disabled}" if catalogue.disabled else "")),
        ("weights", ", ".join(filter(None, (catalogue.weights, catalogue.quantization)))),
        ("context", "" if card.context is None else f"{card.context:,} tokens"),
        ("answer", "" if card.output is None else f"{card.output:,} tokens at most"),
        ("can", ", ".join(can)),
        ("good for", ", ".join(catalogue.good_for)),
        *(("problem", f"{it.client}: {it.problem}; instead: {it.instead}") for it in catalogue.known_problems),
        ("notes", catalogue.notes),
    ]


def _configuration_rows(known: Known) -> Rows:
    if known.engine is None:
        return []
    spec, service = known.engine.spec, known.engine.service
    rows = [
        ("role", f"{spec.role}, on GPU {', '.join(spec.gpus)}, claims {format_size(spec.memory)}"),
        ("idle after", format_duration(spec.idle_timeout) if spec.idle_timeout else "never"),
        ("limits", f"start {format_duration(spec.start_timeout)}, stop {format_duration(spec.stop_timeout)}, "
                   f"drain {format_duration(spec.drain_timeout)}"),
        ("address", spec.api_base),
        ("rules", _in_line(known.rules)),
    ]  # fmt: skip
    if service is not None:
        rows += [
            ("service", f"{service.name}, {service.place}, in {', '.join(service.profiles) or 'no profile'}"),
            ("image", service.image or ""),
            ("command", " ".join(service.command)),
        ]
    elif spec.command:
        rows.append(("command", " ".join(spec.command)))
    return rows


def _in_line(rules: Mapping[str, Any]) -> str:
    """As they would stand in the configuration."""
    return yaml.safe_dump(dict(rules), default_flow_style=True, sort_keys=False, width=math.inf).strip()[1:-1]


def _state_rows(known: Known) -> Rows:
    state = known.state
    if state is None:
        return []
    for_long = max(0.0, known.now - state.since)
    took = [("load", state.load_seconds), ("stop", state.unload_seconds), ("answer", state.service_seconds)]
    costs = [f"{word} {format_duration(value)}" for word, value in took if value is not None]
    failure = ""
    if state.error:
        again = f"; may be tried again in {format_duration(state.retry_at - known.now)}" if state.retry_at else ""
        failure = f"{state.error} ({state.failures} in a row{again})"
    return [
        ("phase", f"{state.phase} for {format_duration(for_long)}" if state.since else str(state.phase)),
        ("requests", f"{state.in_flight} running, {state.waiting} waiting"),
        ("pinned", "yes" if state.pinned else ""),
        ("learned", ", ".join(costs)),
        ("takes", _memory(state)),
        ("failed" if state.phase is Phase.FAILED else "last failure", failure),
    ]


def _memory(state: ModelView) -> str:
    if state.measured_memory is None:
        return ""
    return f"{format_size(state.measured_memory)} measured, {format_size(state.memory)} declared: {state.declaration}"


def _container_rows(known: Known) -> Rows:
    if known.container is None:
        return []
    found = _container(known.container)
    ended = f", exit code {found['exit_code']}" if found["state"] == "exited" else ""
    memory = ", killed for want of memory" if found["out_of_memory"] else ""
    return [
        ("container", f"{found['name']} ({found['id']})"),
        ("state", f"{found['state']}{ended}{memory}"),
        ("image", str(found["image"] or "")),
        ("started", _moment(found["started"])),
    ]


def _moment(text: object) -> str:
    """Docker's time in short; empty for the year 1, which stands for never."""
    said = str(text or "")
    return "" if said.startswith("0001") else said.partition(".")[0].replace("T", " ")


def _grid(rows: Rows) -> Table:
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(overflow="fold")
    for label, value in rows:
        if value:
            grid.add_row(label, Text(value))
    return grid

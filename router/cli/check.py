"""`hearth check`: what was found, as a table for people or as JSON, and the exit code."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.check.findings import Finding, Severity, count
from router.check.run import Outcome, run
from router.check.vllm_parser import ParserUnavailable
from router.cli.options import CONFIG_FILE, ConfigFile
from router.errors import ConfigError

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.HINT: "dim"}


def check(
    config: ConfigFile = CONFIG_FILE,
    compose: Annotated[
        Path | None,
        typer.Option(
            "--compose", metavar="FILE", help="Without it docker-compose.yml beside the configuration, if any."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail it too.")] = False,
    vllm: Annotated[
        str | None,
        typer.Option(
            "--vllm",
            metavar="PYTHON",
            envvar="HEARTH_VLLM_PYTHON",
            help="A Python that has vLLM: its parser checks the engines' options. Without it, this one's vLLM, if any.",
        ),
    ] = None,
) -> None:
    """Hold the configuration against Compose's files, images and engines, before anything starts.

    Exit codes: 0 no errors, 1 errors, 2 a file cannot be read. docs/check.md has what each finding means.
    """
    if vllm is None and any(importlib.metadata.distributions(name="vllm")):
        vllm = sys.executable
    try:
        outcome = run(config, compose, os.environ, vllm)
    except (ConfigError, ParserUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(_as_object(outcome), indent=2))
    else:
        Console().print(report(outcome))
    errors, warnings = count(outcome.findings, Severity.ERROR), count(outcome.findings, Severity.WARNING)
    raise typer.Exit(int(errors > 0 or (strict and warnings > 0)))


def _as_object(outcome: Outcome) -> dict[str, object]:
    return {
        **{f"{severity}s": count(outcome.findings, severity) for severity in Severity},
        "models": outcome.models,
        "services": outcome.services,
        "compose": str(outcome.compose) if outcome.compose else None,
        "vllm": outcome.vllm,
        "findings": [dataclasses.asdict(finding) for finding in outcome.findings],
    }


def report(outcome: Outcome) -> RenderableType:
    """Tables by severity, and one line that sums up."""
    parts: list[RenderableType] = []
    for severity in Severity:
        ours = [finding for finding in outcome.findings if finding.severity is severity]
        if ours:
            parts.append(_table(severity, ours))
    return Group(*parts, _summary(outcome))


def _table(severity: Severity, findings: Sequence[Finding]) -> Table:
    """What to do is said once for findings of one kind."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
    table.title = f"{len(findings)} {severity}{'s' if len(findings) > 1 else ''}"
    table.title_style = _STYLES[severity]
    table.add_column("WHAT", no_wrap=True)
    table.add_column("WHERE AND WHY", overflow="fold")
    for (code, action), alike in itertools.groupby(findings, key=lambda finding: (finding.code, finding.action)):
        first = Text(code, _STYLES[severity])
        for finding in alike:
            table.add_row(first, Text.assemble((finding.where, "cyan"), "\n", finding.message))
            first = Text()
        table.add_row(first, Text(f"-> {action}\n", "dim"))
    return table


def _summary(outcome: Outcome) -> Text:
    counts = [(count(outcome.findings, severity), severity) for severity in Severity]
    said = ", ".join(f"{number} {severity}{'' if number == 1 else 's'}" for number, severity in counts)
    parts = [f"{outcome.models} models"]
    parts.append(f"{outcome.services} services of {outcome.compose}" if outcome.compose else "no Compose file")
    checked = (
        f"options held against vLLM {outcome.vllm}" if outcome.vllm else "vLLM's options not checked (--vllm PYTHON)"
    )
    parts.append(checked)
    worst = next((severity for number, severity in counts if number), None)
    return Text(f"{said}. {'; '.join(parts)}.", _STYLES.get(worst, "green") if worst else "green")

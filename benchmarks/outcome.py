"""What a benchmark found: rows with their goals, where it ran, and the raw samples. Kept as JSON, shown as a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One number. goal: for people, empty when there is none. met: None when there is no goal."""

    name: str
    value: str
    goal: str = ""
    met: bool | None = None

    @classmethod
    def at_most(cls, name: str, value: float, goal: float, unit: str, note: str = "") -> Self:
        return cls(name, _text(value, unit) + note, f"at most {_text(goal, unit)}", value <= goal)

    @classmethod
    def at_least(cls, name: str, value: float, goal: float, unit: str, note: str = "") -> Self:
        return cls(name, _text(value, unit) + note, f"at least {_text(goal, unit)}", value >= goal)

    @classmethod
    def no_more(cls, name: str, value: int, goal: int) -> Self:
        return cls(name, str(value), f"at most {goal}", value <= goal)

    @classmethod
    def exactly(cls, name: str, value: int, goal: int) -> Self:
        return cls(name, str(value), str(goal), value == goal)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All rows of one run. raw: samples and settings, for whoever wants to look again."""

    name: str
    rows: list[Row]
    raw: dict[str, Any]
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))
    environment: str = field(default_factory=lambda: describe_environment())  # noqa: PLW0108 - defined below

    @classmethod
    def read(cls, path: Path) -> Self:
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**found, "rows": [Row(**row) for row in found["rows"]]})

    @property
    def met(self) -> bool:
        return all(row.met is not False for row in self.rows)

    def publish(self, out: Path) -> int:
        """Write the JSON, print the table. Returns the exit code: 1 when a goal is missed."""
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        table = Table(title=f"{self.name}: {self.date}", caption=self.environment)
        for column in ("what", "measured", "goal", ""):
            table.add_column(column)
        marks = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}
        for row in self.rows:
            table.add_row(row.name, row.value, row.goal, marks[row.met])
        Console().print(table)
        return 0 if self.met else 1


def options(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="where the JSON goes")
    return parser


def describe_environment() -> str:
    """The machine and the versions in one line."""
    cores = os.cpu_count()
    parts = [
        f"{cores} cores ({_processor()})",
        f"load {os.getloadavg()[0]:.1f} at the end",
        f"Linux {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
        f"LiteLLM {version('litellm')}",
        f"Docker Engine {_docker()}",
    ]
    return ", ".join(parts)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _docker() -> str:
    command: Sequence[str] = ("docker", "version", "--format", "{{.Server.Version}}")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "not there"
    return found.stdout.strip()


def _text(value: float, unit: str) -> str:
    digits = 3 if not unit else 0 if abs(value) >= 10 else 1
    return f"{value:.{digits}f}" + (f" {unit}" if unit else "")

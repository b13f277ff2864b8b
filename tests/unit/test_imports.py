"""Imports point one way, as docs/architecture.md says, and what is said to be pure imports nothing that is not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What has a clock, chance, or an outside.
IMPURE = {"asyncio", "datetime", "httpx", "logging", "os", "random", "redis", "secrets", "socket", "subprocess", "time"}


def imported(pattern: str) -> dict[str, set[str]]:
    """By file, the modules that it imports, at its top and inside functions."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.glob(pattern)):
        names = found[str(path.relative_to(ROOT))] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert found, f"nothing matches {pattern}"
    return found


def reached(pattern: str) -> set[str]:
    """All modules that are imported by what matches, or by modules of ours that it imports."""
    found: set[str] = set()
    due = list(imported(pattern).values())
    while due:
        for name in due.pop() - found:
            found.add(name)
            path = f"{name.replace('.', '/')}.py"
            if below(name, "router", "plugins") and (ROOT / path).is_file():
                due.extend(imported(path).values())
    return found


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(("pattern", "never"), [
    ("router/**/*.py", ("litellm", "plugins")),
    ("plugins/**/*.py", ("docker", "router.controller", "router.runtimes", "router.operations")),
    ("router/controller.py", ("router.runtimes.docker", "router.runtimes.process", "docker")),
    ("router/operations.py", ("router.runtimes.docker", "router.runtimes.process", "docker")),
])  # fmt: skip
def test_what_is_never_imported(pattern: str, never: tuple[str, ...]) -> None:
    for path, names in imported(pattern).items():
        assert not [name for name in names if below(name, *never)], path


@pytest.mark.parametrize("pattern", ["plugins/**/*.py", "router/cli/*.py"])
def test_who_asks_the_router_does_not_load_it(pattern: str) -> None:
    found = reached(pattern)
    assert "router.api.protocol" in found
    assert not found & {"router.controller", "router.operations", "router.runtimes.docker", "router.api.access"}


def test_the_store_imports_nothing_of_ours_but_the_errors() -> None:
    for path, names in imported("router/store/*.py").items():
        ours = {name for name in names if below(name, "router")}
        assert all(below(name, "router.store", "router.errors") for name in ours), path


@pytest.mark.parametrize("pattern", ["router/scheduling/*.py", "router/scheduler.py", "router/memory/release.py"])
def test_decisions_are_pure(pattern: str) -> None:
    for path, names in imported(pattern).items():
        assert not {name.partition(".")[0] for name in names} & IMPURE, path

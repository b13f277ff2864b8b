"""The clients' programs, each run in a home of its own, with a way to the gateway and to nowhere else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "clients"

#: A port on which nobody listens: whatever a program tries beside the gateway ends there at once.
_NOWHERE = "http://127.0.0.1:9"
#: Nothing is fetched, and nobody is told.
QUIET = {
    "npm_config_offline": "true",
    "npm_config_registry": _NOWHERE,
    "HTTP_PROXY": _NOWHERE,
    "HTTPS_PROXY": _NOWHERE,
    "NO_PROXY": "127.0.0.1,localhost",
    "DO_NOT_TRACK": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "CLINE_NO_INTERACTIVE": "1",
}


def reason_without_clients() -> str:
    """Why the programs cannot be run here; empty when they can."""
    if not os.environ.get("HEARTH_TEST_CLIENTS"):
        return "there are no clients from npm here (tests/environment/clients fetches them)"
    return "" if shutil.which("curl") else "there is no curl here"


@dataclass(frozen=True)
class Ended:
    """What a program wrote, and its exit code."""

    code: int
    out: str
    err: str

    def require_success(self) -> Ended:
        assert self.code == 0, f"exit code {self.code}\n{self.out[-3000:]}\n{self.err[-3000:]}"
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its output where that is a JSON object a line; other lines are left out."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def result(self) -> dict[str, Any]:
        """Cline's last word on a run."""
        found = [event for event in self.events if event["type"] == "run_result"]
        assert len(found) == 1, f"{self.out[-3000:]}\n{self.err[-3000:]}"
        return found[0]


class Home:
    """Somebody's home directory, with a key and a folder to work in."""

    def __init__(self, path: Path, url: str, key: str) -> None:
        self.path, self.work, self.secret = path, path / "work", key
        self.work.mkdir(parents=True)
        packages = Path(os.environ.get("HEARTH_TEST_CLIENTS", "missing"))
        self._modules = packages / "node_modules"
        self._node = str(packages / "bin" / "node")
        self._environment = QUIET | {
            "PATH": os.environ["PATH"],
            "HOME": str(path),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "HEARTH_URL": url,
            "HEARTH_API_KEY": key,
        }

    async def hearth(self, *words: str) -> Ended:
        """A command of Hearth's own."""
        return await self._run([sys.executable, "-m", "router.cli.main", *words])

    async def sdk_environment(self) -> dict[str, str]:
        """What `hearth client env` tells a shell."""
        shell = 'set -e; lines=$("$0" -m router.cli.main client env); eval "$lines"; env -0'
        ended = (await self._run(["bash", "-c", shell, sys.executable])).require_success()
        pairs = dict(line.split("=", 1) for line in ended.out.split("\0") if "=" in line)
        return {name: pairs[name] for name in pairs if name.startswith(("OPENAI_", "ANTHROPIC_"))}

    async def example(self, name: str, *words: str, environment: Mapping[str, str]) -> Ended:
        """One of examples/clients, by the program that its ending calls for."""
        path = EXAMPLES / name
        if path.suffix == ".mjs":  # Node looks for packages beside the file
            path = self.work / name
            shutil.copy(EXAMPLES / name, path)
            self._link_modules()
        program = {".py": sys.executable, ".mjs": self._node, ".sh": "bash"}[path.suffix]
        return await self._run([program, str(path), *words], environment)

    async def node(self, name: str, code: str, environment: Mapping[str, str]) -> Ended:
        """A module's text, with the packages at hand."""
        path = self.work / f"{name}.mjs"
        path.write_text(code)
        self._link_modules()
        return await self._run([self._node, str(path)], environment)

    async def opencode(self, *words: str) -> Ended:
        program = self._modules / "opencode-linux-x64-baseline" / "bin" / "opencode"
        return await self._run([str(program), "run", "--format", "json", *words])

    async def cline(self, *words: str) -> Ended:
        # named, the directory keeps Cline from leaving its work to a daemon
        data = str(self.path / ".cline" / "data")
        program = self._modules / "@cline" / "cli-linux-x64" / "bin" / "cline"
        return await self._run([str(program), "--data-dir", data, "--json", *words])

    def _link_modules(self) -> None:
        modules = self.work / "node_modules"
        if not modules.exists():
            modules.symlink_to(self._modules)

    async def _run(self, command: list[str], environment: Mapping[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.work,
            env=self._environment | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ended(process.returncode or 0, out.decode(), err.decode())

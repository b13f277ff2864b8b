"""The shipped Compose files as a test uses them: under a project of its own, on test images, on a free port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MASTER_KEY = "sk-compose-test"
#: Variables of the shell that runs the tests must not change what is tested.
_OURS = (
    "HEARTH_",
    "HF_",
    "LITELLM_",
    "COMPOSE_",
    "DOCKER_DEFAULT",
    "GEMMA",
    "GLM_",
    "GPT_",
    "HUIHUI_",
    "JACKRONG_",
    "QWEN",
)


@dataclass
class Composition:
    """`docker compose` on the repository's docker-compose.yml."""

    project: str = "hearth-test-config"
    variables: dict[str, str] = field(default_factory=dict)
    overrides: list[Path] = field(default_factory=list)

    def run(self, *arguments: str, limit: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command. Raises AssertionError with its output when it fails."""
        files = [ROOT / "docker-compose.yml", *self.overrides]
        command = ["docker", "compose", "--project-name", self.project, "--env-file", "/dev/null"]
        command += ["--ansi", "never", *(part for file in files for part in ("--file", str(file))), *arguments]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        done = subprocess.run(
            command,
            env=kept | {"LITELLM_MASTER_KEY": MASTER_KEY} | self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(arguments)}: status {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done

    def config(self) -> dict[str, Any]:
        """The whole model, all profiles, with variables and defaults filled in."""
        document: dict[str, Any] = json.loads(self.run("--profile", "*", "config", "--format", "json").stdout)
        return document

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker says of each of the project's containers, by service."""
        listed = docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"
        ).split()
        inspected = json.loads(docker("inspect", *listed)) if listed else []
        return {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in inspected}


def docker(*arguments: str, limit: float = 60) -> str:
    """The output of one docker command. Raises AssertionError when it fails."""
    command: Sequence[str] = ("docker", *arguments)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def reason_without_compose() -> str:
    """Why `docker compose` cannot be used here; empty when it can."""
    if shutil.which("docker") is None:
        return "no docker command"
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else "docker has no compose plugin"


def reason_without_images() -> str:
    """Why containers cannot be built and run here; empty when they can."""
    if reason := reason_without_compose():
        return reason
    kinds = ("LLAMA", "PYTHON", "REDIS", "WHEELS")
    if missing := [name for kind in kinds if not os.environ.get(name := f"HEARTH_TEST_{kind}_IMAGE")]:
        return f"{', '.join(missing)} not set; tests/environment/prepare makes them"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else "no Docker engine answers"


def reason_without_remote() -> str:
    """Why OpenSSH's server and Caddy cannot be run here; empty when they can."""
    if os.environ.get("HEARTH_TEST_REMOTE_IMAGE"):
        return reason_without_images()
    return "HEARTH_TEST_REMOTE_IMAGE not set; tests/environment/prepare makes it"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

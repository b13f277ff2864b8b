"""`docker compose up -d` on the shipped files, for real: built, started, and one model woken through the gateway.

Only the base images, the port and, for one model, the engine are exchanged: llama-server answers in its container.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from composition import MASTER_KEY, ROOT, Composition, docker, free_port, reason_without_images

from router.config import load

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]

WOKEN = "qwen3-coder-30b-a3b-instruct"
NEVER_STARTED = "0001-01-01T00:00:00Z"
CONTROL = {"gateway", "router", "redis"}


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The project before `up`, its images built and its models created. Everything is removed in the end."""
    if reason := reason_without_images():
        pytest.skip(reason)
    images = {kind: os.environ[f"HEARTH_TEST_{kind}_IMAGE"] for kind in ("LLAMA", "PYTHON", "REDIS", "WHEELS")}
    models = {model.container for model in load(ROOT / "litellm_config.yaml").models.values() if model.container}
    for name in models:
        existing = docker("ps", "--all", "--quiet", "--filter", f"name=^/{re.escape(name)}$")
        assert not existing.strip(), f"there is a container {name} already, which this test must not touch"
    variables = {f"HEARTH_{kind}_IMAGE": images[kind] for kind in ("PYTHON", "REDIS", "WHEELS")}
    bases = (ROOT / "compose/engine.yml").read_text(encoding="utf-8")
    variables |= dict.fromkeys(re.findall("HEARTH_IMAGE_[A-Z0-9_]+", bases), images["LLAMA"])
    composed = Composition(
        project=f"hearth-test-{secrets.token_hex(4)}",
        variables=variables | {"HEARTH_PORT": str(free_port())},
        overrides=[_llama_instead(tmp_path_factory.mktemp("override"))],
    )
    try:
        composed.run("build", limit=300)
        composed.run("--profile", "models", "create", limit=60)
        yield composed
    finally:
        composed.run("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "10", limit=120, check=False)


def _llama_instead(directory: Path) -> Path:
    """An override that runs llama-server, without a GPU, in the container of the model to wake."""
    file = directory / "llama.yml"
    container = load(ROOT / "litellm_config.yaml").models[WOKEN].container
    gguf = Path(os.environ["HEARTH_TEST_GGUF"])
    command = f"-m /tiny/{gguf.name} --host 0.0.0.0 --port 8000 --alias {WOKEN} --ctx-size 2048 --threads 1 --jinja"
    service = f"""
services:
  {container}:
    command: {command.split()}
    volumes: ["{gguf.parent}:/tiny:ro"]
    deploy: !reset {{}}  # no GPU
    ulimits: !reset {{}}  # a Docker engine in a sandbox may not raise them
  page-cache:
    volumes: ["{_drop_caches(directory)}:/drop_caches"]  # the kernel's own is everybody's
"""
    file.write_text(service, encoding="utf-8")
    return file


def _drop_caches(directory: Path) -> Path:
    """What the page cache's helper writes to here."""
    file = directory / "drop_caches"
    file.touch()
    return file


@pytest.fixture(scope="module")
def created(composition: Composition) -> dict[str, dict[str, Any]]:
    return composition.containers()


@pytest.fixture(scope="module")
def running(composition: Composition, created: dict[str, dict[str, Any]]) -> Composition:
    """The project after `up`, when all that it started is healthy."""
    done = composition.run("up", "--detach", "--wait", "--wait-timeout", "180", limit=240, check=False)
    if done.returncode:
        logs = composition.run("logs", "--no-color", "--tail", "60", check=False).stdout
        raise AssertionError(f"up: status {done.returncode}\n{done.stderr[-2000:]}\n{logs}")
    return composition


@pytest.fixture(scope="module")
def client(running: Composition) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"http://127.0.0.1:{running.variables['HEARTH_PORT']}",
        headers={"Authorization": f"Bearer {MASTER_KEY}"},
        timeout=120,
    ) as http:
        yield http


#: Makes the files of `hearth fetch tokenizers` out of the copies in LiteLLM's package: nothing is asked of the network.
COPY_ENCODINGS = """
import hashlib, litellm, pathlib
from router.fetch.tokenizers import DIRECTORY, encodings
into = pathlib.Path("/models") / DIRECTORY
into.mkdir()
for file in encodings():
    name = hashlib.sha1(file.url.encode()).hexdigest()
    copy = pathlib.Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers" / name
    (into / file.name).write_bytes(copy.read_bytes())
"""


def test_fetch_finds_and_checks_what_is_in_the_volume_of_the_weights(composition: Composition) -> None:
    composition.run("run", "--rm", "--entrypoint", "python", "fetch", "-c", COPY_ENCODINGS, limit=120)
    done = composition.run("run", "--rm", "fetch", "tokenizers", limit=120)
    assert (done.stdout + done.stderr).count("already there, checksum right") == 2


def test_create_makes_the_models_and_starts_none(created: dict[str, dict[str, Any]]) -> None:
    models = {name: item for name, item in created.items() if name not in CONTROL}
    assert len(models) >= 2
    for name, item in models.items():
        assert (item["State"]["Status"], item["State"]["StartedAt"]) == ("created", NEVER_STARTED), name
        assert item["Name"] == f"/{name}"


def test_only_the_gateway_is_bound_to_the_host(running: Composition) -> None:
    bound = {
        name: [binding for bindings in item["NetworkSettings"]["Ports"].values() for binding in bindings or []]
        for name, item in running.containers().items()
    }
    expected = [{"HostIp": "127.0.0.1", "HostPort": running.variables["HEARTH_PORT"]}]
    assert {name: bindings for name, bindings in bound.items() if bindings} == {"gateway": expected}


def test_only_the_router_has_the_socket(running: Composition) -> None:
    having = {
        name
        for name, item in running.containers().items()
        if any(mount["Destination"] == "/var/run/docker.sock" for mount in item["Mounts"])
    }
    assert having == {"router"}


@pytest.mark.parametrize("name", sorted(CONTROL))
def test_what_runs_is_nobody_with_no_rights(running: Composition, name: str) -> None:
    item = running.containers()[name]
    assert item["HostConfig"]["ReadonlyRootfs"] is True
    # The first process is Docker's init; its child is the service.
    script = 'for p in /proc/[0-9]*; do echo "$(tr "\\0" " " <$p/cmdline)|$(cat $p/status | tr "\\n\\t" ",=")"; done'
    output = docker("exec", item["Id"], "sh", "-c", script)
    words = "redis-server" if name == "redis" else "python -m"
    found = [line.split("|")[1] for line in output.splitlines() if line.startswith(words)]
    assert found, output
    for status in found:
        uid = re.search(r"Uid:=(\d+)=(\d+)=(\d+)=(\d+)", status)
        assert uid is not None
        assert "0" not in uid.groups()
        assert "CapPrm:=0000000000000000," in status
        assert "CapEff:=0000000000000000," in status
        assert "NoNewPrivs:=1," in status


def test_an_engine_cannot_reach_redis(running: Composition) -> None:
    containers = running.containers()
    address = containers["redis"]["NetworkSettings"]["Networks"][f"{running.project}_control"]["IPAddress"]
    code = (
        "import socket, sys\n"
        "def reach(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 3).close()\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
        "    return 'reached'\n"
        f"print(reach('router', 8010), reach('redis', 6379), reach({address!r}, 6379))\n"
    )
    image = running.variables["HEARTH_PYTHON_IMAGE"]
    network = f"{running.project}_models"
    router, by_name, by_address = docker("run", "--rm", "--network", network, image, "python3", "-c", code).split()
    assert router == "reached"  # so the others fail for the right reason
    assert by_name == "gaierror"
    assert by_address != "reached"


def test_health_and_models_through_the_gateway(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"Authorization": ""}).status_code == 200
    listed = client.get("/v1/models")
    assert listed.status_code == 200, listed.text
    assert {model["id"] for model in listed.json()["data"]} == set(load(ROOT / "litellm_config.yaml").models)
    assert client.get("/v1/models", headers={"Authorization": "Bearer sk-wrong"}).status_code == 401


def test_a_disabled_model_is_refused_with_its_reason(client: httpx.Client) -> None:
    name, reason = next(iter(load(ROOT / "litellm_config.yaml").disabled.items()))
    answer = client.post("/v1/chat/completions", json={"model": name, "messages": [{"role": "user", "content": "hi"}]})
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["type"] == "model_disabled"
    assert reason in answer.json()["error"]["message"]


def test_a_request_wakes_its_model(client: httpx.Client, running: Composition) -> None:
    container = load(ROOT / "litellm_config.yaml").models[WOKEN].container
    assert running.containers()[str(container)]["State"]["StartedAt"] == NEVER_STARTED
    answer = client.post(
        "/v1/chat/completions",
        json={"model": WOKEN, "max_tokens": 4, "messages": [{"role": "user", "content": "the quick brown fox"}]},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    assert running.containers()[str(container)]["State"]["Running"] is True


ASK = """
import asyncio, pathlib
from router.memory.page_cache import PageCache
print(asyncio.run(PageCache(pathlib.Path("/run/page-cache/socket")).make_room(2**60)))
"""


def test_the_router_may_have_the_page_cache_dropped_once_the_helper_runs(running: Composition) -> None:
    router = running.containers()["router"]["Id"]

    def ask() -> str:
        return docker("exec", "--user", "10001", router, "python", "-c", ASK).strip()

    (override,) = running.overrides
    assert ask() == "False"
    running.run("--profile", "page-cache", "up", "--detach", "--wait", "page-cache", limit=240)
    assert ask() == "True"
    assert (override.parent / "drop_caches").read_text() == "1\n"


def test_the_control_plane_stops_by_itself(running: Composition, client: httpx.Client) -> None:
    """Last: every process obeys its stop signal; 137 would be Docker's kill after the grace."""
    running.run("stop", "--timeout", "20", limit=90)
    states = {name: item["State"]["ExitCode"] for name, item in running.containers().items() if name in CONTROL}
    assert states.keys() == CONTROL
    assert set(states.values()) <= {0, 143}, states

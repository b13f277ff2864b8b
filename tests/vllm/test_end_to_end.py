"""The main job, whole: the shipped docker-compose.yml, the OpenAI SDK, and real vLLM in the models' containers; then an
owner's tools on the same.

Two models that do not fit together are asleep. The first wakes for a stream; the second takes the GPU from it, after
what runs is finished; then it goes back to sleep too. Of the shipped files only the base images, the port, the idle
timeout and the engines' commands are exchanged: vLLM for the CPU with a tiny model answers in both containers.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from check_tree import ENVIRONMENT, plant
from composition import MASTER_KEY, ROOT, Composition, docker, free_port, reason_without_images
from hearth_command import hearth_says
from openai.types.chat import ChatCompletionChunk

from router.config import load, read_yaml

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

FIRST, SECOND = "qwen3-coder-30b-a3b-instruct", "gpt-oss-120b"
CONTAINERS = {FIRST: "vllm-qwen3-coder-30b", SECOND: "vllm-oss120b"}
#: What the engines take; the configuration promises 65536 tokens and more.
CONTEXT = 2048
LIMIT = 120.0
"""Seconds within which anything must have happened, on a machine that is busy with other tests."""
_NEVER = "0001-01-01T00:00:00Z"
_METRICS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/metrics', timeout=9).read().decode())"


def reason_without_vllm() -> str:
    """Why real vLLM cannot be run in containers here; empty when it can."""
    names = ("HEARTH_TEST_VLLM_PYTHON", "HEARTH_TEST_MODEL_DIR")
    if missing := [name for name in names if not os.environ.get(name)]:
        return f"{' and '.join(missing)} not set; tests/environment/prepare makes them"
    return reason_without_images()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"not within {LIMIT:.0f} s: {what}"
        time.sleep(0.1)


class Recorder(httpx.BaseTransport):
    """Keeps the bytes of all answers as they come, below the SDK, which does not show comments."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.seen = b""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._inner.handle_request(request)
        assert isinstance(answer.stream, httpx.SyncByteStream)
        answer.stream = _Copied(self, answer.stream)
        return answer

    def close(self) -> None:
        self._inner.close()


class _Copied(httpx.SyncByteStream):
    def __init__(self, recorder: Recorder, inner: httpx.SyncByteStream) -> None:
        self._recorder = recorder
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._recorder.seen += part
            yield part

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The project as the README has it: models created, then `up`. Everything is removed in the end."""
    if reason := reason_without_vllm():
        pytest.skip(reason)
    for name in CONTAINERS.values():
        existing = docker("ps", "--all", "--quiet", "--filter", f"name=^/{re.escape(name)}$")
        assert not existing.strip(), f"there is a container {name} already, which this test must not touch"
    directory = tmp_path_factory.mktemp("compose")
    images = {f"HEARTH_{kind}_IMAGE": os.environ[f"HEARTH_TEST_{kind}_IMAGE"] for kind in ("PYTHON", "REDIS", "WHEELS")}
    composed = Composition(
        project=f"hearth-test-{secrets.token_hex(4)}",
        variables=images | {"HEARTH_CONFIG_FILE": str(_two_models(directory)), "HEARTH_PORT": str(free_port())},
        overrides=[_vllm_instead(directory)],
    )
    try:
        composed.run("build", limit=300)
        composed.run("--profile", "models", "create", *CONTAINERS.values(), limit=60)
        done = composed.run("up", "--detach", "--wait", "--wait-timeout", "180", limit=240, check=False)
        assert done.returncode == 0, done.stderr[-2000:] + composed.run("logs", "--no-color", "--tail", "60").stdout
        yield composed
    finally:
        composed.run("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "10", limit=120, check=False)


def _two_models(directory: Path) -> Path:
    """The shipped configuration, with the two large models only and a short idle timeout."""
    document = read_yaml(ROOT / "litellm_config.yaml")
    document["model_list"] = [entry for entry in document["model_list"] if entry["model_name"] in CONTAINERS]
    for entry in document["model_list"]:
        entry["model_info"]["supports_function_calling"] = False  # random weights write no call that can be read
    lifecycle = document["general_settings"]["lifecycle"]
    lifecycle["idle_timeout"] = "3s"
    lifecycle["scheduling"] = {"patience": 0, "minimum_service": 0, "hold_share": 0}  # the second is next at once
    file = directory / "litellm_config.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    file.chmod(0o644)  # the containers' user is nobody here
    return file


def _vllm_instead(directory: Path) -> Path:
    """An override that runs vLLM for the CPU, from a virtual environment mounted into a plain Python image."""
    (packages,) = (Path(os.environ["HEARTH_TEST_VLLM_PYTHON"]).parents[1] / "lib").glob("python3.*/site-packages")
    services = {container: _service(model, packages) for model, container in CONTAINERS.items()}
    file = directory / "vllm.yml"
    text = yaml.safe_dump({"services": services}, sort_keys=False)
    file.write_text(re.sub(r"'(!reset \{\})'", r"\1", text), encoding="utf-8")
    return file


def _service(model: str, packages: Path) -> dict[str, Any]:
    options = ["--model=/model", f"--served-model-name={model}", "--host=0.0.0.0", "--port=8000", "--enforce-eager"]
    options += [f"--max-model-len={CONTEXT}", "--distributed-executor-backend=uni", "--kv-cache-memory-bytes=33554432"]
    return {
        "profiles": ["models"],
        "image": os.environ["HEARTH_TEST_PYTHON_IMAGE"],
        "entrypoint": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        "command": options,
        "environment": {
            "PYTHONPATH": "/packages",
            "PYTHONDONTWRITEBYTECODE": "1",
            "VLLM_CACHE_ROOT": "/tmp/vllm",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "HF_HUB_OFFLINE": "1",
            "HOME": "/tmp",
        },
        "volumes": [f"{packages}:/packages:ro", f"{os.environ['HEARTH_TEST_MODEL_DIR']}:/model:ro"],
        "read_only": True,
        "tmpfs": ["/tmp:size=256m,mode=1777"],
        "mem_limit": "2g",
        "deploy": "!reset {}",  # no GPU
        "ulimits": "!reset {}",  # a Docker engine in a sandbox may not raise them
        "healthcheck": {"disable": True},  # the router asks by itself
    }


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def client(composition: Composition, recorder: Recorder) -> Iterator[openai.OpenAI]:
    """As in anybody's program. Nothing is tried twice, so that each answer is the first."""
    url = f"http://127.0.0.1:{composition.variables['HEARTH_PORT']}/v1"
    with (
        httpx.Client(transport=recorder) as http,
        openai.OpenAI(base_url=url, api_key=MASTER_KEY, http_client=http, timeout=LIMIT, max_retries=0) as sdk,
    ):
        yield sdk


@pytest.fixture
def lifecycle(composition: Composition) -> Iterator[httpx.Client]:
    """The administrator's requests."""
    url = f"http://127.0.0.1:{composition.variables['HEARTH_PORT']}/lifecycle"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {MASTER_KEY}"}, timeout=30) as http:
        yield http


def _state(model: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(docker("inspect", "--format", "{{json .State}}", CONTAINERS[model]))
    return found


def _metric(model: str, name: str) -> float:
    """A value that vLLM itself gives, asked inside its container: nothing outside reaches it."""
    text = docker("exec", CONTAINERS[model], "python3", "-c", _METRICS)
    lines = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
    assert lines, f"vLLM has no metric {name}:\n{text}"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def _chat(client: openai.OpenAI, model: str, tokens: int) -> openai.Stream[ChatCompletionChunk]:
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "the quick brown fox"}],
        max_tokens=tokens,
        stream=True,
        extra_body={"ignore_eos": True},
    )


def _read(stream: openai.Stream[ChatCompletionChunk], begun: threading.Event | None = None) -> tuple[str, str]:
    """The text of a streamed answer, and why it ended. begun: set at the first words."""
    text, reason = "", ""
    with stream:
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
            if begun is not None and text:
                begun.set()
    return text, reason


def _events(lifecycle: httpx.Client) -> list[tuple[str, str]]:
    """What happened to the models since the beginning: event and model."""
    lines = lifecycle.get("/events", params={"follow": False, "recent": 1000}).raise_for_status().text.splitlines()
    happened = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    kinds = ("starting", "ready", "draining", "stopping", "stopped", "failed", "died")
    return [(event["event"], event["model"]) for event in happened if event["event"] in kinds]


def test_two_models_share_the_gpu_by_turns(client: openai.OpenAI, recorder: Recorder, lifecycle: httpx.Client) -> None:
    assert {model.id for model in client.models.list()} == set(CONTAINERS)
    assert [_state(model)["StartedAt"] for model in CONTAINERS] == [_NEVER, _NEVER]
    for model in CONTAINERS:  # not stopped for idleness until this test has looked at them; for another model they are
        lifecycle.post(f"/models/{model}/pin").raise_for_status()

    # asleep -> an answer, with comments meanwhile
    recorder.seen = b""
    text, reason = _read(_chat(client, FIRST, 16))
    assert text
    assert reason == "length"
    before, _, _ = recorder.seen.partition(b"data: ")
    assert before.startswith(f": hearth: {FIRST} is ".encode())
    assert [_state(model)["Running"] for model in CONTAINERS] == [True, False]
    assert _state(SECOND)["StartedAt"] == _NEVER

    # a client that leaves: vLLM stops working for it, and has not finished it
    finished, made = _metric(FIRST, "request_success_total"), _metric(FIRST, "generation_tokens_total")
    with _chat(client, FIRST, 1900) as leaving:
        assert next(iter(leaving))
    until(lambda: _metric(FIRST, "num_requests_running") == 0, "vLLM computes nothing any more")
    assert _metric(FIRST, "request_success_total") == finished
    assert _metric(FIRST, "generation_tokens_total") < made + 1900

    # the second takes the GPU from the first, when the first has finished what it does
    begun = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(lambda: _read(_chat(client, FIRST, 1200), begun))
        assert begun.wait(LIMIT)
        text, reason = _read(_chat(client, SECOND, 16))
        assert running.result()[1] == "length"
    assert text
    assert reason == "length"
    assert [_state(model)["Running"] for model in CONTAINERS] == [False, True]
    assert _state(FIRST)["FinishedAt"] < _state(SECOND)["StartedAt"]

    # left alone, it goes back to sleep as well
    for model in CONTAINERS:
        lifecycle.post(f"/models/{model}/unpin").raise_for_status()
    until(lambda: ("stopped", SECOND) in _events(lifecycle), "the second model is asleep")
    for model in CONTAINERS:
        state = _state(model)
        assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False)
    assert _events(lifecycle) == [
        *((event, FIRST) for event in ("starting", "ready", "draining", "stopping", "stopped")),
        *((event, SECOND) for event in ("starting", "ready", "stopping", "stopped")),
    ]


def test_an_owners_tools_try_and_copy_what_runs(
    composition: Composition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{composition.variables['HEARTH_PORT']}"
    out, _ = hearth_says(url, MASTER_KEY, "smoke", FIRST, "--json")
    results = {result["probe"]: result["passed"] for result in json.loads(out)["results"]}
    assert results == {"text": True, "stream": True, "tools": None, "vision": None}, out

    out, _ = hearth_says(url, MASTER_KEY, "soak", FIRST, "--output-tokens", "16", "--json")
    report = json.loads(out)
    assert (report["complete"], report["limited_by"]) == (True, "engine"), report
    assert CONTEXT - 16 - 1024 <= report["ceiling"] <= CONTEXT - 16, "the search ends at a sixty-fourth of the promise"
    assert [tier["target"] for tier in report["tiers"] if tier["passed"]], report
    known, _ = hearth_says(url, MASTER_KEY, "inspect", FIRST, "--json")
    assert json.loads(known)["container"]["state"] in ("running", "exited")

    # on a box of its own: the container's config.json says what its command does not
    for name in [*os.environ]:
        if name.startswith(("HEARTH_", "HF_", "LITELLM_")):
            monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    box = plant(tmp_path / "box")
    words = ("add", "--container", CONTAINERS[FIRST], "--name", "copied", "--config", str(box), "--yes")
    _, told = hearth_says(url, MASTER_KEY, *words)
    spec, card = load(box).models["copied"], load(box).cards["copied"]
    assert card.context == CONTEXT
    assert "of weights" in told, "estimated from the checkpoint in the container"
    assert spec.memory < 10 * 2**30, "and not the nine tenths of a GPU that an engine takes of which nothing is known"
    service = yaml.safe_load((box.parent / "compose" / "models-own.yml").read_text())["services"]["vllm-copied"]
    assert "--enforce-eager" in service["command"]
    assert any(volume.endswith(":/model:ro") for volume in service["volumes"])

"""A running stack as its owner watches it: metrics in a real Prometheus, traces in a collector, logs as JSON, and no
prompt in any of them, with everything switched on that makes LiteLLM talk."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from addresses import ALL, JSON
from loopback_services import Collector, QuotingEngine, values
from observer import Observer, until
from stack import Model, Stack, free_port

from router.store.key_ring import KeyLimits, KeyRing

sys.path.insert(0, str(Path(__file__).parents[1] / "monitoring"))
from prometheus import (
    Server,
    alert_expressions,
    configuration,
    dashboard_expressions,
    promtool,
    reason_without_prometheus,
)

pytestmark = pytest.mark.e2e

SECRET = "Zyzzogeton"
#: The name of a model that there is not.
WORD = "Quirquincho"
ALIAS = "master key"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def quoting() -> Iterator[QuotingEngine]:
    with QuotingEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector, quoting: QuotingEngine) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("watched"),
        [
            Model("small", load_seconds=0.3),
            Model("faulty", lifecycle={"start_timeout": "20s"}),
            Model("left", gpu="1", memory="60GiB", lifecycle={"stop_timeout": "2s"}),
            Model("right", gpu="1", memory="60GiB", lifecycle={"stop_timeout": "2s"}),
        ],
        gpus={"0": {"memory": "100GiB"}, "1": {"memory": "100GiB"}},
        settings={
            "scheduling": {"patience": 0, "minimum_service": 0, "hold_share": 0},
            "cooldown": {"first": "1s", "longest": "2s"},
        },
        extra={"litellm_settings": {"set_verbose": True, "json_logs": True}, "router_settings": {"set_verbose": True}},
        environment={
            "HEARTH_LOG_FORMAT": "json",
            "HEARTH_LOG_LEVEL": "debug",
            "LITELLM_LOG": "DEBUG",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        },
    )
    document = yaml.safe_load(stack.config.read_text())
    parameters = {"model": "hosted_vllm/quoting", "api_base": f"{quoting.url}/v1"}
    document["model_list"].append({"model_name": "quoting", "litellm_params": parameters})
    stack.config.write_text(yaml.safe_dump(document))
    with stack:
        yield stack


def lines(stack: Stack, part: str = "gateway") -> list[dict[str, Any]]:
    """A part's log. Fails where a line is not one JSON object."""
    text = getattr(stack, part).log.read_text()
    return [json.loads(line) for line in text.splitlines()]


# --- traces


async def test_the_trace_of_a_request_that_woke_a_model_has_the_wait_in_it(
    hearth: Observer, collector: Collector
) -> None:
    await hearth.sleep("small")
    answer = await hearth.chat("small")
    assert answer.status_code == 200
    request = answer.headers["X-Hearth-Request"]
    known = {"hearth.request_id": request}

    async def complete() -> bool:
        return {"POST /v1/chat/completions", "chat small"} <= collector.trace_with("hearth.wait", **known).keys()

    await until(complete, "the trace has come")
    spans = collector.trace_with("hearth.wait", **known)
    wait, server, engine = spans["hearth.wait"], spans["POST /v1/chat/completions"], spans["chat small"]
    assert wait.parent_span_id == engine.parent_span_id == server.span_id
    assert not server.parent_span_id
    assert values(wait) | {"hearth.wait_seconds": 0} == values(wait) | {
        "hearth.request_id": request,
        "hearth.model": "small",
        "hearth.position": 1,
        "hearth.wait_seconds": 0,
        "hearth.outcome": "granted",
    }
    waited = (wait.end_time_unix_nano - wait.start_time_unix_nano) / 1e9
    assert waited == pytest.approx(values(wait)["hearth.wait_seconds"], abs=0.01)
    assert waited == pytest.approx(float(answer.headers["X-Hearth-Waited-Seconds"]), abs=0.1)
    assert server.start_time_unix_nano < wait.start_time_unix_nano
    assert wait.end_time_unix_nano <= engine.start_time_unix_nano


async def test_a_wait_that_came_to_nothing_is_an_error(hearth: Observer, collector: Collector) -> None:
    hearth.stack.set_options("faulty", "--fault", "exit-while-loading=3")
    answer = await hearth.chat("faulty")
    assert answer.status_code == 503

    async def complete() -> bool:
        return bool(collector.trace_with("hearth.wait", **{"hearth.model": "faulty"}))

    await until(complete, "the trace has come")
    wait = collector.trace_with("hearth.wait", **{"hearth.model": "faulty"})["hearth.wait"]
    assert values(wait)["hearth.outcome"] == answer.json()["error"]["type"]
    assert wait.status.code == wait.status.STATUS_CODE_ERROR
    hearth.stack.set_options("faulty")


async def test_a_request_that_did_not_wait_has_no_wait(hearth: Observer, collector: Collector) -> None:
    await hearth.wake("small")
    before = len(collector.bodies)
    answer = await hearth.chat("small")

    async def complete() -> bool:
        return any(b"chat small" in body for body in collector.bodies[before:])

    await until(complete, "its trace has come")
    assert not collector.trace_with("hearth.wait", **{"hearth.request_id": answer.headers["X-Hearth-Request"]})


# --- logs


async def test_each_request_has_one_line_with_its_id_and_its_keys_name(hearth: Observer) -> None:
    await hearth.sleep("small")
    answer = await hearth.chat("small")
    request = answer.headers["X-Hearth-Request"]

    async def written() -> bool:
        return any(line.get("request_id") == request for line in lines(hearth.stack))

    await until(written, "the request is logged")
    (line,) = (line for line in lines(hearth.stack) if line.get("request_id") == request)
    assert line["level"] == "info"
    assert line["time"].endswith("+00:00")
    assert (line["model"], line["key_alias"], line["outcome"]) == ("small", ALIAS, "completed")
    assert line["waited_seconds"] == pytest.approx(float(answer.headers["X-Hearth-Waited-Seconds"]), abs=0.1)
    assert lines(hearth.stack, "router"), "all of it is JSON"


async def ask_in_every_way(hearth: Observer, quoting: QuotingEngine) -> None:
    """Requests with the secret in every place where a client can put it, good ones and bad ones."""
    image = {"type": "image_url", "image_url": {"url": f"https://{SECRET}.invalid/{SECRET}.png"}}
    tool = {"type": "function", "function": {"name": SECRET, "description": SECRET, "parameters": {"type": "object"}}}
    for model, statuses in (("small", [200]), ("quoting", [400, 500, 429]), ("no-such-model", [0])):
        for quoting.status in statuses:
            asked = [address.request(hearth.http, model, **_filled(address.body)) for address in JSON]
            content = [{"type": "text", "text": SECRET}, image]
            body = {"model": model, "messages": [{"role": "user", "content": content}], "user": SECRET}
            for more in ({}, {"tools": [tool]}, {"stream": True, "tools": [tool]}, {"metadata": {SECRET: SECRET}}):
                asked.append(hearth.http.build_request("POST", "/v1/chat/completions", json=body | more))
            await asyncio.gather(*(hearth.http.send(each) for each in asked))
    malformed: list[Any] = [
        SECRET,
        f'{{"model": "small", "messages": [{{"role": "user", "content": "{SECRET}"',
        json.dumps({"model": "small", "messages": SECRET}),
        json.dumps({"model": "small", "messages": [{"role": SECRET, "content": {SECRET: SECRET}}]}),
        json.dumps({"model": "small", "messages": [{"role": "user", "content": SECRET}], "temperature": SECRET}),
        json.dumps({"model": WORD, "messages": [{"role": "user", "content": SECRET}]}),
        json.dumps({"model": "quoting", "messages": [{"role": "user", "content": SECRET}], "tool_choice": SECRET}),
    ]
    kind = {"Content-Type": "application/json"}
    for address in ALL:
        for body in malformed:
            await hearth.http.post(address.url("small"), content=body, headers=kind)
    await hearth.http.post("/v1/chat/completions", data={"messages": SECRET})


def _filled(body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(body).replace("Say something long.", SECRET).replace("an apple", SECRET))  # type: ignore[no-any-return]


async def fail_in_every_way(hearth: Observer) -> None:
    """Engines that break while the secret is with them."""
    messages = [{"role": "user", "content": SECRET}]
    for fault in ("http-500", "error-mid-stream=3", "die-mid-stream=3"):
        await hearth.sleep("faulty")
        hearth.stack.set_options("faulty", "--fault", fault)
        for stream in (False, True):
            with_it = await hearth.http.post(
                "/v1/chat/completions", json={"model": "faulty", "messages": messages, "stream": stream}
            )
            await with_it.aread()
    hearth.stack.set_options("faulty")


async def test_no_prompt_is_written_anywhere(
    hearth: Observer, stack: Stack, quoting: QuotingEngine, collector: Collector
) -> None:
    spans = len(collector.bodies)
    await ask_in_every_way(hearth, quoting)
    await fail_in_every_way(hearth)
    end = await hearth.chat("small")
    request = end.headers["X-Hearth-Request"]

    async def written() -> bool:
        return any(line.get("request_id") == request for line in lines(stack))

    await until(written, "the last request is logged")
    written_by_us = [*stack.directory.glob("*.log"), *stack.state.rglob("*.log")]
    assert {"gateway.log", "router.log", "redis.log"} <= {path.name for path in written_by_us}
    for path in written_by_us:
        text = path.read_text(errors="replace")
        for word in (SECRET, WORD):
            assert word not in text, [line for line in text.splitlines() if word in line][:3]
    assert lines(stack), "all of it is JSON, whatever LiteLLM had to say"
    left_out = [line for line in lines(stack) if line["message"] == "left out, since it can quote a request"]
    assert left_out, "LiteLLM has logged something of all these errors"
    assert all(line["where"] for line in left_out)
    traced = collector.bodies[spans:]
    assert len(traced) > 5
    assert [body for body in traced if SECRET.encode() in body] == []


# --- metrics


@pytest.mark.skipif(bool(reason_without_prometheus()), reason=reason_without_prometheus())
async def test_prometheus_reads_all_of_it_and_can_evaluate_every_alert_and_panel(
    hearth: Observer, stack: Stack, tmp_path: Path
) -> None:
    for name in ("left", "right", "left"):
        assert (await hearth.chat(name)).status_code == 200
    limits = KeyLimits(models=("none",), rpm=600)
    key = await KeyRing(hearth.redis).create("prometheus", limits)
    assert key is not None
    only = {"Authorization": f"Bearer {key}"}
    assert (await hearth.chat("left", headers=only)).status_code == 403
    page = await hearth.http.get("/metrics", headers=only)
    assert page.headers["content-type"].startswith("text/plain")
    checked = promtool("check", "metrics", given=page.text)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    config = configuration(tmp_path, key, f"127.0.0.1:{stack.port}", "500ms")
    with Server(config, tmp_path, free_port()) as server:
        swaps = await asyncio.to_thread(server.until, "sum(hearth_swaps_total) > 0", "Prometheus has scraped twice")
        assert float(swaps[0]["value"][1]) >= 2
        await asyncio.to_thread(server.until, "count_over_time(up[1m]) > 2", "Prometheus has scraped a few times")
        for expression in [*alert_expressions().values(), *dashboard_expressions()]:
            server.query(expression)
        for expression in ("hearth_gpu_claimed_bytes", 'hearth_model_phase{phase="ready"} == 1', "hearth_runtime_up"):
            assert server.query(expression), expression
        assert server.query("histogram_quantile(0.5, sum by (le) (hearth_wake_seconds_bucket))")
        rules = server.rules()
        assert {rule["name"] for rule in rules} == alert_expressions().keys()
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules

"""The simulator as a process: loading, leaving clients, signals, and the faults that end or cut something."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

HI = [{"role": "user", "content": "hi there"}]
LONG = {"model": "tiny", "messages": HI, "max_tokens": 4000}
LIMIT = 30.0
"""Seconds within which everything here must have happened."""


def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; what it raises of httpx counts as false."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.005)
    pytest.fail("the condition did not come true")


class Process:
    """A simulator process and a client for it."""

    def __init__(self, log: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [sys.executable, "-m", "router.engine_simulator", "--port", str(self.port),
                   "--served-model-name", "tiny", "--load-seconds", "0", *options]  # fmt: skip
        with log.open("wb") as sink:
            self.child = subprocess.Popen(command, stderr=sink, stdout=sink)
        self.client = httpx.Client(base_url=self.url, timeout=LIMIT)

    def ready(self) -> "Process":
        """Wait for the first healthy answer."""
        until(lambda: self.ended() or self.client.get("/health").status_code == 200)
        assert not self.ended(), self.log.read_text()
        return self

    def ended(self) -> bool:
        return self.child.poll() is not None

    def state(self) -> dict[str, Any]:
        found = self.client.get("/_simulator/state").json()
        assert isinstance(found, dict)
        return found

    def requests(self) -> list[dict[str, Any]]:
        found = self.client.get("/_simulator/requests").json()["requests"]
        assert isinstance(found, list)
        return found

    def faults(self, *specs: str) -> None:
        assert self.client.put("/_simulator/faults", json={"faults": specs}).status_code == 200

    def close(self) -> None:
        self.client.close()
        if not self.ended():
            self.child.kill()
        self.child.wait(LIMIT)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start simulators; all are gone after the test."""
    started: list[Process] = []

    def begin(*options: str) -> Process:
        started.append(Process(tmp_path / f"{len(started)}.log", *options))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.fixture(scope="module")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("shared") / "log").ready()
    yield process
    process.close()


@pytest.fixture
def shared(long_lived: Process) -> Iterator[Process]:
    """A simulator for tests that leave it running; its faults are cleared after each."""
    yield long_lived
    long_lived.faults()


def first_tokens(answer: httpx.Response, count: int = 3) -> Iterator[str]:
    """Read an answer's lines up to the given number of data lines; the iterator goes on from there."""
    lines = answer.iter_lines()
    for _ in range(count):
        next(line for line in lines if line.startswith("data: "))
    return lines


def test_it_refuses_connections_until_it_has_loaded(start: Start) -> None:
    process = start("--load-seconds", "600")
    until(lambda: "Starting to load" in process.log.read_text())
    with pytest.raises(httpx.ConnectError):
        process.client.get("/health")
    process.child.terminate()


def test_it_says_when_it_was_ready(start: Start) -> None:
    process = start("--load-seconds", "0.4").ready()
    state = process.state()
    assert state["pid"] == process.child.pid
    assert f"{state['ready_at']:.6f}" in process.log.read_text()


def test_it_can_answer_503_while_it_loads(start: Start) -> None:
    process = start("--listen-while-loading", "--fault", "never-ready")
    until(lambda: process.client.get("/health").status_code == 503)
    assert process.state()["ready_at"] is None
    process.child.terminate()
    assert process.child.wait(LIMIT) == 0


def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    process = start("--uds", str(path))
    # A refused connection to a unix socket would leak inside the client, so the log tells when.
    until(lambda: "Listening on" in process.log.read_text())
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://engine") as client:
        until(lambda: client.get("/health").status_code == 200)
    process.child.terminate()
    assert process.child.wait(LIMIT) == 0
    assert not path.exists()


def test_the_official_clients_can_talk_to_it(start: Start) -> None:
    process = start("--tokens-per-second", "2000").ready()
    with openai.OpenAI(base_url=f"{process.url}/v1", api_key="none", max_retries=0) as client:
        parts = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}],
                                               max_tokens=150, stream=True)  # fmt: skip
        text = [part.choices[0].delta.content for part in parts if part.choices and part.choices[0].delta.content]
        assert len(text) == 150
        whole = client.responses.create(model="tiny", input="hi", max_output_tokens=5)
        with client.responses.stream(model="tiny", input="hi", max_output_tokens=5) as stream:
            assert stream.get_final_response().output_text == whole.output_text != ""
        assert len(client.embeddings.create(model="tiny", input="hi").data[0].embedding) == 64
        assert client.audio.transcriptions.create(model="tiny", file=("a.wav", b"RIFF" * 99)).text
        tools = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        )  # fmt: skip
        assert tools.choices[0].finish_reason == "tool_calls"
    with anthropic.Anthropic(base_url=process.url, api_key="none", max_retries=0) as claude:
        with claude.messages.stream(model="tiny", max_tokens=5, messages=[{"role": "user", "content": "hi"}]) as heard:
            assert heard.get_final_message().usage.output_tokens == 5
        said = claude.messages.create(model="tiny", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
        assert said.stop_reason == "max_tokens"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["", "hang-before-first-token"])
def test_generation_stops_when_the_client_leaves(shared: Process, stream: bool, fault: str) -> None:
    process = shared
    process.faults(*([fault] if fault else []))
    body = json.dumps({**LONG, "stream": stream}).encode()
    fields = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{fields}"
    with socket.create_connection(("127.0.0.1", process.port), LIMIT) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: process.state()["running"] == 1 and (fault or process.requests()[-1]["tokens"] > 0))
    until(lambda: process.state()["running"] == 0)
    record = process.requests()[-1]
    assert record["outcome"] == "aborted"
    assert record["tokens"] < 4000
    assert "vllm:num_requests_running{" in process.client.get("/metrics").text


def test_sigterm_ends_streams_with_an_error_and_the_process_with_0(start: Start) -> None:
    process = start().ready()
    with process.client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as answer:
        lines = first_tokens(answer)
        process.child.terminate()
        last = [line for line in lines if line.startswith("data: ")][-2:]
    assert json.loads(last[0].removeprefix("data: "))["error"]["code"] == 500
    assert last[1] == "data: [DONE]"
    assert process.child.wait(LIMIT) == 0


def test_sigterm_can_be_ignored(start: Start) -> None:
    process = start("--fault", "ignore-sigterm").ready()
    process.child.terminate()
    until(lambda: "SIGTERM ignored" in process.log.read_text())
    assert process.client.get("/health").status_code == 200
    process.child.kill()
    assert process.child.wait(LIMIT) == -signal.SIGKILL


def test_sigterm_can_hang_until_the_clients_leave(start: Start) -> None:
    process = start("--fault", "hang-on-sigterm").ready()
    with process.client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as answer:
        lines = first_tokens(answer)
        process.child.terminate()
        until(lambda: "Waiting for connections to close" in process.log.read_text())
        assert not process.ended()
        assert lines is not None  # dropped, it would close the connection
    assert process.child.wait(LIMIT) == 0


def test_a_load_can_fail(start: Start) -> None:
    process = start("--load-seconds", "60", "--fault", "exit-while-loading=3@0.3")
    assert process.child.wait(LIMIT) == 3
    assert "Engine core initialization failed" in process.log.read_text()


def test_dying_in_the_middle_of_a_stream(start: Start) -> None:
    process = start("--fault", "die-mid-stream=137@4").ready()
    with (
        pytest.raises(httpx.RemoteProtocolError),
        process.client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as answer,
    ):
        list(answer.iter_lines())
    assert process.child.wait(LIMIT) == 137


@pytest.mark.parametrize("stream", [True, False])
def test_a_truncated_answer_has_no_end(shared: Process, stream: bool) -> None:
    process = shared
    process.faults("truncated-stream=4")
    with pytest.raises(httpx.RemoteProtocolError):
        process.client.post("/v1/chat/completions", json={**LONG, "stream": stream})
    assert process.requests()[-1]["outcome"] == "error"
    assert process.client.get("/health").status_code == 200


def test_an_error_before_anything_was_sent_is_a_500(shared: Process) -> None:
    process = shared
    process.faults("error-mid-stream=4")
    answer = process.client.post("/v1/chat/completions", json=LONG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, 500)


def test_a_stall_sends_the_head_and_some_tokens_and_then_nothing(shared: Process) -> None:
    process = shared
    process.faults("stall-mid-stream=3")
    with process.client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}, timeout=0.4) as answer:
        lines = first_tokens(answer, 4)
        with pytest.raises(httpx.ReadTimeout):
            list(lines)
    until(lambda: process.state()["running"] == 0)
    assert process.requests()[-1]["tokens"] == 3


def test_a_slow_first_token_comes_after_the_head(shared: Process) -> None:
    process = shared
    process.faults("slow-first-token=60")
    with process.client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}, timeout=0.4) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            list(answer.iter_lines())


def test_a_crashed_engine_is_unhealthy_and_then_exits_with_0(start: Start) -> None:
    process = start().ready()
    with process.client.stream("POST", "/v1/chat/completions", json={**LONG, "stream": True}) as answer:
        lines = first_tokens(answer)
        process.faults("exit-zero-on-crash=0.3")
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert process.client.get("/health").status_code == 503
    assert process.client.post("/v1/chat/completions", json=LONG).status_code == 500
    assert process.child.wait(LIMIT) == 0


def test_refused_connections_come_back_when_the_fault_is_cleared(shared: Process) -> None:
    process = shared
    process.faults("refuse-connections")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{process.url}/health")
    process.client.delete("/_simulator/faults")  # through the connection that is open
    assert httpx.get(f"{process.url}/health").status_code == 200


def test_no_prompt_is_ever_logged(start: Start) -> None:
    process = start().ready()
    process.client.post("/v1/chat/completions", json={**LONG, "messages": [{"role": "user", "content": "secret"}],
                                                      "max_tokens": 2})  # fmt: skip
    process.client.post("/v1/chat/completions", json={**LONG, "max_tokens": "secret"})
    process.child.terminate()
    assert process.child.wait(LIMIT) == 0
    text = process.log.read_text()
    assert "secret" not in text
    assert "POST /v1/chat/completions" in text


def test_it_stands_alone() -> None:
    """Nothing else of the project, and none of the heavy frameworks, is loaded: the start must be fast."""
    code = "import sys, router.engine_simulator.process as p; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = found.stdout.split()
    assert not {"fastapi", "pydantic", "litellm", "redis"} & set(modules)
    ours = {name for name in modules if name.startswith(("router", "plugins"))}
    assert {name for name in ours if not name.startswith("router.engine_simulator")} == {"router"}

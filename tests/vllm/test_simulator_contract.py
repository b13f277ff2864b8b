"""The simulator and the real vLLM give the same answers, by shape, to the same questions.

One probe asks everything; it is run against both, and what it found is compared. `HEARTH_TEST_VLLM_PYTHON` names a
Python that has vLLM 0.32 (a CPU build will do), `HEARTH_TEST_MODEL_DIR` the folder of a small model with a chat
template; without them these tests are skipped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

MODEL = "tiny"
CONTEXT = 2048
START_LIMIT = 180.0
"""Seconds in which an engine must become healthy, the slower one on a loaded machine."""
LIMIT = 30.0
"""Seconds in which anything else must have happened."""

HI = [{"role": "user", "content": "hi there"}]
LONG = "word " * 5000
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "boolean"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
]


@dataclass
class Engine:
    """A running engine, real or not."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    url: str

    def running(self) -> float:
        text = self.client.get("/metrics").text
        found = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
        assert len(found) == 1
        assert f'model_name="{MODEL}"' in found[0]
        return float(found[0].rsplit(" ", 1)[1])


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.01)
    pytest.fail(f"the condition did not come true in {limit} s")


def run(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[Engine]:
    """Start an engine, wait until it is healthy, and end it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as sink:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=sink, stderr=sink,
                                   env={**os.environ, **environment}, start_new_session=True)  # fmt: skip
    try:
        with httpx.Client(base_url=url, timeout=LIMIT) as client:
            until(lambda: process.poll() is not None or client.get("/health").status_code == 200, START_LIMIT)
            assert process.poll() is None, log.read_text()[-4000:]
            yield Engine(process, client, url)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(LIMIT)


def real(log: Path, *, dev_mode: bool, cache: Path, extra: tuple[str, ...] = ()) -> Iterator[Engine]:
    python, model = os.environ.get("HEARTH_TEST_VLLM_PYTHON"), os.environ.get("HEARTH_TEST_MODEL_DIR")
    if not python or not model:
        pytest.skip("no real vLLM: set HEARTH_TEST_VLLM_PYTHON (a Python with vLLM 0.32) and HEARTH_TEST_MODEL_DIR")
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", MODEL,
               "--max-model-len", str(CONTEXT), "--enforce-eager", "--distributed-executor-backend", "uni",
               "--kv-cache-memory-bytes", "33554432", *extra]  # fmt: skip
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CACHE_ROOT": str(cache),
                   "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # fmt: skip
    return run(command, log, environment | ({"VLLM_SERVER_DEV_MODE": "1"} if dev_mode else {}))


def simulated(log: Path, *extra: str) -> Iterator[Engine]:
    command = [sys.executable, "-m", "router.engine_simulator", "--served-model-name", MODEL, "--max-model-len",
               str(CONTEXT), "--load-seconds", "0", "--tokens-per-second", "400", *extra]  # fmt: skip
    return run(command, log, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def vllm(folder: Path) -> Iterator[Engine]:
    yield from real(folder / "plain.log", dev_mode=False, cache=folder)


@pytest.fixture(scope="module")
def vllm_dev(folder: Path) -> Iterator[Engine]:
    tools = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    yield from real(folder / "dev.log", dev_mode=True, cache=folder, extra=tools)


@pytest.fixture(scope="module")
def vllm_pooling(folder: Path) -> Iterator[Engine]:
    pooling = ("--runner", "pooling", "--convert", "embed")
    yield from real(folder / "pooling.log", dev_mode=False, cache=folder, extra=pooling)


@pytest.fixture(scope="module")
def simulator(folder: Path) -> Iterator[Engine]:
    yield from simulated(folder / "simulator.log")


@pytest.fixture(scope="module")
def simulator_dev(folder: Path) -> Iterator[Engine]:
    yield from simulated(folder / "simulator-dev.log", "--dev-mode")


def shape(value: Any) -> Any:
    """The shape of JSON data: keys and types. A list is the set of its elements' shapes; numbers are of one type."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        found: list[Any] = []
        for each in map(shape, value):
            if each not in found:
                found.append(each)
        return found
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def stream_shape(text: str) -> list[Any]:
    """The shapes of a stream's events in order, with equal neighbours as one."""
    found: list[Any] = []
    name = ""
    for line in text.splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
            each = data if data == "[DONE]" else [name, shape(json.loads(data))]
            if not found or found[-1] != each:
                found.append(each)
        else:
            assert not line
    return found


def answer_of(engine: Engine, method: str, path: str, body: Any, content: str | None = None) -> dict[str, Any]:
    """Status, type and shape of one answer."""
    given: dict[str, Any] = {} if body is None else {"json": body}
    if content is not None:
        given = {"content": content, "headers": {"content-type": "application/json"}}
    answer = engine.client.request(method, path, **given)
    kind = answer.headers.get("content-type", "")
    found: dict[str, Any] = {"status": answer.status_code, "type": kind}
    if kind.startswith("text/event-stream"):
        found["events"] = stream_shape(answer.text)
    elif kind == "application/json" and answer.content:
        document = answer.json()
        found["shape"] = shape(document)
        if isinstance(error := document.get("error"), dict):
            # The kinds of errors are a contract; their words are not.
            found["error"] = {key: error.get(key) for key in ("type", "code")}
            found["param"] = str(error.get("param")).split(".")[:2]
    return found


ASK: dict[str, Any] = {"model": MODEL, "messages": HI, "max_tokens": 6, "ignore_eos": True}
USAGE = {"include_usage": True}
QUESTIONS: dict[str, tuple[str, str, Any]] = {
    "health": ("GET", "/health", None),
    "version": ("GET", "/version", None),
    "models": ("GET", "/v1/models", None),
    "load": ("GET", "/load", None),
    "no such path": ("GET", "/nothing", None),
    "wrong method": ("GET", "/v1/chat/completions", None),
    "head": ("HEAD", "/health", None),
    "no sleep": ("POST", "/sleep", None),
    "no wake": ("POST", "/wake_up", None),
    "no is_sleeping": ("GET", "/is_sleeping", None),
    "chat": ("POST", "/v1/chat/completions", ASK),
    "chat without a model": ("POST", "/v1/chat/completions", {"messages": HI, "max_tokens": 3}),
    "chat, two choices": ("POST", "/v1/chat/completions", {**ASK, "n": 2}),
    "chat, parts": ("POST", "/v1/chat/completions",
                    {**ASK, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
    "chat, limit as text": ("POST", "/v1/chat/completions", {**ASK, "max_tokens": "3"}),
    "completion": ("POST", "/v1/completions", {"model": MODEL, "prompt": "hi", "max_tokens": 4, "ignore_eos": True}),
    "completions": ("POST", "/v1/completions", {"model": MODEL, "prompt": ["a", "b"], "max_tokens": 4}),
    "completion of tokens": ("POST", "/v1/completions", {"model": MODEL, "prompt": [5, 6], "max_tokens": 4}),
    "response": ("POST", "/v1/responses", {"model": MODEL, "input": "hi", "max_output_tokens": 4}),
    "message": ("POST", "/v1/messages", {"model": MODEL, "messages": HI, "max_tokens": 4}),
    "count tokens": ("POST", "/v1/messages/count_tokens", {"model": MODEL, "messages": HI}),
    "tokenize": ("POST", "/tokenize", {"model": MODEL, "prompt": "hi there"}),
    "tokenize chat": ("POST", "/tokenize", {"model": MODEL, "messages": HI}),
    "tokenize strings": ("POST", "/tokenize", {"prompt": "hi there", "return_token_strs": True}),
    "tokenize, unknown model": ("POST", "/tokenize", {"model": "nope", "prompt": "hi"}),
    "unknown model": ("POST", "/v1/chat/completions", {**ASK, "model": "nope"}),
    "unknown model, message": ("POST", "/v1/messages", {**ASK, "model": "nope"}),
    "unknown model, response": ("POST", "/v1/responses", {"model": "nope", "input": "hi"}),
    "unknown model, completion": ("POST", "/v1/completions", {"model": "nope", "prompt": "hi"}),
    "messages as text": ("POST", "/v1/chat/completions", {**ASK, "messages": "hi"}),
    "messages of numbers": ("POST", "/v1/chat/completions", {**ASK, "messages": [7]}),
    "content as number": ("POST", "/v1/chat/completions", {**ASK, "messages": [{"role": "user", "content": 9}]}),
    "no messages": ("POST", "/v1/chat/completions", {"model": MODEL}),
    "empty conversation": ("POST", "/v1/chat/completions", {**ASK, "messages": []}),
    "model as number": ("POST", "/v1/chat/completions", {**ASK, "model": 7}),
    "limit as word": ("POST", "/v1/chat/completions", {**ASK, "max_tokens": "x"}),
    "limit of none": ("POST", "/v1/chat/completions", {**ASK, "max_tokens": 0}),
    "limit too high": ("POST", "/v1/chat/completions", {**ASK, "max_tokens": 4000}),
    "temperature": ("POST", "/v1/chat/completions", {**ASK, "temperature": -3}),
    "no choices": ("POST", "/v1/chat/completions", {**ASK, "n": -1}),
    "stream as word": ("POST", "/v1/chat/completions", {**ASK, "stream": "x"}),
    "stream options": ("POST", "/v1/chat/completions", {**ASK, "stream_options": USAGE}),
    "tools as text": ("POST", "/v1/chat/completions", {**ASK, "tools": "x"}),
    "no tools": ("POST", "/v1/chat/completions", {**ASK, "tools": []}),
    "choice without tools": ("POST", "/v1/chat/completions", {**ASK, "tool_choice": "auto"}),
    "long chat": ("POST", "/v1/chat/completions", {**ASK, "messages": [{"role": "user", "content": LONG}]}),
    "long chat, streamed": ("POST", "/v1/chat/completions",
                            {**ASK, "stream": True, "messages": [{"role": "user", "content": LONG}]}),
    "long completion": ("POST", "/v1/completions", {"model": MODEL, "prompt": LONG, "max_tokens": 4}),
    "long response": ("POST", "/v1/responses", {"model": MODEL, "input": LONG, "max_output_tokens": 4}),
    "long message": ("POST", "/v1/messages", {**ASK, "messages": [{"role": "user", "content": LONG}]}),
    "prompt as object": ("POST", "/v1/completions", {"model": MODEL, "prompt": {"a": 1}}),
    "no prompt": ("POST", "/v1/completions", {"model": MODEL}),
    "empty prompt": ("POST", "/v1/completions", {"model": MODEL, "prompt": ""}),
    "input as number": ("POST", "/v1/responses", {"model": MODEL, "input": 7}),
    "no input": ("POST", "/v1/responses", {"model": MODEL}),
    "empty input": ("POST", "/v1/responses", {"model": MODEL, "input": []}),
    "response limit": ("POST", "/v1/responses", {"model": MODEL, "input": "hi", "max_output_tokens": 4000}),
    "message, no limit": ("POST", "/v1/messages", {"model": MODEL, "messages": HI}),
    "message, limit of none": ("POST", "/v1/messages", {**ASK, "max_tokens": 0}),
    "message, limit too high": ("POST", "/v1/messages", {**ASK, "max_tokens": 4000}),
    "message, no model": ("POST", "/v1/messages", {"messages": HI, "max_tokens": 4}),
    "message, temperature": ("POST", "/v1/messages", {**ASK, "temperature": -3}),
    "message, empty": ("POST", "/v1/messages", {**ASK, "messages": []}),
}  # fmt: skip
STREAMS: dict[str, tuple[str, Any]] = {
    "chat": ("/v1/chat/completions", ASK),
    "chat with usage": ("/v1/chat/completions", {**ASK, "stream_options": USAGE}),
    "chat with usage throughout": ("/v1/chat/completions",
                                   {**ASK, "stream_options": {**USAGE, "continuous_usage_stats": True}}),
    "completion": ("/v1/completions", {"model": MODEL, "prompt": "hi", "max_tokens": 6, "ignore_eos": True}),
    "completion with usage": ("/v1/completions", {"model": MODEL, "prompt": "hi", "max_tokens": 6, "ignore_eos": True,
                                                  "stream_options": USAGE}),
    "response": ("/v1/responses", {"model": MODEL, "input": "hi", "max_output_tokens": 6, "ignore_eos": True}),
    "message": ("/v1/messages", {"model": MODEL, "messages": HI, "max_tokens": 6}),
}  # fmt: skip
BROKEN = ["{bad", "[1]", "7"]


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_same_answer(vllm: Engine, simulator: Engine, name: str) -> None:
    expected, found = (answer_of(engine, *QUESTIONS[name]) for engine in (vllm, simulator))
    assert found == expected


@pytest.mark.parametrize("content", BROKEN)
def test_the_same_answer_to_what_is_no_object(vllm: Engine, simulator: Engine, content: str) -> None:
    ask = ("POST", "/v1/chat/completions", None, content)
    expected, found = (answer_of(engine, *ask) for engine in (vllm, simulator))
    assert found == expected


@pytest.mark.parametrize("name", STREAMS)
def test_the_same_stream(vllm: Engine, simulator: Engine, name: str) -> None:
    path, body = STREAMS[name]
    found = stream_of(simulator, path, body)
    # A random model now and then says nothing visible, or all of it in its last token: one of the forms must be it.
    forms = [stream_of(vllm, path, body) for _ in range(12)]
    assert found in forms


def stream_of(engine: Engine, path: str, body: Any) -> list[Any]:
    """The stream's shapes, without what depends on where the last token's text ends."""
    events = answer_of(engine, "POST", path, {**body, "stream": True})["events"]
    for event in events:
        if isinstance(event, list):
            for choice in event[1].get("choices", []):
                if isinstance(choice, dict) and choice.get("finish_reason") == "str":
                    choice.pop("delta", None)
    return list(events)


def test_the_same_embeddings_and_rankings(vllm_pooling: Engine, simulator: Engine) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", {"input": "hi"}),
        ("/v1/embeddings", {"input": ["hi", "you"], "encoding_format": "base64"}),
        ("/v1/embeddings", {"input": [[5, 6], [7]]}),
        ("/v1/embeddings", {"input": []}),
        ("/v1/embeddings", {"input": LONG}),
        ("/v1/rerank", {"query": "hi", "documents": ["a", "b c"]}),
        ("/v2/rerank", {"query": "hi", "documents": ["a", "b c"], "top_n": 1}),
        ("/rerank", {"query": "hi"}),
        ("/rerank", {"query": "hi", "documents": []}),
    ]
    for path, body in asked:
        asking = {"model": MODEL, **body}
        expected, found = (answer_of(engine, "POST", path, asking) for engine in (vllm_pooling, simulator))
        assert found == expected, (path, body)
    # Here vLLM names neither the aliases nor the parameter; a caller sees the same status and kind.
    for path, body in (("/v1/embeddings", {"input": "hi"}), ("/v1/rerank", {"query": "hi", "documents": ["a"]})):
        wrong = [answer_of(engine, "POST", path, {"model": "nope", **body}) for engine in (vllm_pooling, simulator)]
        assert wrong[0]["error"] == wrong[1]["error"]


@pytest.mark.parametrize("stream", [True, False])
def test_both_stop_when_the_client_leaves(vllm: Engine, simulator: Engine, stream: bool) -> None:
    for engine in (vllm, simulator):
        body = {**ASK, "max_tokens": 2000, "stream": stream}
        host, port = engine.url.removeprefix("http://").split(":")
        raw = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), LIMIT) as connection:
            connection.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
            until(lambda engine=engine: engine.running() == 1)
        until(lambda engine=engine: engine.running() == 0)


TOOL_CHOICE = {"type": "function", "function": {"name": "f"}}


def test_the_same_tool_call(vllm_dev: Engine, simulator: Engine) -> None:
    # The template of a small model knows no tools; its answer follows the grammar only when the tool is named.
    asked = {**ASK, "max_tokens": 60, "tools": TOOLS, "tool_choice": TOOL_CHOICE}
    asked.pop("ignore_eos")
    found = answer_of(simulator, "POST", "/v1/chat/completions", asked)
    assert found in [answer_of(vllm_dev, "POST", "/v1/chat/completions", asked) for _ in range(12)]
    streamed = stream_of(simulator, "/v1/chat/completions", asked)
    assert streamed in [stream_of(vllm_dev, "/v1/chat/completions", asked) for _ in range(12)]
    wrong = {**asked, "tool_choice": {"type": "function", "function": {"name": "other"}}}
    first, second = (answer_of(engine, "POST", "/v1/chat/completions", wrong) for engine in (vllm_dev, simulator))
    assert first == second


def sleep_story(engine: Engine) -> list[Any]:
    """What is seen of an engine that is put to sleep and woken, with work in flight and without."""
    client, seen = engine.client, []

    def note(answer: httpx.Response) -> None:
        seen.append((answer.status_code, answer.json() if answer.content else None))

    note(client.get("/is_sleeping"))
    for mode in ("abort", "wait", "keep"):
        for stream in (True, False):
            finished: list[str] = []

            def ask(stream: bool = stream, finished: list[str] = finished) -> None:
                body = {**ASK, "max_tokens": 300, "stream": stream}
                with httpx.Client(base_url=engine.url, timeout=LIMIT) as own:
                    finished.append(own.post("/v1/chat/completions", json=body).text)

            worker = threading.Thread(target=ask)
            worker.start()
            until(lambda: engine.running() == 1)
            note(client.post("/sleep", params={"mode": mode}))
            note(client.get("/is_sleeping"))
            note(client.get("/health"))
            if mode == "keep":
                seen.append(("running while frozen", engine.running()))
            else:
                worker.join(LIMIT)
                seen.append(("ended", not worker.is_alive()))
            note(client.post("/wake_up"))
            worker.join(LIMIT)
            assert not worker.is_alive()
            reasons = [reason for reason in ("abort", "length", "stop") if f'"finish_reason":"{reason}"' in finished[0]]
            seen.append((mode, stream, reasons))
    note(client.post("/sleep"))
    with client.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as answer:
        # The head comes at once, the first token only after the wake-up.
        seen.append((answer.status_code, engine.running()))
        note(client.post("/wake_up", params={"tags": "weights"}))
        note(client.get("/is_sleeping"))
        note(client.post("/wake_up"))
        seen.append(answer.read().decode().splitlines()[-2])
    for path in ("/sleep?level=9", "/sleep?level=x", "/sleep?mode=zap"):
        seen.append((path, client.post(path).status_code))
    note(client.post("/wake_up?tags=zap"))
    note(client.get("/is_sleeping"))
    return seen


def test_both_sleep_in_the_same_way(vllm_dev: Engine, simulator_dev: Engine) -> None:
    assert sleep_story(simulator_dev) == sleep_story(vllm_dev)


def terminated(engine: Engine) -> str:
    """How a stream ends when its engine is told to stop; `hung` when only the client's leaving ended it."""
    last: list[str] = []
    body = {**ASK, "max_tokens": 2000, "stream": True}
    try:
        with engine.client.stream("POST", "/v1/chat/completions", json=body, timeout=8) as answer:
            for line in answer.iter_lines():
                if not last:
                    engine.process.terminate()
                if line:
                    last = [*last[-1:], line]
    except httpx.ReadTimeout:
        return "hung"
    except httpx.RemoteProtocolError:
        return "cut"
    assert last[-1] == "data: [DONE]"
    return "error" if "error" in json.loads(last[0].removeprefix("data: ")) else "finished"


def test_a_stop_in_the_middle_of_a_stream(folder: Path) -> None:
    """vLLM 0.32 is not of one mind: some stops end streams with an error, some with `abort`, some hang. Exit 0."""
    for engine in real(folder / "stopped.log", dev_mode=False, cache=folder):
        assert terminated(engine) in {"error", "finished", "hung", "cut"}
        assert engine.process.wait(LIMIT) == 0
    for engine in simulated(folder / "stopped-simulator.log"):
        assert terminated(engine) == "error"
        assert engine.process.wait(LIMIT) == 0
    for engine in simulated(folder / "hung-simulator.log", "--fault", "hang-on-sigterm"):
        assert terminated(engine) == "hung"
        assert engine.process.wait(LIMIT) == 0


def test_a_crash_of_the_engine_behind_the_api(folder: Path) -> None:
    """Streams end in an error, then /health is bad or the process gone, and the exit code is 0."""

    def crash(engine: Engine, break_it: Callable[[], None]) -> list[Any]:
        body = {**ASK, "max_tokens": 2000, "stream": True}
        with engine.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = (line for line in answer.iter_lines() if line)
            next(lines)
            break_it()
            rest = list(lines)
        code = engine.process.wait(LIMIT)
        return [shape(json.loads(rest[-2].removeprefix("data: "))), rest[-1], code]

    def kill_core(engine: Engine) -> None:
        found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(engine.process.pid)], capture_output=True,
                               text=True, check=True)  # fmt: skip
        [pid] = [line.split()[0] for line in found.stdout.splitlines() if "EngineCore" in line]
        os.kill(int(pid), signal.SIGKILL)

    def crash_simulated(engine: Engine) -> None:
        httpx.put(f"{engine.url}/_simulator/faults", json={"faults": ["exit-zero-on-crash=0.3"]})

    for engine in real(folder / "crashed.log", dev_mode=False, cache=folder):
        expected = crash(engine, lambda engine=engine: kill_core(engine))
    for engine in simulated(folder / "crashed-simulator.log"):
        assert crash(engine, lambda engine=engine: crash_simulated(engine)) == expected

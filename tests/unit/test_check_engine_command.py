"""Finding the engine in a command line, and its options."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from router.check.engine_command import SGLANG, SIMULATOR, VLLM, Kind, find

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("entrypoint", "command", "kind", "first"),
    [
        (None, ["vllm", "serve", "a/b"], VLLM, "a/b"),
        (None, ["serve", "a/b"], VLLM, "a/b"),
        (["/opt/venv/bin/vllm"], ["serve", "a/b"], VLLM, "a/b"),
        (["/mods/run.sh"], ["/usr/bin/vllm", "serve", "a/b"], VLLM, "a/b"),
        ([], ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model=a/b"], VLLM, "--model=a/b"),
        ([], ["python3", "-m", "sglang.launch_server", "--model-path", "a/b"], SGLANG, "--model-path"),
        (None, ["sglang", "serve", "--model-path=a/b"], SGLANG, "--model-path=a/b"),
        ([], ["python", "-m", "router.engine_simulator", "--port=1"], SIMULATOR, "--port=1"),
        (["bash", "-lc"], ["set -e  # at once\nexec vllm serve a/b \\\n  --port 1"], VLLM, "a/b"),
        (["sh", "-e", "-c"], ["vllm serve a/b"], VLLM, "a/b"),
    ],
)
def test_the_engine_is_found_behind_what_wraps_it(
    entrypoint: Sequence[str] | None, command: Sequence[str], kind: Kind, first: str
) -> None:
    found = find(entrypoint, command)
    assert found is not None
    assert (found.kind, found.arguments[0]) == (kind, first)


@pytest.mark.parametrize(
    ("entrypoint", "command"),
    [
        (None, []),
        ([], ["serve", "a/b"]),  # no entrypoint of the image that could be vLLM's
        (None, ["vllm", "bench"]),
        (None, ["python3", "-m", "http.server"]),
        (None, ["bash", "script.sh", "-c", "vllm serve a/b"]),
        (None, ["bash", "-c", "vllm serve 'a/b"]),
        (None, ["python3", "-m"]),
    ],
)
def test_anything_else_is_no_engine(entrypoint: Sequence[str] | None, command: Sequence[str]) -> None:
    assert find(entrypoint, command) is None


def test_options_are_read_in_all_the_ways_they_are_written() -> None:
    found = find(None, [
        "vllm", "serve", "a/b", "--max_model_len=4096", "--served-model-name", "one", "two", "--port", "9", "-tp", "2",
        "--enforce-eager", "--port=10", "--hf-overrides", '{"a": 1}', "--temperature", "-1",
    ])  # fmt: skip
    assert found is not None
    assert found.value("--max-model-len") == "4096"
    assert found.served_names == ("one", "two")
    assert found.port == "10"
    assert found.values("--enforce-eager") == ()
    assert found.value("--temperature") == "-1"
    assert found.names.count("--port") == 2
    assert (found.value(None), found.value("--nothing")) == (None, None)


def test_without_a_name_the_weights_are_the_name_and_the_port_is_the_engines_own() -> None:
    for command, port in ((["vllm", "serve", "a/b"], "8000"), (["sglang", "serve", "--model", "a/b"], "30000")):
        found = find(None, command)
        assert found is not None
        assert (found.model, found.served_names, found.port) == ("a/b", ("a/b",), port)
    bare = find(None, ["vllm", "serve"])
    assert bare is not None
    assert (bare.model, bare.served_names) == (None, ())
